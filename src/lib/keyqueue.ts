/**
 * A queue of keys, not of events (as client-go's): adding a queued key is a no-op, a key added while it is worked on
 * comes again afterwards, no key is worked on twice at once. A failure comes back after backoff; `afterMs` asks for
 * another look later and is no failure.
 */
import type { BackoffPolicy } from './backoff.ts'
import { backoffMs } from './backoff.ts'
import type { Clock, Random, Timer } from './clock.ts'

export interface KeyQueueOptions {
  readonly clock: Clock
  readonly random: Random
  readonly backoff: BackoffPolicy
  /** Works one key; a number asks for another look after that many ms. */
  readonly work: (key: string) => Promise<number | undefined>
  /** Told of each failure; the key comes back by itself. */
  readonly onError: (key: string, error: unknown, failures: number) => void
}

export class KeyQueue {
  readonly #options: KeyQueueOptions
  readonly #ready = new Set<string>()
  readonly #failures = new Map<string, number>()
  readonly #delayed = new Map<string, { timer: Timer; atMs: number }>()
  readonly #idleWaiters: (() => void)[] = []
  #working: string | undefined
  #again = false
  #stopped = false

  constructor(options: KeyQueueOptions) {
    this.#options = options
  }

  add(key: string): void {
    if (this.#stopped) return
    if (this.#working === key) this.#again = true
    else this.#ready.add(key)
    if (this.#working === undefined) void this.#drain()
  }

  /** Adds the key later; an earlier appointment of the same key stays. */
  addAfter(key: string, delayMs: number): void {
    const { clock } = this.#options
    const atMs = clock.monotonicMs() + delayMs
    const old = this.#delayed.get(key)
    if (this.#stopped || (old !== undefined && old.atMs <= atMs)) return
    old?.timer.cancel()
    const timer = clock.after(delayMs, () => {
      this.#delayed.delete(key)
      this.add(key)
    })
    this.#delayed.set(key, { timer, atMs })
  }

  /** Resolves when nothing is ready or worked on; delayed keys do not count. */
  idle(): Promise<void> {
    if (this.#working === undefined && this.#ready.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  stop(): void {
    this.#stopped = true
    this.#ready.clear()
    for (const { timer } of this.#delayed.values()) timer.cancel()
    this.#delayed.clear()
  }

  async #drain(): Promise<void> {
    for (const key of this.#ready) {
      this.#ready.delete(key)
      this.#working = key
      this.#again = false
      await this.#workOn(key)
      this.#working = undefined
      if (this.#again && !this.#stopped) this.#ready.add(key)
    }
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  async #workOn(key: string): Promise<void> {
    try {
      const afterMs = await this.#options.work(key)
      this.#failures.delete(key)
      if (afterMs !== undefined) this.addAfter(key, afterMs)
    } catch (error) {
      const failures = (this.#failures.get(key) ?? 0) + 1
      this.#failures.set(key, failures)
      this.#options.onError(key, error, failures)
      this.addAfter(key, backoffMs(this.#options.backoff, failures, this.#options.random.next()))
    }
  }
}
