/**
 * A whole cluster in one thread on a virtual clock: the real store, server handlers, controllers, agents and the feed of
 * a gateway; only time, the network, the disk's faults and the engine processes are played. Every part can be killed,
 * stopped and started again.
 */
import { SqliteError } from 'better-sqlite3'
import { Agent } from '../../agent/agent.ts'
import { fixedShelf } from '../../agent/models.ts'
import type { AgentRecord } from '../../agent/record.ts'
import { memoryRecord } from '../../agent/record.ts'
import type { MctlObject } from '../../src/api/meta.ts'
import { API_VERSION } from '../../src/api/meta.ts'
import { planLive } from '../../src/bin/planlive.ts'
import { followRoutes } from '../../src/bin/routefeed.ts'
import type { Controller } from '../../src/controllers/controller.ts'
import { startControllers } from '../../src/controllers/start.ts'
import type { Gitops } from '../../src/gitops/loop.ts'
import { startGitops } from '../../src/gitops/loop.ts'
import type { RoutingTable } from '../../src/gateway/routes.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { Logger } from '../../src/lib/log.ts'
import { memoryClient } from '../../src/rpc/memory.ts'
import type { CallContext, Client, Handlers } from '../../src/rpc/messages.ts'
import type { Network } from '../../src/rpc/network.ts'
import { createNetwork } from '../../src/rpc/network.ts'
import { makeHandlers } from '../../src/server/handlers.ts'
import type { Sessions } from '../../src/server/sessions.ts'
import { createSessions } from '../../src/server/sessions.ts'
import type { CommitPoint } from '../../src/store/sqlite.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'
import { playedReader } from './gitrepo.ts'
import { ProcessClock } from './simclock.ts'
import type { Remains } from './simdisk.ts'
import { SimDisk } from './simdisk.ts'
import { SimHosts } from './simhosts.ts'
import { SimMachine, SimRing } from './simmachine.ts'
import { SeededRandom, VirtualClock } from './virtualclock.ts'

interface RunningAgent {
  readonly agent: Agent
  readonly clock: ProcessClock
  readonly client: Client
}

interface RunningServer {
  readonly handlers: Handlers
  readonly controllers: Controller
  readonly clock: ProcessClock
  readonly sessions: Sessions
  readonly gitops: Gitops | undefined
  readonly store: Store
}

interface RunningGateway {
  readonly clock: ProcessClock
  readonly client: Client
  readonly over: AbortController
}

export interface SimOptions {
  readonly seed: number
  readonly nodes: readonly string[]
  readonly memory?: string
  readonly log?: Logger
  /** Folder of the server's for what Syncs follow; absent: nobody follows them. */
  readonly syncDir?: string
  /** A store in files, opened again at each start of the server, and a gateway that follows it. */
  readonly durable?: boolean
  readonly broken?: BrokenDoor
}

/**
 * A door that does not keep its promise, so that ours cannot be kept: what the simulator must find.
 * `LyingDisk`: what it has flushed is gone after a crash. `ForgetfulHosts`: an agent that starts does not see what runs
 * on its machine. `WrongName`: each agent but the first gets the credential of the machine before it.
 */
export type BrokenDoor = 'LyingDisk' | 'ForgetfulHosts' | 'WrongName'

/** What the server's disk does until it is told otherwise. */
export interface DiskFaults {
  /** Each commit fails for want of room. */
  full?: boolean
  /** The next commit fails, and nobody knows what the disk holds. */
  broken?: boolean
  /** Each commit holds the whole server up for so long. */
  slowMs?: number
}

/** A commit at which the server is killed. */
export interface CrashPoint {
  readonly point: CommitPoint
  /** 1: the next one. */
  commits: number
  readonly remains: Remains
  readonly awayMs: number
}

/** What was killed at a commit point throws this: nobody is there to hear it. */
class Killed extends Error {}

/** A log of the last hour is more than a simulated day holds: a small one meets its end often. */
const durableLog = { keep: { rows: 150, ms: 30_000 }, upkeepMs: 20_000, revisionBlock: 200 }
const GATEWAY = 'gateway'

export class SimCluster {
  readonly clock: VirtualClock
  readonly random: SeededRandom
  readonly network: Network
  readonly ring: SimRing
  readonly machines = new Map<string, SimMachine>()
  readonly diskFaults: DiskFaults = {}
  /** A person at the command line, on a wire without faults. */
  readonly user: Client
  /** The table of the gateway; undefined: it has none yet. */
  routes: RoutingTable | undefined
  crashPoint: CrashPoint | undefined
  /** Chance that a call of an agent reaches the server a second time, later. */
  duplicateChance = 0
  onRoutes: (table: RoutingTable) => void = () => {}
  /** A server has begun with what the last one left; what its store holds may be looked at. */
  onServerStart: (remains: Remains) => void = () => {}
  readonly #options: SimOptions
  readonly #disk: SimDisk | undefined
  readonly #records = new Map<string, AgentRecord>()
  readonly #agents = new Map<string, RunningAgent>()
  readonly #deadStores: Store[] = []
  #store: Store | undefined
  #server: RunningServer | undefined
  #serverWrongByMs = 0
  #remains: Remains = 'Whole'
  #gateway: RunningGateway | undefined
  #stopped = false

  private constructor(options: SimOptions) {
    this.#options = options
    this.clock = new VirtualClock()
    this.random = new SeededRandom(options.seed)
    this.network = createNetwork(this.clock, this.random)
    this.ring = new SimRing(this.clock, this.random)
    this.#disk = options.durable === true ? new SimDisk(this.random, options.broken === 'LyingDisk') : undefined
    this.user = this.person('user')
    options.nodes.forEach((name, i) => {
      this.machines.set(name, new SimMachine(name, this.ring, 1_000 * (i + 1)))
      this.#records.set(name, memoryRecord())
    })
  }

  static async start(options: SimOptions): Promise<SimCluster> {
    const cluster = new SimCluster(options)
    await cluster.startServer()
    for (const name of options.nodes) cluster.startAgent(name)
    if (options.durable === true) cluster.startGateway()
    return cluster
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const name of this.#options.nodes) this.killAgent(name)
    this.killGateway()
    await this.killServer()
    await this.clock.advance(1_000)
    await this.#store?.close()
    await this.#buryStores()
    this.#disk?.remove()
  }

  /** Of the server that runs, or ran last. */
  get store(): Store {
    if (this.#store === undefined) throw new Error('no server has run yet')
    return this.#store
  }

  // ---- the server

  get serverRuns(): boolean {
    return this.#server !== undefined
  }

  /** It runs, and is neither stopped nor waiting for its disk. */
  get serverAnswers(): boolean {
    return this.#server?.clock.isPaused === false
  }

  async startServer(): Promise<void> {
    if (this.#server !== undefined || this.#stopped) return
    const clock = new ProcessClock(this.clock)
    clock.jumpWall(this.#serverWrongByMs)
    const log = this.#options.log ?? silentLogger
    await this.#buryStores()
    if (this.#disk !== undefined || this.#store === undefined) this.#store = await this.#openStore(clock, log)
    const doors = { store: this.#store, clock, random: this.random, log }
    const sessions = createSessions(doors)
    const handlers = makeHandlers({
      ...doors,
      sessions,
      planReport: (request, snapshot) => planLive(request, snapshot, sessions.headroomBytes()),
      serverVersion: 'sim',
      gatewayUrl: () => undefined,
    })
    if (this.#disk !== undefined) this.onServerStart(this.#remains)
    const controllers = startControllers({ ...doors, sessions, gatewayUrl: () => 'http://127.0.0.1:6481' })
    const { syncDir } = this.#options
    const gitops = syncDir === undefined ? undefined : startGitops({ ...doors, reader: playedReader(syncDir, clock) })
    this.#server = { handlers, controllers, clock, sessions, gitops, store: this.#store }
    this.network.serverDown(false)
  }

  #openStore(clock: ProcessClock, log: Logger): Promise<Store> {
    if (this.#disk === undefined) {
      const random = new SeededRandom(this.#options.seed + 1)
      return openStore({ dataDir: ':memory:', clock: this.clock, random, log })
    }
    const { folder } = this.#disk
    const doors = { clock, random: this.random, log }
    return openStore({ dataDir: folder, ...doors, ...durableLog, atPoint: (point) => this.#atPoint(point) })
  }

  /** SIGKILL: its connections break, its loops and timers end; what its disk holds is what the next one finds. */
  async killServer(remains: Remains = 'Whole'): Promise<void> {
    const controllers = this.#endServer(remains)
    // In memory the store lives on, and what the loops had begun comes to its end.
    if (this.#disk === undefined) await controllers
  }

  #endServer(remains: Remains): Promise<void> | undefined {
    const server = this.#server
    if (server === undefined) return undefined
    this.#server = undefined
    this.#disk?.crash(remains, server.clock.nowMs())
    this.#remains = remains
    this.resumeServer()
    this.network.serverDown(true)
    server.clock.die()
    server.sessions.close()
    if (this.#disk !== undefined) this.#deadStores.push(server.store)
    return Promise.all([server.gitops?.stop(), server.controllers.stop()]).then(() => {})
  }

  /** As `killServer`, and again there after a while, as launchd sees to it. */
  crashServer(remains: Remains, awayMs: number): void {
    void this.#endServer(remains)
    this.clock.after(awayMs, () => void this.startServer())
  }

  /** SIGSTOP, or a disk that keeps it waiting. */
  pauseServer(forMs: number): void {
    const server = this.#server
    if (server === undefined) return
    server.clock.pause()
    for (const name of this.#links()) this.network.cut(name, 'server stopped')
    this.clock.after(forMs, () => {
      if (this.#server === server) this.resumeServer()
    })
  }

  resumeServer(): void {
    for (const name of this.#links()) this.network.heal(name, 'server stopped')
    this.#server?.clock.resume()
  }

  jumpServerWall(byMs: number): void {
    this.#serverWrongByMs += byMs
    this.#server?.clock.jumpWall(byMs)
  }

  async backUp(): Promise<void> {
    const disk = this.#disk
    if (disk === undefined || !this.serverAnswers) return
    try {
      await this.store.backup(disk.backupFile)
      disk.backupMade()
    } catch {
      // The server died meanwhile: there is no whole backup of this moment.
    }
  }

  /** Forgets the older part of the log. */
  async compact(share: number): Promise<void> {
    const { revision, compactedRevision } = this.store.stats()
    if (this.serverAnswers)
      await this.store.compact(Math.floor(compactedRevision + share * (revision - compactedRevision)))
  }

  /** Stores of dead servers let go of their files, which nobody looks at any more. */
  async #buryStores(): Promise<void> {
    for (const store of this.#deadStores.splice(0)) await store.close()
  }

  #links(): readonly string[] {
    return ['user', GATEWAY, ...this.#options.nodes]
  }

  #atPoint(point: CommitPoint): void {
    if (this.#server === undefined) return
    const { crashPoint, diskFaults } = this
    if (crashPoint?.point === point && --crashPoint.commits <= 0) {
      this.crashPoint = undefined
      this.crashServer(crashPoint.remains, crashPoint.awayMs)
      throw new Killed(point)
    }
    if (point === 'AfterCommit') {
      if (diskFaults.slowMs !== undefined) this.pauseServer(diskFaults.slowMs)
      return
    }
    if (diskFaults.full === true) throw new SqliteError('database or disk is full', 'SQLITE_FULL')
    if (diskFaults.broken !== true) return
    diskFaults.broken = false
    // The composition root ends a server whose store has failed, and launchd starts the next one.
    void this.store.failed.then(() => this.crashServer('Whole', 1_000))
    throw new SqliteError('disk I/O error', 'SQLITE_IOERR_FSYNC')
  }

  // ---- agents

  agentRuns(name: string): boolean {
    return this.#agents.has(name)
  }

  startAgent(name: string): void {
    const machine = this.#machine(name)
    const record = this.#records.get(name)
    if (record === undefined || this.#agents.has(name) || this.#stopped) return
    const clock = new ProcessClock(machine.clock)
    const nodeName = this.#nameFor(name)
    const client = this.#client(name, { user: `system:node:${nodeName}`, node: nodeName }, clock)
    const hosts = new SimHosts(machine, clock)
    if (this.#options.broken === 'ForgetfulHosts') hosts.forgetAll()
    const memoryBytes = parseBytes(this.#options.memory ?? '16Gi')
    const agent = new Agent(
      {
        client,
        hosts,
        models: fixedShelf([]),
        observe: () =>
          Promise.resolve({
            chip: 'Apple M4',
            gpuCores: 10,
            memoryBytes,
            osVersion: '15.3',
            bootId: machine.bootId,
            ...(machine.pressure === undefined && machine.reading === undefined ? { simulated: true } : {}),
            ...(machine.pressure === undefined ? {} : { pressure: machine.pressure }),
            ...machine.reading,
          }),
        probeEngines: () =>
          Promise.resolve({
            engines: [{ name: 'fake', version: '1', transports: ['Ring'], pipeline: ['*'], tensor: ['*'] }],
            missing: [],
          }),
        record,
        clock,
        random: this.random,
        log: (this.#options.log ?? silentLogger).with({ node: name }),
      },
      { nodeName, agentVersion: 'sim' },
    )
    this.#agents.set(name, { agent, clock, client })
    // An agent that ends by itself is started again, as launchd does.
    void agent.run().then(() => {
      if (this.#agents.get(name)?.agent !== agent) return
      this.killAgent(name)
      this.clock.after(10_000, () => this.startAgent(name))
    })
  }

  #nameFor(name: string): string {
    const { nodes, broken } = this.#options
    return (broken === 'WrongName' ? nodes[nodes.indexOf(name) - 1] : undefined) ?? name
  }

  /** SIGKILL: it says and does nothing more; its machine's processes live on. */
  killAgent(name: string): void {
    const running = this.#agents.get(name)
    if (running === undefined) return
    this.#agents.delete(name)
    this.network.heal(name, 'agent stopped')
    running.clock.die()
    running.client.close()
    void running.agent.stop({ shards: 'leave' })
  }

  /** SIGSTOP, and SIGCONT after a while. */
  pauseAgent(name: string, forMs: number): void {
    const running = this.#agents.get(name)
    if (running === undefined) return
    running.clock.pause()
    this.network.cut(name, 'agent stopped')
    this.clock.after(forMs, () => {
      if (this.#agents.get(name) === running) this.resumeAgent(name)
    })
  }

  resumeAgent(name: string): void {
    this.network.heal(name, 'agent stopped')
    this.#agents.get(name)?.clock.resume()
  }

  // ---- machines

  /** The whole machine sleeps: its agent, its engines and its network. */
  sleep(name: string, forMs: number): void {
    const machine = this.#machine(name)
    machine.clock.pause()
    this.network.cut(name, 'asleep')
    this.clock.after(forMs, () => this.wake(name))
  }

  wake(name: string): void {
    this.network.heal(name, 'asleep')
    this.#machine(name).clock.resume()
  }

  reboot(name: string, awayMs: number): void {
    this.killAgent(name)
    this.#machine(name).reboot()
    this.network.heal(name, 'asleep')
    this.clock.after(awayMs, () => this.startAgent(name))
  }

  #machine(name: string): SimMachine {
    const machine = this.machines.get(name)
    if (machine === undefined) throw new Error(`no machine ${name}`)
    return machine
  }

  // ---- the gateway

  startGateway(): void {
    if (this.#gateway !== undefined || this.#stopped) return
    const clock = new ProcessClock(this.clock)
    const client = this.#client(GATEWAY, { user: 'system:gateway' }, clock)
    const over = new AbortController()
    this.#gateway = { clock, client, over }
    void followRoutes({
      client,
      clock,
      random: this.random,
      log: silentLogger,
      signal: over.signal,
      withKeys: false,
      onKeys: () => {},
      onCluster: () => {},
      onTable: (table) => {
        if (over.signal.aborted) return
        this.routes = table
        this.onRoutes(table)
      },
    })
  }

  killGateway(): void {
    this.#gateway?.over.abort()
    this.#gateway?.clock.die()
    this.#gateway?.client.close()
    this.#gateway = undefined
    this.routes = undefined
  }

  // ---- what a person does

  /** A client of a person's own: closing it breaks nobody else's calls. */
  person(user: string, link = 'user'): Client {
    return this.#client(link, { user })
  }

  /** The object as the server has stored it. */
  async apply(kind: string, name: string, spec: object): Promise<MctlObject> {
    const object = { apiVersion: API_VERSION, kind, metadata: { name }, spec }
    const apply = () => this.user.apply({ object, force: true, options: { fieldManager: 'user' } })
    return (await this.whileServerRuns(apply)).object
  }

  scale(name: string, replicas: number): Promise<MctlObject> {
    return this.patchDeployment(name, { replicas })
  }

  async patchDeployment(name: string, spec: object): Promise<MctlObject> {
    const ref = { kind: 'ModelDeployment', namespace: 'default', name } as const
    return (await this.whileServerRuns(() => this.user.patch({ ref, type: 'merge', patch: { spec } }))).object
  }

  async delete(kind: 'ModelDeployment' | 'Node', name: string): Promise<void> {
    const ref = { kind, namespace: kind === 'Node' ? '' : 'default', name }
    await this.whileServerRuns(() => this.user.delete({ ref }))
  }

  cordon(name: string, unschedulable: boolean): Promise<void> {
    return this.#patchNode(name, unschedulable ? { unschedulable } : { unschedulable, drain: null })
  }

  drain(name: string, force: boolean): Promise<void> {
    return this.#patchNode(name, { unschedulable: true, drain: { force } })
  }

  async #patchNode(name: string, spec: object): Promise<void> {
    const ref = { kind: 'Node', namespace: '', name } as const
    await this.whileServerRuns(() => this.user.patch({ ref, type: 'merge', patch: { spec } }))
  }

  /** Runs a call while time goes on. */
  async whileServerRuns<T>(run: () => Promise<T>): Promise<T> {
    let isOver = false
    const call = run().finally(() => (isOver = true))
    call.catch(() => {})
    await this.clock.advanceUntil(() => isOver, 60_000, 'an answer of the server', 10)
    return call
  }

  /** The handlers of whatever server runs when the call is made. */
  #client(link: string, identity: { user: string; node?: string }, clock: Clock = this.clock): Client {
    const now = (): Handlers => {
      if (this.#server === undefined) throw new Error('bug: the network lets calls through to a dead server')
      return this.#server.handlers
    }
    const door = new Proxy({} as Handlers, {
      get:
        (_, call: keyof Handlers) =>
        (...args: unknown[]) => {
          const handlers = now()
          this.#mayRepeat(call, args)
          return (handlers[call] as (...args: unknown[]) => unknown).apply(handlers, args)
        },
    })
    return memoryClient(door, { identity, clock, fault: this.network.link(link) })
  }

  /** A call that was given up may still be on its way: an agent's write arrives a second time, whatever came since. */
  #mayRepeat(call: keyof Handlers, [request, context]: unknown[]): void {
    if (call !== 'updateStatus' || this.duplicateChance === 0 || this.random.next() >= this.duplicateChance) return
    const { identity } = context as CallContext
    this.clock.after(5_000 * this.random.next(), () => {
      const again = { identity, signal: new AbortController().signal }
      void this.#server?.handlers
        .updateStatus(request as Parameters<Handlers['updateStatus']>[0], again)
        .catch(() => {})
    })
  }
}
