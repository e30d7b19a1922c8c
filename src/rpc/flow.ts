/** Small steps for streams: waiting that an abort ends, and a bounded pipe between a writer and one reader. */

export const ABORTED = Symbol('aborted')

/** What `promise` brings, or ABORTED as soon as the signal aborts; leaves no listener behind. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | typeof ABORTED> {
  if (signal.aborted) {
    promise.catch(() => {})
    return Promise.resolve(ABORTED)
  }
  return new Promise((resolve, reject) => {
    const abort = () => resolve(ABORTED)
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/**
 * A pipe for one reader. `push` tells whether there is room; who ignores a false is bounded by nothing, so writers await
 * `room()`. `end` lets the reader have what is queued first; `fail` too, and then throws.
 */
export class Pipe<T> implements AsyncIterable<T> {
  readonly #capacity: number
  readonly #queue: T[] = []
  #ended = false
  #failure: { error: unknown } | undefined
  #readerWaits: (() => void) | undefined
  #writersWait: (() => void)[] = []

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get length(): number {
    return this.#queue.length
  }

  get ended(): boolean {
    return this.#ended
  }

  /** True while there is room for more. What comes after the end is dropped. */
  push(value: T): boolean {
    if (!this.#ended) this.#queue.push(value)
    this.#wakeReader()
    return this.#queue.length < this.#capacity
  }

  /** Resolves when there is room, or when the pipe is over. */
  room(): Promise<void> {
    if (this.#ended || this.#queue.length < this.#capacity) return Promise.resolve()
    return new Promise((resolve) => this.#writersWait.push(resolve))
  }

  end(): void {
    this.#ended = true
    this.#wakeReader()
    this.#wakeWriters()
  }

  fail(error: unknown): void {
    if (this.#ended) return
    this.#failure = { error }
    this.end()
  }

  /** Ends at once: what is queued is thrown away. */
  cut(error?: unknown): void {
    this.#queue.length = 0
    if (error === undefined) this.end()
    else this.fail(error)
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    try {
      for (;;) {
        while (this.#queue.length > 0) {
          const value = this.#queue.shift() as T
          if (this.#queue.length < this.#capacity) this.#wakeWriters()
          yield value
        }
        if (this.#failure !== undefined) throw this.#failure.error
        if (this.#ended) return
        await new Promise<void>((resolve) => (this.#readerWaits = resolve))
      }
    } finally {
      this.cut()
    }
  }

  #wakeReader(): void {
    const wake = this.#readerWaits
    this.#readerWaits = undefined
    wake?.()
  }

  #wakeWriters(): void {
    for (const wake of this.#writersWait.splice(0)) wake()
  }
}
