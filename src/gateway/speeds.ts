/**
 * The pace of answers, summed up per group and told to the server: one second after the first answer, then every ten
 * while answers come. What could not be told is told with the next; nothing waits for it.
 */
import type { ObservedSpeed } from '../api/speed.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Pace } from './pace.ts'

export interface SpeedsOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly tell: (speeds: readonly ObservedSpeed[]) => Promise<unknown>
}

const FIRST_MS = 1_000
const EVERY_MS = 10_000
/** Groups come and go while the server is away; their figures may be lost. */
const GROUPS_MAX = 1_000

export class Speeds {
  readonly #options: SpeedsOptions
  #sums = new Map<string, ObservedSpeed>()
  #timer: Timer | undefined
  #toldMs = -Infinity
  #failing = false
  #stopped = false

  constructor(options: SpeedsOptions) {
    this.#options = options
  }

  add(shardUid: string, pace: Pace): void {
    this.#sum({ shardUid, answers: 1, ...pace })
    this.#plan()
  }

  /** Tells what there is, and nothing after it. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#tell()
  }

  #plan(): void {
    if (this.#stopped || this.#timer !== undefined || this.#sums.size === 0) return
    const sinceMs = this.#options.clock.monotonicMs() - this.#toldMs
    this.#timer = this.#options.clock.after(Math.max(FIRST_MS, EVERY_MS - sinceMs), () => {
      void this.#tell().then(() => {
        this.#timer = undefined
        this.#plan()
      })
    })
  }

  async #tell(): Promise<void> {
    const { clock, log, tell } = this.#options
    const told = [...this.#sums.values()]
    if (told.length === 0) return
    this.#sums = new Map()
    this.#toldMs = clock.monotonicMs()
    try {
      await tell(told)
      this.#failing = false
    } catch (error) {
      if (!this.#failing) log.warn('observed speeds were not told', { error: String(error) })
      this.#failing = true
      for (const speed of told) this.#sum(speed)
    }
  }

  #sum(more: ObservedSpeed): void {
    const { shardUid } = more
    const old = this.#sums.get(shardUid)
    if (old === undefined) {
      if (this.#sums.size < GROUPS_MAX) this.#sums.set(shardUid, more)
      return
    }
    const answers = old.answers + more.answers
    this.#sums.set(shardUid, {
      shardUid,
      answers,
      tokens: old.tokens + more.tokens,
      seconds: old.seconds + more.seconds,
      contextTokens: (old.contextTokens * old.answers + more.contextTokens * more.answers) / answers,
    })
  }
}
