/** A bucket that fills with time: bursts up to its size, on average no more than its rate. */
import type { Clock } from './clock.ts'

export class TokenBucket {
  readonly #clock: Clock
  readonly #size: number
  readonly #perSecond: number
  #left: number
  #atMs: number

  /** Full at first. */
  constructor(clock: Clock, size: number, perSecond: number) {
    this.#clock = clock
    this.#size = size
    this.#perSecond = perSecond
    this.#left = size
    this.#atMs = clock.monotonicMs()
  }

  /** Takes one and answers 0; else takes none and answers the seconds until there is one. */
  take(): number {
    const nowMs = this.#clock.monotonicMs()
    this.#left = Math.min(this.#size, this.#left + ((nowMs - this.#atMs) / 1000) * this.#perSecond)
    this.#atMs = nowMs
    if (this.#left < 1) return (1 - this.#left) / this.#perSecond
    this.#left -= 1
    return 0
  }
}
