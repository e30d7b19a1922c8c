/**
 * Machines and their engine processes, in memory, for the simulator: what the shardhosts are to a real agent. Processes
 * outlive agents; engines of a gang meet as a ring does (15 s window, neighbours of a dead rank fail), and can be told
 * to crash, to hang and to be slow.
 */
import type { Hosts, LocalShard, PreparedShard } from '../../agent/hosts.ts'
import type { Pressure } from '../../agent/observe/facts.ts'
import type { HostState } from '../../agent/shardhost/protocol.ts'
import type { Shard, ShardExit } from '../../src/api/shard.ts'
import type { Clock, Timer } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { SeededRandom } from './virtualclock.ts'

const RING_WINDOW_MS = 15_000
const STARTUP_DEADLINE_MS = 120_000

/** One engine process with its host. */
export interface SimProcess {
  readonly shard: Shard
  readonly machine: SimMachine
  state: HostState
  hung: boolean
  timers: Timer[]
}

/** All engine processes of all machines: where a gang's ranks find each other. */
export class SimRing {
  readonly #gangs = new Map<string, Set<SimProcess>>()
  readonly clock: Clock
  readonly random: SeededRandom
  /** Factor on load times, and chance that a starting engine hangs; set by the test. */
  slowness = 1
  hangChance = 0
  /** Called at the start of each process, the most dangerous moment of a machine. */
  onStart: (machine: SimMachine) => void = () => {}

  constructor(clock: Clock, random: SeededRandom) {
    this.clock = clock
    this.random = random
  }

  gangOf(process: SimProcess): Set<SimProcess> {
    const key = JSON.stringify(process.shard.spec.rendezvous?.hosts)
    const gang = this.#gangs.get(key) ?? new Set()
    this.#gangs.set(key, gang)
    return gang
  }
}

interface Handle {
  readonly shard: Shard
  readonly clusterUid: string
  readonly prepared: PreparedShard
  process?: SimProcess
}

export class SimMachine {
  readonly name: string
  /** What its system says of memory; undefined: a laboratory machine, which says nothing. */
  pressure: Pressure | undefined
  readonly #ring: SimRing
  readonly #handles = new Map<string, Handle>()
  readonly #listeners = new Set<(uid: string) => void>()
  /** Engine logs by shard name: they outlive their shards. */
  readonly #logs = new Map<string, SimLog>()
  #nextPid: number
  #nextPort = 20_000

  constructor(name: string, ring: SimRing, firstPid: number) {
    this.name = name
    this.#ring = ring
    this.#nextPid = firstPid
  }

  /** The door of one agent: `close` ends it and leaves the processes running. */
  hosts(): Hosts {
    return new SimHosts(this)
  }

  /** Processes that live. */
  processes(): readonly SimProcess[] {
    return [...this.#handles.values()].flatMap((h) =>
      h.process !== undefined && isAlive(h.process) ? [h.process] : [],
    )
  }

  list(): readonly LocalShard[] {
    return [...this.#handles.values()].map(({ shard, clusterUid, prepared, process }) => ({
      shardUid: shard.metadata.uid,
      shardName: shard.metadata.name,
      clusterUid,
      prepared,
      ...(process === undefined ? {} : { started: true, state: process.state }),
    }))
  }

  prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): PreparedShard {
    const { uid } = shard.metadata
    const known = this.#handles.get(uid)
    if (known !== undefined) return known.prepared
    const port = this.#nextPort
    this.#nextPort += 3
    const prepared = {
      address: '127.0.0.1',
      port,
      enginePort: port + 1,
      ringAddress: `${this.name}:${port + 2}`,
      ...(modelDir === undefined ? {} : { modelDir }),
    }
    this.#handles.set(uid, { shard, clusterUid, prepared })
    this.#tell(uid)
    return prepared
  }

  start(shard: Shard): void {
    const { uid } = shard.metadata
    const handle = this.#handles.get(uid)
    if (handle === undefined) throw new OpError('NotFound', `start ${shard.metadata.name}: it is not prepared`)
    if (handle.process !== undefined) return
    const [hostPid, enginePid] = [this.#nextPid++, this.#nextPid++]
    const state: HostState = {
      shardUid: uid,
      hostPid,
      hostStartTime: String(hostPid),
      enginePid,
      engineStartTime: String(enginePid),
      phase: 'Starting',
      lastLogLines: [],
    }
    const process: SimProcess = { shard, machine: this, state, hung: false, timers: [] }
    handle.process = process
    this.#logs.set(shard.metadata.name, new SimLog(uid))
    const { rank, worldSize, stage } = shard.spec
    this.#write(process, `rank ${rank} of ${worldSize} starts, layers ${stage[0]} to ${stage[1]}`)
    this.#ring.onStart(this)
    this.#tell(uid)
    this.#join(process)
  }

  stop(uid: string, graceMs: number, reason: string, drainMs: number): void {
    const process = this.#handles.get(uid)?.process
    if (process === undefined || !isAlive(process)) return
    const { clock } = this.#ring
    if (process.state.phase !== 'Stopping') this.#become(process, { phase: 'Stopping' })
    // Requests in flight take a moment of the drain; a hung engine is killed when its grace is over.
    const endsAfterMs = process.hung ? drainMs + graceMs : drainMs * 0.3 * this.#ring.random.next() + 200
    const exit = { reason: 'Stopped', message: `stopped: ${reason}` }
    process.timers.push(clock.after(endsAfterMs, () => this.#end(process, exit)))
  }

  forget(uid: string): void {
    const process = this.#handles.get(uid)?.process
    if (process !== undefined && isAlive(process)) throw new Error(`bug: forgets the living process of ${uid}`)
    if (this.#handles.delete(uid)) this.#tell(uid)
  }

  /** SIGKILL of an engine from outside. */
  kill(process: SimProcess): void {
    const message = 'the engine was killed by SIGKILL'
    this.#end(process, { reason: 'EngineCrashed', signal: 'SIGKILL', message })
  }

  log(uid: string, name: string): SimLog | undefined {
    const log = this.#logs.get(name)
    return uid === '' || log?.shardUid === uid ? log : undefined
  }

  onChange(listener: (uid: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The rendezvous: every rank within the window, or those that came give up. Then loading, then readiness. */
  #join(process: SimProcess): void {
    const { clock, random, hangChance } = this.#ring
    const gang = this.#ring.gangOf(process)
    gang.add(process)
    if (random.next() < hangChance) {
      process.hung = true
      this.#startDeadline(process)
      return
    }
    const { worldSize } = process.shard.spec
    if ([...gang].filter(isAlive).length < worldSize) {
      const lonely = () => this.#end(process, { reason: 'EngineExited', code: 1, message: '[ring] Couldn’t connect' })
      process.timers.push(clock.after(RING_WINDOW_MS, lonely))
      return
    }
    for (const rank of gang) rank.machine.#load(rank)
  }

  #load(process: SimProcess): void {
    if (process.hung || !isAlive(process) || process.state.phase === 'Stopping') return
    const { clock, random, slowness } = this.#ring
    for (const timer of process.timers.splice(0)) timer.cancel()
    this.#startDeadline(process)
    this.#become(process, { phase: 'Loading' })
    const loadMs = (500 + 2_000 * random.next()) * slowness
    process.timers.push(clock.after(loadMs, () => this.#ready(process)))
  }

  #ready(process: SimProcess): void {
    if (process.state.phase !== 'Loading') return
    for (const timer of process.timers.splice(0)) timer.cancel()
    this.#write(process, `rank ${process.shard.spec.rank} is ready`)
    this.#become(process, { phase: 'Ready' })
  }

  #startDeadline(process: SimProcess): void {
    const late = () => this.#end(process, { reason: 'StartDeadline', message: 'the engine was not ready in time' })
    process.timers.push(this.#ring.clock.after(STARTUP_DEADLINE_MS, late))
  }

  #end(process: SimProcess, exit: Omit<ShardExit, 'atMs'>): void {
    if (!isAlive(process)) return
    const { clock } = this.#ring
    for (const timer of process.timers.splice(0)) timer.cancel()
    const gang = this.#ring.gangOf(process)
    gang.delete(process)
    if (exit.code !== undefined) this.#write(process, exit.message)
    this.#become(process, { phase: 'Exited', exit: { ...exit, atMs: clock.nowMs() } })
    for (const peer of gang) peer.machine.#losePeer(peer)
  }

  /** mlx ≥ 0.32.1: neighbours fail within ms; one that hangs notices nothing. */
  #losePeer(process: SimProcess): void {
    if (process.hung || process.state.phase === 'Stopping') return
    const exit = { reason: 'EngineExited', code: 1, message: '[ring] connection to a peer was lost' }
    process.timers.push(this.#ring.clock.after(20, () => this.#end(process, exit)))
  }

  /** As a shardhost does: into the log, and the last lines into the state that is told next. */
  #write(process: SimProcess, line: string): void {
    this.#logs.get(process.shard.metadata.name)?.write(line)
    process.state = { ...process.state, lastLogLines: [...process.state.lastLogLines, line].slice(-10) }
  }

  #become(process: SimProcess, changes: Partial<HostState>): void {
    if (changes.phase === 'Exited') this.#logs.get(process.shard.metadata.name)?.end()
    process.state = { ...process.state, ...changes }
    this.#tell(process.shard.metadata.uid)
  }

  #tell(uid: string): void {
    for (const listener of [...this.#listeners]) listener(uid)
  }
}

/** What one engine wrote. */
class SimLog {
  readonly shardUid: string
  readonly lines: string[] = []
  ended = false
  #wakes: (() => void)[] = []

  constructor(shardUid: string) {
    this.shardUid = shardUid
  }

  write(line: string): void {
    this.lines.push(line)
    this.#wake()
  }

  end(): void {
    this.ended = true
    this.#wake()
  }

  /** Resolves at the next line, the end, or when the signal aborts. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#wakes.push(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }
}

export const isAlive = (process: SimProcess): boolean => process.state.phase !== 'Exited'

/** One agent's view of its machine. After `close` it neither hears nor does anything: its agent is dead. */
class SimHosts implements Hosts {
  readonly #machine: SimMachine
  readonly #offs: (() => void)[] = []
  #closed = false

  constructor(machine: SimMachine) {
    this.#machine = machine
  }

  recover(): Promise<void> {
    return Promise.resolve()
  }

  list(): readonly LocalShard[] {
    return this.#machine.list()
  }

  async prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard> {
    await Promise.resolve()
    this.#mustLive()
    return this.#machine.prepare(shard, clusterUid, modelDir)
  }

  async start(shard: Shard): Promise<void> {
    await Promise.resolve()
    this.#mustLive()
    this.#machine.start(shard)
  }

  stop(uid: string, graceMs: number, reason: string, drainMs = 0): void {
    if (!this.#closed) this.#machine.stop(uid, graceMs, reason, drainMs)
  }

  async forget(uid: string): Promise<void> {
    await Promise.resolve()
    if (!this.#closed) this.#machine.forget(uid)
  }

  onChange(listener: (uid: string) => void): () => void {
    const off = this.#machine.onChange((uid) => {
      if (!this.#closed) listener(uid)
    })
    this.#offs.push(off)
    return off
  }

  async *readLog(
    uid: string,
    name: string,
    { tail, follow, signal }: { tail?: number; follow: boolean; signal: AbortSignal },
  ): AsyncGenerator<string> {
    const log = this.#machine.log(uid, name)
    if (log === undefined) throw new OpError('NotFound', `node ${this.#machine.name} has no log of shard ${name}`)
    let next = tail === undefined ? 0 : Math.max(0, log.lines.length - tail)
    for (;;) {
      for (; next < log.lines.length; next++) yield log.lines[next] ?? ''
      if (!follow || log.ended || signal.aborted || this.#closed) return
      await log.change(signal)
    }
  }

  close(): void {
    this.#closed = true
    for (const off of this.#offs.splice(0)) off()
  }

  #mustLive(): void {
    if (this.#closed) throw new OpError('Unavailable', 'the agent is dead')
  }
}
