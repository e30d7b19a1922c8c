/**
 * A control plane over a real store in memory, on a virtual clock, with agents played by the test: they register, keep
 * contact and say of their shards what the test tells them to.
 */
import type { Manifest, MctlObject } from '../../src/api/meta.ts'
import { API_VERSION } from '../../src/api/meta.ts'
import type { ModelDeploymentSpec } from '../../src/api/modeldeployment.ts'
import type { LinkMeasurement, LinkOrder } from '../../src/api/links.ts'
import type { NodeStatus } from '../../src/api/node.ts'
import type { ObjectOf } from '../../src/api/objects.ts'
import type { NodeSessions } from '../../src/api/sessions.ts'
import type { Shard, ShardStatus } from '../../src/api/shard.ts'
import type { ModelShape } from '../../src/api/model.ts'
import type { ModelHub } from '../../src/api/modelhub.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { Controller } from '../../src/controllers/controller.ts'
import { worldOf } from '../../src/controllers/world.ts'
import { checkWorld } from '../../src/planner/check.ts'
import { startControllers } from '../../src/controllers/start.ts'
import { createObject, deleteObject, patchObject, updateStatus } from '../../src/store/objects.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'
import { tinyShape } from './cluster.ts'
import { SeededRandom, VirtualClock } from './virtualclock.ts'

/** Sessions as the test says they are: the network is what is faked. */
class PlayedSessions implements NodeSessions {
  readonly #clock: VirtualClock
  readonly #seenMs = new Map<string, number>()
  readonly #listeners = new Set<(node: string) => void>()
  readonly silent = new Set<string>()

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  /** Every node that is not silent is heard of now, and always was. */
  lastSeenMs(node: string): number | undefined {
    if (!this.silent.has(node) && this.#seenMs.has(node)) this.#seenMs.set(node, this.#clock.monotonicMs())
    return this.#seenMs.get(node)
  }

  synced(node: string): boolean {
    return this.#seenMs.has(node)
  }

  headroomBytes(): ReadonlyMap<string, number> {
    return new Map()
  }

  /** What agents find on links, by `from to`; and who was asked. */
  readonly found = new Map<string, LinkMeasurement>()
  readonly asked: string[] = []
  measureLink(node: string, { peer, address }: LinkOrder): Promise<LinkMeasurement> {
    this.asked.push(`${node} ${peer} ${address}`)
    return Promise.resolve(this.found.get(`${node} ${peer}`) ?? { kind: 'NotDone', message: 'nobody said' })
  }

  onChange(listener: (node: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  connect(node: string): void {
    this.silent.delete(node)
    this.#seenMs.set(node, this.#clock.monotonicMs())
    for (const listener of this.#listeners) listener(node)
  }

  silence(node: string): void {
    this.lastSeenMs(node)
    this.silent.add(node)
  }
}

export class ControlPlane {
  readonly clock: VirtualClock
  readonly store: Store
  readonly sessions: PlayedSessions
  readonly #controllers: Controller

  private constructor(clock: VirtualClock, store: Store, hub: ModelHub | undefined) {
    this.clock = clock
    this.store = store
    this.sessions = new PlayedSessions(clock)
    this.#controllers = startControllers({
      store,
      clock,
      sessions: this.sessions,
      random: new SeededRandom(7),
      log: silentLogger,
      gatewayUrl: () => 'http://127.0.0.1:6481',
      ...(hub === undefined ? {} : { hub }),
    })
  }

  /** Without a hub nobody reads what `hf://` models are. */
  static async start(hub?: ModelHub): Promise<ControlPlane> {
    const clock = new VirtualClock()
    const store = await openStore({ dataDir: ':memory:', clock, random: new SeededRandom(1), log: silentLogger })
    return new ControlPlane(clock, store, hub)
  }

  async stop(): Promise<void> {
    await this.#controllers.stop()
    await this.store.close()
  }

  /** Everything that can be done now is done, and what must always be true is. */
  async idle(): Promise<void> {
    await this.#controllers.idle()
    const findings = checkWorld(worldOf(this.store.snapshot(), new Map()))
    if (findings.length > 0) throw new Error(`broken invariants: ${JSON.stringify(findings)}`)
  }

  async addNode(name: string, memory = '16Gi'): Promise<void> {
    await this.create({ apiVersion: API_VERSION, kind: 'Node', metadata: { name }, spec: {} })
    const status: NodeStatus = {
      nodeInfo: { chip: 'Apple M4', gpuCores: 10, osVersion: '15.3' },
      capacity: { memory },
      engines: [{ name: 'fake', version: '1', transports: ['Ring'], pipeline: ['*'], tensor: ['*'] }],
      models: [],
    }
    await this.say(this.get('Node', name), status)
    this.sessions.connect(name)
    await this.idle()
  }

  async addModel(name = 'tiny', shape: ModelShape = tinyShape): Promise<void> {
    await this.create({ apiVersion: API_VERSION, kind: 'Model', metadata: { name }, spec: { shape } })
    await this.idle()
  }

  async deploy(name: string, spec: Partial<Record<keyof ModelDeploymentSpec, unknown>> = {}): Promise<void> {
    const whole = { model: { name: 'tiny' }, engine: { name: 'fake' }, parallelism: { strategy: 'Data' }, ...spec }
    await this.create({ apiVersion: API_VERSION, kind: 'ModelDeployment', metadata: { name }, spec: whole })
    await this.idle()
  }

  async change(name: string, spec: Record<string, unknown>): Promise<void> {
    const key = { kind: 'ModelDeployment', namespace: 'default', name }
    await this.store.transact((tx) => patchObject(tx, key, 'merge', { spec }))
    await this.idle()
  }

  async cordon(node: string, unschedulable: boolean): Promise<void> {
    const key = { kind: 'Node', namespace: '', name: node }
    await this.store.transact((tx) => patchObject(tx, key, 'merge', { spec: { unschedulable } }))
    await this.idle()
  }

  async delete(kind: keyof ObjectOf, name: string, propagation?: 'Foreground' | 'Orphan'): Promise<void> {
    const namespace = kind === 'Node' || kind === 'Model' ? '' : 'default'
    const options = propagation === undefined ? {} : { propagation }
    await this.store.transact((tx) => deleteObject(tx, { kind, namespace, name }, options))
    await this.idle()
  }

  /** What an agent says of itself or of a shard. */
  async say(object: MctlObject | undefined, patch: object): Promise<void> {
    if (object === undefined) throw new Error('there is no such object to speak of')
    await this.store.transact((tx) => updateStatus(tx, object.metadata.uid, patch as Record<string, unknown>))
    await this.idle()
  }

  sayOfShard(name: string, patch: ShardStatus): Promise<void> {
    return this.say(this.get('Shard', name), patch)
  }

  /** Agents of nodes in contact do at once what is wanted, until nothing changes any more. */
  async obey(): Promise<void> {
    for (let round = 0; round < 100; round++) {
      await this.idle()
      const { revision } = this.store.stats()
      for (const shard of this.store.snapshot().list('Shard')) {
        const status = this.sessions.silent.has(shard.spec.nodeName) ? undefined : obedient(shard)
        if (status !== undefined) await this.say(shard, status)
      }
      await this.idle()
      if (this.store.stats().revision === revision) return
    }
    throw new Error('the cluster does not settle')
  }

  get<K extends keyof ObjectOf>(kind: K, name: string): ObjectOf[K] | undefined {
    return this.store.snapshot().get(kind, kind === 'Node' || kind === 'Model' ? '' : 'default', name)
  }

  names(kind: keyof ObjectOf): readonly string[] {
    return this.store
      .snapshot()
      .list(kind)
      .map((o) => o.metadata.name)
  }

  reasons(): readonly string[] {
    return this.store
      .snapshot()
      .list('Event')
      .map((e) => e.reason)
  }

  create(manifest: Manifest): Promise<unknown> {
    return this.store.transact((tx) => createObject(tx, manifest).object)
  }
}

function obedient(shard: Shard): ShardStatus | undefined {
  const { status, spec, metadata } = shard
  const port = 7000 + spec.rank
  if (metadata.deletionTimestamp !== undefined) return status?.phase === 'Stopped' ? undefined : { phase: 'Stopped' }
  if (status?.phase === undefined || status.phase === 'Pending')
    return { phase: 'Prepared', ringAddress: `127.0.0.1:${port}` }
  if (status.phase === 'Prepared' && spec.rendezvous !== null) return { phase: 'Ready', pid: 1000 + spec.rank }
  return undefined
}
