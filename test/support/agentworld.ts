/** Builders of an agent's world: wanted shards, local ones, and an in-memory `Hosts` that is told what its engines do. */
import type { Shard, ShardSpec, ShardStatus } from '../../src/api/shard.ts'
import { shardName } from '../../src/api/shard.ts'
import type { Hosts, LocalShard, LogOptions, PreparedShard } from '../../agent/hosts.ts'
import type { LogLine } from '../../agent/shardhost/stamps.ts'
import type { HostState } from '../../agent/shardhost/protocol.ts'
import { OpError } from '../../src/lib/errors.ts'

export const CLUSTER = 'cluster-1'

export interface ShardSketch {
  readonly group?: string
  readonly epoch?: number
  readonly rank?: number
  readonly uid?: string
  readonly startByMs?: number
  readonly deleted?: boolean
  readonly annotations?: Readonly<Record<string, string>>
  readonly status?: ShardStatus
  readonly source?: string
  readonly digest?: string
  /** With a revision: what the node may fetch. */
  readonly files?: ShardSpec['model']['files']
  readonly revision?: string
  readonly nodeName?: string
  readonly namespace?: string
}

export function wantedShard(sketch: ShardSketch = {}): Shard {
  const {
    group = 'chat-0',
    epoch = 1,
    rank = 0,
    startByMs,
    source,
    digest,
    files,
    revision,
    annotations,
    status,
  } = sketch
  const name = shardName(group, epoch, rank)
  return {
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'Shard',
    metadata: {
      name,
      namespace: sketch.namespace ?? 'default',
      uid: sketch.uid ?? `uid-${name}`,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...(sketch.deleted === true ? { deletionTimestamp: '2026-01-01T00:01:00Z' } : {}),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      nodeName: sketch.nodeName ?? 'mini-1',
      deployment: 'chat',
      group,
      epoch,
      revision: 1,
      rank,
      worldSize: 1,
      strategy: 'Single',
      transport: 'Ring',
      stage: [0, 4],
      split: [],
      engine: { name: 'fake', args: [] },
      model: {
        layers: 4,
        vocabSize: 100,
        ...(source === undefined ? {} : { source }),
        ...(digest === undefined ? {} : { digest }),
        ...(revision === undefined ? {} : { revision }),
        ...(files === undefined ? {} : { files }),
      },
      serving: { servedName: 'chat', contextTokens: 128, concurrency: 1, maxOutputTokens: 128 },
      memoryBytes: 1000,
      parts: { weights: 1000, kv: 0, runtime: 0 },
      rendezvous: startByMs === undefined ? null : { startByMs, hosts: [['127.0.0.1:7000']] },
    },
    ...(status === undefined ? {} : { status }),
  }
}

export const preparedPorts: PreparedShard = {
  address: '127.0.0.1',
  port: 7001,
  enginePort: 7002,
  ringAddress: '127.0.0.1:7000',
}

export function hostState(uid: string, changes: Partial<HostState> = {}): HostState {
  return { shardUid: uid, hostPid: 10, hostStartTime: 't', phase: 'Ready', lastLogLines: [], enginePid: 11, ...changes }
}

/** The local side of a wanted shard: prepared, or with a host in `phase`. */
export function localShard(shard: Shard, phase?: HostState['phase'], changes: Partial<LocalShard> = {}): LocalShard {
  const { uid, name } = shard.metadata
  return {
    shardUid: uid,
    shardName: name,
    clusterUid: CLUSTER,
    prepared: preparedPorts,
    ...(phase === undefined ? {} : { state: hostState(uid, { phase }) }),
    ...changes,
  }
}

/** Hosts in memory. Engines do only what a test tells them with `become`. */
export class MemoryHosts implements Hosts {
  readonly calls: string[] = []
  readonly logs = new Map<string, string[]>()
  /** Set to make the next prepare or start of a shard fail. */
  readonly failing = new Map<string, OpError>()
  readonly #locals = new Map<string, LocalShard>()
  readonly #listeners = new Set<(uid: string) => void>()
  closed = false

  adopt(local: LocalShard): void {
    this.#locals.set(local.shardUid, local)
  }

  become(uid: string, changes: Partial<HostState>, lost?: boolean): void {
    const local = this.#locals.get(uid)
    if (local === undefined) throw new Error(`no local shard ${uid}`)
    const state = { ...(local.state ?? hostState(uid)), ...changes }
    this.#locals.set(uid, { ...local, state, ...(lost === undefined ? {} : { lost }) })
    this.#tell(uid)
  }

  recover(): Promise<void> {
    this.calls.push('recover')
    return Promise.resolve()
  }

  list(): readonly LocalShard[] {
    return [...this.#locals.values()]
  }

  async prepare(shard: Shard, clusterUid: string): Promise<PreparedShard> {
    const { uid, name } = shard.metadata
    this.#call(`prepare ${name}`, name)
    this.#locals.set(uid, { ...localShard(shard), clusterUid })
    this.#tell(uid)
    return Promise.resolve(preparedPorts)
  }

  async start(shard: Shard): Promise<void> {
    const { uid, name } = shard.metadata
    this.#call(`start ${name}`, name)
    this.become(uid, { phase: 'Starting' })
    return Promise.resolve()
  }

  stop(uid: string, graceMs: number, reason: string, drainMs = 0): void {
    this.calls.push(`stop ${this.#locals.get(uid)?.shardName} ${reason} ${drainMs}+${graceMs}`)
    this.become(uid, { phase: 'Stopping' })
  }

  forget(uid: string): Promise<void> {
    this.calls.push(`forget ${this.#locals.get(uid)?.shardName}`)
    this.#locals.delete(uid)
    this.#tell(uid)
    return Promise.resolve()
  }

  onChange(listener: (uid: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async *readLog(_uid: string, name: string, { sinceMs = 0 }: LogOptions): AsyncGenerator<LogLine> {
    const lines = this.logs.get(name)
    if (lines === undefined) throw new OpError('NotFound', `no log of ${name}`)
    // The n-th line is n seconds old.
    yield* lines.map((text, n) => ({ text, atMs: n * 1_000 })).filter(({ atMs }) => atMs >= sinceMs)
    await Promise.resolve()
  }

  close(): void {
    this.closed = true
  }

  #call(call: string, name: string): void {
    this.calls.push(call)
    const error = this.failing.get(name)
    if (error !== undefined) throw error
  }

  #tell(uid: string): void {
    for (const listener of this.#listeners) listener(uid)
  }
}
