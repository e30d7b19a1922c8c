/**
 * Time that this process was awake for. A machine that slept, or a process that was stopped, has seen nothing meanwhile,
 * so such time must not count as anybody's silence. Its owner looks regularly, and a look that comes much too late
 * tells of the gap.
 */
import type { Clock } from './clock.ts'

/** A busy machine is late by seconds; what is beyond was sleep. */
const LATE_MS = 10_000

export class AwakeTime {
  readonly #clock: Clock
  readonly #periodMs: number
  #lookedMs: number
  #lostMs = 0

  /** `periodMs`: how often `look` is called. */
  constructor(clock: Clock, periodMs: number) {
    this.#clock = clock
    this.#periodMs = periodMs
    this.#lookedMs = clock.monotonicMs()
  }

  /** Ms that were lost since the last look; 0: none. */
  look(): number {
    const nowMs = this.#clock.monotonicMs()
    const lateMs = nowMs - this.#lookedMs - this.#periodMs
    this.#lookedMs = nowMs
    if (lateMs <= LATE_MS) return 0
    this.#lostMs += lateMs
    return lateMs
  }

  /** Monotonic ms without those that were lost. */
  nowMs(): number {
    return this.#clock.monotonicMs() - this.#lostMs
  }
}
