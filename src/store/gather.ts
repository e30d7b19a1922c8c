/**
 * When what waits is committed. A commit costs a flush of the disk, however many transactions share it, and nothing else
 * happens meanwhile. A lone writer is committed in the next turn. Where the last commit was shared, the next one waits
 * until as many are there again, and no longer than a few commits take; now and then it tries with one more. It waits by
 * the clock's own measure: where time stands still nothing does.
 */
import type { Clock, Timer } from '../lib/clock.ts'
import { nextTurn } from '../lib/clock.ts'

/** A wait is at most so many times as long as the last commit took to write, and never longer than this. */
const COMMITS_TO_WAIT = 4
const MAX_WAIT_MS = 4
/** With so many the flush costs each of them next to nothing. */
const ENOUGH = 32
/** After waiting for one more in vain: so many commits until the next try. */
const PATIENCE = 16

export class Gathering {
  readonly #clock: Clock
  readonly #commit: () => void
  #hopedFor = 2
  #maxWaitMs = 0
  #untilNextTry = 0
  #timer: Timer | undefined
  #isDue = false

  /** `commit` takes what waits; it is called in a turn of its own. */
  constructor(clock: Clock, commit: () => void) {
    this.#clock = clock
    this.#commit = commit
  }

  /** Something waits, `waiting` transactions in all. */
  onWaiting(waiting: number): void {
    if (this.#isDue) return
    if (this.#maxWaitMs === 0 || waiting >= this.#hopedFor) this.#nextTurn()
    else this.#timer ??= this.#clock.after(this.#maxWaitMs, () => this.#nextTurn())
  }

  /** A commit was shared by so many transactions, and writing it took so long. */
  onCommitted(transactions: number, tookMs: number): void {
    this.#maxWaitMs = transactions > 1 ? Math.min(MAX_WAIT_MS, COMMITS_TO_WAIT * tookMs) : 0
    if (transactions < this.#hopedFor) this.#untilNextTry = PATIENCE
    const isTry = transactions >= this.#hopedFor && --this.#untilNextTry <= 0
    this.#hopedFor = Math.min(ENOUGH, Math.max(2, transactions + (isTry ? 1 : 0)))
  }

  /** What waits is committed by somebody else from now on. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #nextTurn(): void {
    this.stop()
    this.#isDue = true
    nextTurn(() => {
      this.#isDue = false
      this.#commit()
    })
  }
}
