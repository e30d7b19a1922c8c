/**
 * Is a Ready engine still well? By progress, not by pid: one that beats no more is frozen, one that beats and moves
 * nothing is stalled, one with requests and no tokens is stuck, and one that is idle must answer a canary. The verdict
 * is pure; the watch asks the canary and tells what changed. What follows from it is the agent's to decide.
 */
import type { Clock } from '../../src/lib/clock.ts'
import { AwakeTime } from '../../src/lib/awake.ts'
import type { EngineView } from './phase.ts'
import { progressAgeSeconds } from './phase.ts'
import type { Liveness, Unwell } from './protocol.ts'

/** One prefill chunk on a busy machine must fit (facts/engines.md §10.3). */
export const defaultLiveness: Liveness = {
  beatSeconds: 60,
  stallSeconds: 60,
  canaryEverySeconds: 120,
  canarySeconds: 30,
}
const CANARY_TRIES = 2
const CANARY_RETRY_MS = 5_000
const LOOK_MS = 1000
/** Agents are told of a stall from here on, once a second; below it the age is noise. */
const TOLD_AGE_SECONDS = 2

export interface CanaryRecord {
  /** In a row. */
  readonly failures: number
  readonly problem?: string
}

/** Pure: what is wrong with the engine; undefined: nothing, or it is not Ready. Times are awake ms. */
export function unwellOf(
  view: EngineView,
  { beatSeconds, stallSeconds }: Liveness,
  canary: CanaryRecord,
  nowMs: number,
): Unwell | undefined {
  if (view.phase !== 'Ready') return undefined
  const { beat, work } = view
  const seconds = (sinceMs: number) => Math.floor((nowMs - sinceMs) / 1000)
  if (beat !== undefined && seconds(beat.atMs) > beatSeconds) {
    const message = `the engine gave no sign of life for ${seconds(beat.atMs)} s (limit ${beatSeconds} s)`
    return { reason: 'EngineFrozen', message }
  }
  const age = Math.floor(progressAgeSeconds(view, nowMs) ?? 0)
  if (age > stallSeconds)
    return { reason: 'EngineStalled', message: `the engine made no step for ${age} s (limit ${stallSeconds} s)` }
  if (work !== undefined && work.busy && seconds(work.atMs) > stallSeconds) {
    const message = `the engine has requests and made no token for ${seconds(work.atMs)} s (limit ${stallSeconds} s)`
    return { reason: 'EngineStuck', message }
  }
  if (canary.failures >= CANARY_TRIES) {
    const message = `the engine is idle and answered no completion of one token, ${canary.failures} times: ${canary.problem ?? '?'}`
    return { reason: 'CanaryFailed', message }
  }
  return undefined
}

export interface HealthDoors {
  readonly clock: Clock
  readonly liveness: Liveness
  readonly view: () => EngineView
  /** The leader's: requests that it has taken so far and answers now, and one completion of one token. */
  readonly leader?: {
    readonly taken: () => number
    readonly inFlight: () => number
    /** undefined: answered. */
    readonly ask: (limitMs: number) => Promise<string | undefined>
  }
  readonly tell: () => void
  readonly note: (text: string) => void
}

export class HealthWatch {
  readonly #doors: HealthDoors
  readonly #awake: AwakeTime
  #canary: CanaryRecord = { failures: 0 }
  #asking = false
  /** Awake ms at which the next canary is due, should the engine stay idle. */
  #dueMs = Infinity
  #toldAge = 0
  #toldReason: string | undefined

  constructor(doors: HealthDoors) {
    this.#doors = doors
    this.#awake = new AwakeTime(doors.clock, LOOK_MS)
  }

  /** Ms to stamp events with: time that this host was awake. */
  nowMs(): number {
    return this.#awake.nowMs()
  }

  unwell(): Unwell | undefined {
    return unwellOf(this.#doors.view(), this.#doors.liveness, this.#canary, this.nowMs())
  }

  /** Looks once a second until the signal aborts. */
  start(signal: AbortSignal): void {
    this.#doors.clock.after(LOOK_MS, () => {
      if (signal.aborted) return
      this.#awake.look()
      this.#look()
      this.start(signal)
    })
  }

  #look(): void {
    const age = Math.floor(progressAgeSeconds(this.#doors.view(), this.nowMs()) ?? 0)
    const told = age >= TOLD_AGE_SECONDS ? age : 0
    const reason = this.unwell()?.reason
    if (told !== this.#toldAge || reason !== this.#toldReason) this.#doors.tell()
    this.#toldAge = told
    this.#toldReason = reason
    this.#lookAtCanary()
  }

  #lookAtCanary(): void {
    const { leader, liveness, view } = this.#doors
    if (leader === undefined || this.#asking) return
    const { phase, work } = view()
    const isIdle = phase === 'Ready' && work?.busy !== true && leader.inFlight() === 0
    if (!isIdle || this.#dueMs === Infinity) this.#dueMs = this.nowMs() + liveness.canaryEverySeconds * 1000
    else if (this.nowMs() >= this.#dueMs) void this.#ask(leader)
  }

  /** A request that came meanwhile has its own claim on the engine: then a failure says nothing. */
  async #ask(leader: NonNullable<HealthDoors['leader']>): Promise<void> {
    const { liveness, note } = this.#doors
    this.#asking = true
    const taken = leader.taken()
    const problem = await leader.ask(liveness.canarySeconds * 1000)
    this.#asking = false
    const disturbed = leader.taken() !== taken
    if (problem === undefined || disturbed) {
      this.#canary = { failures: 0 }
      this.#dueMs = Infinity
      return
    }
    note(`idle, but a completion of one token failed: ${problem}`)
    this.#canary = { failures: this.#canary.failures + 1, problem }
    this.#dueMs = this.nowMs() + CANARY_RETRY_MS
    this.#look()
  }
}
