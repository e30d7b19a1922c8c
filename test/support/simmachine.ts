/**
 * Machines and their engine processes, in memory, for the simulator: what the shardhosts are to a real agent. Processes
 * outlive agents; engines of a gang meet as a ring does (15 s window, neighbours of a dead rank fail), and can be told
 * to crash, to hang, to be slow, to be stopped, and to end without a word or with a late one.
 */
import type { LocalShard, PreparedShard } from '../../agent/hosts.ts'
import type { LiveFacts, Pressure } from '../../agent/observe/facts.ts'
import type { HostState } from '../../agent/shardhost/protocol.ts'
import type { Shard, ShardExit } from '../../src/api/shard.ts'
import type { Clock, Timer } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import { ProcessClock } from './simclock.ts'
import { SimLog } from './simlog.ts'
import type { SeededRandom } from './virtualclock.ts'

const RING_WINDOW_MS = 15_000
const STARTUP_DEADLINE_MS = 120_000
const HEARTBEAT_MS = 10_000
/** When an agent finds out that a shardhost is gone without a word. */
const LOST_AFTER_MS = 5_000

/** One engine process with its host. `state` is what its host has told; `ended` what is true. */
export interface SimProcess {
  readonly shard: Shard
  readonly machine: SimMachine
  state: HostState
  ended: boolean
  hung: boolean
  /** By SIGSTOP, until when it goes on. */
  stoppedAtMs: number | undefined
  lost: boolean
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
  /** An exit is told up to so late, and with this chance not at all (the host dies, too). */
  lateExitMs = 0
  lostExitChance = 0
  /** Called at the start of each process, the most dangerous moment of a machine. */
  onStart: (machine: SimMachine, shard: Shard) => void = () => {}

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
  /** What else it says of this moment, when it says anything. */
  reading: LiveFacts | undefined
  /** Stands still while the machine sleeps. */
  readonly clock: ProcessClock
  readonly #ring: SimRing
  readonly #handles = new Map<string, Handle>()
  readonly #listeners = new Set<(uid: string) => void>()
  /** Engine logs by shard name: they outlive their shards. */
  readonly #logs = new Map<string, SimLog>()
  #boots = 1
  #nextPid: number
  #nextPort = 20_000

  constructor(name: string, ring: SimRing, firstPid: number) {
    this.name = name
    this.clock = new ProcessClock(ring.clock)
    this.#ring = ring
    this.#nextPid = firstPid
  }

  get bootId(): string {
    return this.#boots === 1 ? 'boot' : `boot-${this.#boots}`
  }

  /** Processes that live, whatever anybody knows of them. */
  processes(): readonly SimProcess[] {
    return [...this.#handles.values()].flatMap(({ process }) =>
      process === undefined || process.ended ? [] : [process],
    )
  }

  list(): readonly LocalShard[] {
    return [...this.#handles.values()].map(({ shard, clusterUid, prepared, process }) => ({
      shardUid: shard.metadata.uid,
      shardName: shard.metadata.name,
      clusterUid,
      prepared,
      ...(process === undefined ? {} : { started: true, state: process.state }),
      ...(process?.lost === true ? { lost: true } : {}),
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
    const process: SimProcess = {
      shard,
      machine: this,
      state,
      ended: false,
      hung: false,
      stoppedAtMs: undefined,
      lost: false,
      timers: [],
    }
    handle.process = process
    this.#logs.set(shard.metadata.name, new SimLog(uid))
    const { rank, worldSize, stage } = shard.spec
    this.#write(process, `rank ${rank} of ${worldSize} starts, layers ${stage[0]} to ${stage[1]}`)
    this.#ring.onStart(this, shard)
    this.#tell(uid)
    this.#join(process)
  }

  stop(uid: string, graceMs: number, reason: string, drainMs: number): void {
    const process = this.#handles.get(uid)?.process
    if (process === undefined || process.ended) return
    if (process.state.phase !== 'Stopping') this.#become(process, { phase: 'Stopping' })
    // Requests in flight take a moment of the drain; a hung engine is killed when its grace is over.
    const deaf = process.hung || process.stoppedAtMs !== undefined
    const endsAfterMs = deaf ? drainMs + graceMs : drainMs * 0.3 * this.#ring.random.next() + 200
    const exit = { reason: 'Stopped', message: `stopped: ${reason}` }
    process.timers.push(this.clock.after(endsAfterMs, () => this.#end(process, exit)))
  }

  forget(uid: string): void {
    const process = this.#handles.get(uid)?.process
    if (process !== undefined && !process.ended) throw new Error(`bug: forgets the living process of ${uid}`)
    if (this.#handles.delete(uid)) this.#tell(uid)
  }

  /** SIGKILL of an engine from outside. */
  kill(process: SimProcess): void {
    const message = 'the engine was killed by SIGKILL'
    this.#end(process, { reason: 'EngineCrashed', signal: 'SIGKILL', message })
  }

  /** SIGKILL of a shardhost: its engine sees it and ends, and nobody says how. */
  killHost(process: SimProcess): void {
    this.#end(process, undefined)
  }

  /** SIGSTOP of an engine; its host tells how long it makes no step. */
  stopEngine(process: SimProcess): void {
    if (process.stoppedAtMs !== undefined || process.ended) return
    process.stoppedAtMs = this.clock.monotonicMs()
    this.#tellAge(process)
  }

  /** SIGCONT. */
  continueEngine(process: SimProcess): void {
    if (process.stoppedAtMs === undefined || process.ended) return
    process.stoppedAtMs = undefined
    if (process.state.phase === 'Ready') this.#become(process, { progressAgeSeconds: 0 })
    if (process.state.phase === 'Loading') this.#load(process)
  }

  /** Power off and on: all processes are gone, and the handles on disk name those of another boot. */
  reboot(): void {
    this.#boots += 1
    this.clock.resume()
    for (const [uid, { process }] of this.#handles)
      if (process === undefined) this.#handles.delete(uid)
      else if (!process.ended) this.#cease(process).lost = process.state.phase !== 'Exited'
    for (const uid of this.#handles.keys()) this.#tell(uid)
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
    const { random, hangChance } = this.#ring
    const gang = this.#ring.gangOf(process)
    gang.add(process)
    if (random.next() < hangChance) {
      process.hung = true
      this.#startDeadline(process)
      return
    }
    const { worldSize } = process.shard.spec
    if (gang.size < worldSize) {
      const lonely = () => this.#end(process, { reason: 'EngineExited', code: 1, message: '[ring] Couldn’t connect' })
      process.timers.push(this.clock.after(RING_WINDOW_MS, lonely))
      return
    }
    for (const rank of gang) rank.machine.#load(rank)
  }

  #load(process: SimProcess): void {
    if (process.hung || process.ended || process.state.phase === 'Stopping') return
    const { random, slowness } = this.#ring
    for (const timer of process.timers.splice(0)) timer.cancel()
    this.#startDeadline(process)
    this.#become(process, { phase: 'Loading' })
    const loadMs = (500 + 2_000 * random.next()) * slowness
    process.timers.push(this.clock.after(loadMs, () => this.#ready(process)))
  }

  #ready(process: SimProcess): void {
    if (process.state.phase !== 'Loading' || process.stoppedAtMs !== undefined) return
    for (const timer of process.timers.splice(0)) timer.cancel()
    this.#write(process, `rank ${process.shard.spec.rank} is ready`)
    this.#become(process, { phase: 'Ready' })
  }

  #tellAge(process: SimProcess): void {
    process.timers.push(
      this.clock.after(HEARTBEAT_MS, () => {
        if (process.stoppedAtMs === undefined || process.ended || process.state.phase === 'Stopping') return
        if (process.state.phase === 'Ready')
          this.#become(process, { progressAgeSeconds: (this.clock.monotonicMs() - process.stoppedAtMs) / 1_000 })
        this.#tellAge(process)
      }),
    )
  }

  #startDeadline(process: SimProcess): void {
    const late = () => this.#end(process, { reason: 'StartDeadline', message: 'the engine was not ready in time' })
    process.timers.push(this.clock.after(STARTUP_DEADLINE_MS, late))
  }

  /** The process is gone now; its host says so now, later, or (`exit` undefined, or by chance) never. */
  #end(process: SimProcess, exit: Omit<ShardExit, 'atMs'> | undefined): void {
    if (process.ended) return
    const { random, lateExitMs, lostExitChance } = this.#ring
    this.#cease(process)
    if (exit?.code !== undefined) this.#write(process, exit.message)
    if (exit === undefined || (lostExitChance > 0 && random.next() < lostExitChance)) {
      this.clock.after(LOST_AFTER_MS, () => {
        process.lost = true
        this.#tell(process.shard.metadata.uid)
      })
      return
    }
    const told = { ...exit, atMs: this.clock.nowMs() }
    if (lateExitMs === 0) this.#become(process, { phase: 'Exited', exit: told })
    else
      this.clock.after(lateExitMs * random.next(), () => {
        if (!process.lost) this.#become(process, { phase: 'Exited', exit: told })
      })
  }

  #cease(process: SimProcess): SimProcess {
    process.ended = true
    for (const timer of process.timers.splice(0)) timer.cancel()
    const gang = this.#ring.gangOf(process)
    gang.delete(process)
    for (const peer of gang) peer.machine.#losePeer(peer)
    this.#logs.get(process.shard.metadata.name)?.end()
    return process
  }

  /** mlx ≥ 0.32.1: neighbours fail within ms; one that hangs or is stopped notices nothing. */
  #losePeer(process: SimProcess): void {
    if (process.hung || process.state.phase === 'Stopping') return
    const exit = { reason: 'EngineExited', code: 1, message: '[ring] connection to a peer was lost' }
    process.timers.push(
      this.clock.after(20, () => {
        if (process.stoppedAtMs === undefined) this.#end(process, exit)
      }),
    )
  }

  /** As a shardhost does: into the log, and the last lines into the state that is told next. */
  #write(process: SimProcess, line: string): void {
    this.#logs.get(process.shard.metadata.name)?.write(line, process.machine.clock.nowMs())
    process.state = { ...process.state, lastLogLines: [...process.state.lastLogLines, line].slice(-10) }
  }

  #become(process: SimProcess, changes: Partial<HostState>): void {
    process.state = { ...process.state, ...changes }
    this.#tell(process.shard.metadata.uid)
  }

  #tell(uid: string): void {
    for (const listener of [...this.#listeners]) listener(uid)
  }
}
