/**
 * The fake engine's process: `engine.js --config FILE`. Starts, meets its ranks, loads, serves, beats and ends as the
 * mlx shim does (same events, codes and HTTP), or does what it was told to do wrong.
 */
import { readFileSync, writeSync } from 'node:fs'
import type { Clock } from '../../../src/lib/clock.ts'
import { every, sleep, systemClock } from '../../../src/lib/clock.ts'
import { messageOf } from '../../../src/lib/errors.ts'
import type { EngineEvent } from '../../shardhost/protocol.ts'
import type { FakeArgs, FakeConfig } from './config.ts'
import { argsFor } from './config.ts'
import { FakeHttp } from './http.ts'
import { Ring } from './ring.ts'

const ENGINE_FAILED = 70
const ORPHAN = 75
const POLL_MS = 100
const BEAT_MS = 1000
const BITE_MS = 250
/** The peers get their own signal before the ring closes on them. */
const STOP_GRACE_MS = 100

class FakeEngine {
  readonly #config: FakeConfig
  readonly #args: FakeArgs
  readonly #clock: Clock
  readonly #eventsFd: number
  readonly #startedMs: number
  readonly #ring: Ring | undefined
  readonly #http: FakeHttp | undefined
  readonly #counts = { steps: 0, polls: 0, ptok: 0, gtok: 0 }
  #phase: 'starting' | 'loading' | 'loaded' | 'ready' = 'starting'
  #stopping = false
  #hung = false
  #stuck = false
  #mute = false
  #armed = false
  #movedMs: number
  #waiters: (() => void)[] = []
  /** At rank 0: a step is on its way round. At the others: one waits here until this rank has loaded. */
  #stepUnderway = false

  constructor(config: FakeConfig, clock: Clock, eventsFd: number) {
    this.#config = config
    this.#args = argsFor(config.args, config.rank, config.epoch)
    this.#clock = clock
    this.#eventsFd = eventsFd
    this.#startedMs = clock.monotonicMs()
    this.#movedMs = this.#startedMs
    if (config.worldSize > 1) this.#ring = this.#newRing()
    if (config.rank === 0) this.#http = this.#newHttp()
  }

  async run(): Promise<void> {
    const { config, args } = { config: this.#config, args: this.#args }
    this.#emit({ ev: 'start', world: config.worldSize })
    console.log(`fake engine: rank ${config.rank} of ${config.worldSize}, layers ${config.stage.join(':')}`)
    this.#watch()
    if (args.crashOnStart) this.#crash('crashed on start, as told')
    await this.#http?.listen()
    await this.#ring?.join()
    this.#emit({ ev: 'joined', world: config.worldSize, s: this.#seconds() })
    this.#phase = 'loading'
    this.#emit({ ev: 'loading' })
    if (args.hang) return this.#hang()
    if (args.refuseMemory) this.fail(`cannot allocate ${config.memoryBytes} bytes`)
    await sleep(this.#clock, args.slowLoadMs)
    this.#phase = 'loaded'
    this.#emitLoaded()
    // The first step is one of the whole gang: every rank has come this far.
    await this.#nextStep()
    this.#phase = 'ready'
    this.#emit({ ev: 'ready', s: this.#seconds() })
    if (this.#http === undefined) this.#armMishaps()
  }

  #emitLoaded(): void {
    const { memoryBytes, stage, contextTokens, concurrency } = this.#config
    const memory = { active: memoryBytes, peak: memoryBytes, kvBytesPerToken: 0, kvTokens: contextTokens * concurrency }
    this.#emit({ ev: 'loaded', s: this.#seconds(), layers: stage, files: 0, ...memory, concurrency })
  }

  stop(): void {
    if (this.#stopping || this.#hung) return
    this.#stopping = true
    this.#emit({ ev: 'stopping' })
    if (this.#ring === undefined) this.fail('stopped')
    this.#clock.after(STOP_GRACE_MS, () => this.fail('stopped'))
  }

  /** Ends the process. Once a stop was asked for, what breaks is part of stopping. */
  fail(reason: string, code = ENGINE_FAILED): never {
    const end = this.#stopping ? { code: 0, reason: 'stopped' } : { code, reason }
    if (!this.#stopping) console.error(`${this.#phase}: ${reason}`)
    this.#emit({ ev: 'exit', ...end })
    process.exit(end.code)
  }

  #newRing(): Ring {
    const { rank, hosts, gang, rendezvousDeadlineSeconds } = this.#config
    return new Ring({
      rank,
      hosts,
      gang,
      clock: this.#clock,
      deadlineMs: rendezvousDeadlineSeconds * 1000,
      onStep: () => this.#onStep(),
      onBroken: (why) => this.fail(`[ring] ${why}`),
    })
  }

  #newHttp(): FakeHttp {
    const { port, concurrency } = this.#config
    return new FakeHttp({
      port,
      limits: this.#config,
      concurrency,
      tokensPerSecond: this.#args.tokensPerSecond,
      clock: this.#clock,
      health: () => (this.#args.lieReady || this.#mute ? 'Failing' : this.#phase === 'ready' ? 'Serving' : 'Loading'),
      step: () => (this.#stuck ? new Promise<void>(() => {}) : this.#nextStep()),
      onAnswered: (prompt, generated) => {
        this.#armMishaps()
        this.#counts.ptok += prompt
        this.#counts.gtok += generated
      },
      log: (line) => console.log(line),
    })
  }

  /** Once, when this rank has proved that it works. */
  #armMishaps(): void {
    const { hangAfterMs, crashAfterMs, stuckAfterMs, muteAfterMs, eatMibPerSecond } = this.#args
    if (this.#armed) return
    this.#armed = true
    if (hangAfterMs !== undefined) this.#clock.after(hangAfterMs, () => this.#hang())
    if (stuckAfterMs !== undefined) this.#clock.after(stuckAfterMs, () => (this.#stuck = true))
    if (muteAfterMs !== undefined) this.#clock.after(muteAfterMs, () => (this.#mute = true))
    if (crashAfterMs !== undefined) this.#clock.after(crashAfterMs, () => this.#crash('crashed, as told'))
    if (eatMibPerSecond !== undefined) this.#eat(eatMibPerSecond)
  }

  /** Every page is written, so that it is really taken. */
  #eat(mibPerSecond: number): void {
    const eaten: Buffer[] = []
    const bite = () => void eaten.push(Buffer.alloc((mibPerSecond * 2 ** 20 * BITE_MS) / 1_000, 1))
    void every(this.#clock, BITE_MS, new AbortController().signal, bite)
  }

  #watch(): void {
    this.#checkParent()
    const forever = new AbortController().signal
    void every(this.#clock, POLL_MS, forever, () => this.#poll())
    void every(this.#clock, BEAT_MS, forever, () => this.#beat())
  }

  #checkParent(): void {
    const { parentPid } = this.#config
    if (process.ppid !== parentPid) this.fail(`the parent is ${process.ppid}, not ${parentPid}`, ORPHAN)
  }

  #poll(): void {
    this.#checkParent()
    if (this.#hung) return
    this.#counts.polls += 1
    if (this.#ring === undefined) this.#movedMs = this.#clock.monotonicMs()
    else if (this.#phase === 'ready') this.#startStep()
  }

  #beat(): void {
    const age = (this.#clock.monotonicMs() - this.#movedMs) / 1000
    const { active, queued } = this.#http?.load() ?? { active: 0, queued: 0 }
    const mem = this.#config.memoryBytes
    this.#emit({ ev: 'hb', phase: this.#phase, busy: active > 0, active, queued, ...this.#counts, age, mem })
  }

  /** Resolves with the gang's next step; alone, at once; hung, never. */
  #nextStep(): Promise<void> {
    const step = new Promise<void>((resolve) => this.#waiters.push(resolve))
    if (this.#ring === undefined) this.#advance()
    else if (this.#config.rank === 0) this.#startStep()
    else if (this.#stepUnderway) this.#onStep()
    return step
  }

  #startStep(): void {
    if (this.#config.rank !== 0 || this.#stepUnderway || this.#hung) return
    this.#stepUnderway = true
    this.#ring?.step()
  }

  #onStep(): void {
    const held = this.#hung || this.#phase === 'starting' || this.#phase === 'loading'
    this.#stepUnderway = held
    if (held) return
    this.#advance()
    if (this.#config.rank !== 0) this.#ring?.step()
  }

  #advance(): void {
    if (this.#hung) return
    // A step that nobody waits for is a poll of the gang: it proves life and does no work.
    if (this.#waiters.length > 0) this.#counts.steps += 1
    this.#movedMs = this.#clock.monotonicMs()
    for (const resolve of this.#waiters.splice(0)) resolve()
  }

  #hang(): void {
    console.log('hangs, as told')
    this.#hung = true
  }

  #crash(why: string): never {
    console.error(why)
    process.exit(this.#args.exitCode)
  }

  #seconds(): number {
    return (this.#clock.monotonicMs() - this.#startedMs) / 1000
  }

  #emit(event: EngineEvent): void {
    const { rank } = this.#config
    const line = { ...event, rank, pid: process.pid, t: this.#clock.nowMs() / 1000 }
    try {
      writeSync(this.#eventsFd, `${JSON.stringify(line)}\n`)
    } catch {
      // Nobody listens any more; the parent watch decides what follows from that.
    }
  }
}

const config = JSON.parse(readFileSync(process.argv.at(-1) ?? '', 'utf8')) as FakeConfig
const engine = new FakeEngine(config, systemClock, Number(process.env['MCTL_EVENTS_FD'] ?? 2))
process.on('SIGTERM', () => engine.stop())
process.on('SIGINT', () => engine.stop())
engine.run().catch((error: unknown) => engine.fail(messageOf(error)))
