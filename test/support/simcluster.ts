/**
 * A whole cluster in one thread on a virtual clock: the real store, server handlers, controllers and agents; only time,
 * the network and the engine processes are played. Every part can be killed and started again.
 */
import { Agent } from '../../agent/agent.ts'
import { fixedShelf } from '../../agent/models.ts'
import type { AgentRecord } from '../../agent/record.ts'
import { memoryRecord } from '../../agent/record.ts'
import { API_VERSION } from '../../src/api/meta.ts'
import { planLive } from '../../src/bin/planlive.ts'
import type { Clock, Timer } from '../../src/lib/clock.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { Logger } from '../../src/lib/log.ts'
import type { Controller } from '../../src/controllers/controller.ts'
import { startControllers } from '../../src/controllers/start.ts'
import type { Gitops } from '../../src/gitops/loop.ts'
import { startGitops } from '../../src/gitops/loop.ts'
import { memoryClient } from '../../src/rpc/memory.ts'
import type { Client, Handlers } from '../../src/rpc/messages.ts'
import type { Network } from '../../src/rpc/network.ts'
import { createNetwork } from '../../src/rpc/network.ts'
import { makeHandlers } from '../../src/server/handlers.ts'
import type { Sessions } from '../../src/server/sessions.ts'
import { createSessions } from '../../src/server/sessions.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'
import { playedReader } from './gitrepo.ts'
import { SimMachine, SimRing } from './simhosts.ts'
import { SeededRandom, VirtualClock } from './virtualclock.ts'

/** A clock that can die: what a killed process had planned never happens. */
class MortalClock implements Clock {
  readonly #clock: Clock
  readonly #timers = new Set<Timer>()
  #dead = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  nowMs(): number {
    return this.#clock.nowMs()
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs()
  }

  after(delayMs: number, run: () => void): Timer {
    if (this.#dead) return { cancel: () => {} }
    const timer = this.#clock.after(delayMs, () => {
      this.#timers.delete(timer)
      run()
    })
    this.#timers.add(timer)
    return timer
  }

  die(): void {
    this.#dead = true
    for (const timer of this.#timers) timer.cancel()
  }
}

interface RunningAgent {
  readonly agent: Agent
  readonly clock: MortalClock
  readonly client: Client
  readonly ended: Promise<unknown>
}

interface RunningServer {
  readonly handlers: Handlers
  readonly controllers: Controller
  readonly clock: MortalClock
  readonly sessions: Sessions
  readonly gitops: Gitops | undefined
}

export interface SimOptions {
  readonly seed: number
  readonly nodes: readonly string[]
  readonly memory?: string
  readonly log?: Logger
  /** Folder of the server's for what Syncs follow; absent: nobody follows them. */
  readonly syncDir?: string
}

export class SimCluster {
  readonly clock = new VirtualClock()
  readonly random: SeededRandom
  readonly network: Network
  readonly ring: SimRing
  readonly machines = new Map<string, SimMachine>()
  readonly store: Store
  /** A person at the command line, on a wire without faults. */
  readonly user: Client
  readonly #options: SimOptions
  readonly #records = new Map<string, AgentRecord>()
  readonly #agents = new Map<string, RunningAgent>()
  #server: RunningServer | undefined

  private constructor(options: SimOptions, clock: VirtualClock, store: Store) {
    this.#options = options
    this.clock = clock
    this.store = store
    this.random = new SeededRandom(options.seed)
    this.network = createNetwork(clock, this.random)
    this.ring = new SimRing(clock, this.random)
    this.user = this.person('user')
    options.nodes.forEach((name, i) => {
      this.machines.set(name, new SimMachine(name, this.ring, 1_000 * (i + 1)))
      this.#records.set(name, memoryRecord())
    })
  }

  static async start(options: SimOptions): Promise<SimCluster> {
    const clock = new VirtualClock()
    const random = new SeededRandom(options.seed + 1)
    const store = await openStore({ dataDir: ':memory:', clock, random, log: silentLogger })
    const cluster = new SimCluster(options, clock, store)
    cluster.startServer()
    for (const name of options.nodes) cluster.startAgent(name)
    return cluster
  }

  async stop(): Promise<void> {
    for (const name of this.#options.nodes) this.killAgent(name)
    await this.killServer()
    await this.clock.advance(1_000)
    await this.store.close()
  }

  // ---- the server

  get serverRuns(): boolean {
    return this.#server !== undefined
  }

  startServer(): void {
    if (this.#server !== undefined) return
    const clock = new MortalClock(this.clock)
    const doors = { store: this.store, clock, random: this.random, log: this.#options.log ?? silentLogger }
    const sessions = createSessions(doors)
    const handlers = makeHandlers({
      ...doors,
      sessions,
      planReport: (request, snapshot) => planLive(request, snapshot, sessions.headroomBytes()),
      serverVersion: 'sim',
      gatewayUrl: () => undefined,
    })
    const controllers = startControllers({ ...doors, sessions, gatewayUrl: () => 'http://127.0.0.1:6481' })
    const { syncDir } = this.#options
    const gitops = syncDir === undefined ? undefined : startGitops({ ...doors, reader: playedReader(syncDir, clock) })
    this.#server = { handlers, controllers, clock, sessions, gitops }
    this.network.serverDown(false)
  }

  /** Its connections break, its loops and timers end; what the store acknowledged stays. */
  async killServer(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    this.network.serverDown(true)
    server.clock.die()
    server.sessions.close()
    await server.gitops?.stop()
    await server.controllers.stop()
  }

  // ---- agents

  agentRuns(name: string): boolean {
    return this.#agents.has(name)
  }

  startAgent(name: string): void {
    const machine = this.machines.get(name)
    const record = this.#records.get(name)
    if (machine === undefined || record === undefined) throw new Error(`no machine ${name}`)
    if (this.#agents.has(name)) return
    const clock = new MortalClock(this.clock)
    const client = this.#client(name, { user: `system:node:${name}`, node: name })
    const memoryBytes = parseBytes(this.#options.memory ?? '16Gi')
    const agent = new Agent(
      {
        client,
        hosts: machine.hosts(),
        models: fixedShelf([]),
        observe: () =>
          Promise.resolve({
            chip: 'Apple M4',
            gpuCores: 10,
            memoryBytes,
            osVersion: '15.3',
            bootId: 'boot',
            ...(machine.pressure === undefined ? { simulated: true } : { pressure: machine.pressure }),
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
      { nodeName: name, agentVersion: 'sim' },
    )
    this.#agents.set(name, { agent, clock, client, ended: agent.run() })
  }

  /** SIGKILL: it says and does nothing more; its machine's processes live on. */
  killAgent(name: string): void {
    const running = this.#agents.get(name)
    if (running === undefined) return
    this.#agents.delete(name)
    running.clock.die()
    running.client.close()
    void running.agent.stop({ shards: 'leave' })
  }

  // ---- what a person does

  /** A client of a person's own: closing it breaks nobody else's calls. */
  person(user: string): Client {
    return this.#client('user', { user })
  }

  async apply(kind: string, name: string, spec: object): Promise<void> {
    const object = { apiVersion: API_VERSION, kind, metadata: { name }, spec }
    await this.#whileServerRuns(() => this.user.apply({ object, force: true, options: { fieldManager: 'user' } }))
  }

  async scale(name: string, replicas: number): Promise<void> {
    const ref = { kind: 'ModelDeployment', namespace: 'default', name } as const
    await this.#whileServerRuns(() => this.user.patch({ ref, type: 'merge', patch: { spec: { replicas } } }))
  }

  async delete(kind: 'ModelDeployment', name: string): Promise<void> {
    await this.#whileServerRuns(() => this.user.delete({ ref: { kind, namespace: 'default', name } }))
  }

  async #whileServerRuns(run: () => Promise<unknown>): Promise<void> {
    let outcome: { error?: Error } | undefined
    void run().then(
      () => (outcome = {}),
      (error: Error) => (outcome = { error }),
    )
    await this.clock.advanceUntil(() => outcome !== undefined, 60_000, 'an answer of the server', 10)
    if (outcome?.error !== undefined) throw outcome.error
  }

  /** The handlers of whatever server runs when the call is made. */
  #client(link: string, identity: { user: string; node?: string }): Client {
    const now = (): Handlers => {
      if (this.#server === undefined) throw new Error('bug: the network lets calls through to a dead server')
      return this.#server.handlers
    }
    const door = new Proxy({} as Handlers, {
      get:
        (_, call: keyof Handlers) =>
        (...args: unknown[]) => {
          const handlers = now()
          return (handlers[call] as (...args: unknown[]) => unknown).apply(handlers, args)
        },
    })
    return memoryClient(door, { identity, clock: this.clock, fault: this.network.link(link) })
  }
}
