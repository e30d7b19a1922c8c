/** GET over HTTP with a body that comes in batches, bounded in memory: the fast way through undici, without a stream. */
import type { IncomingHttpHeaders } from 'node:http'
import { Agent } from 'undici'
import type { Dispatcher, buildConnector } from 'undici'
import type { HubAnswer } from './doors.ts'

/** What may wait for its reader before the sender is held up. */
const WINDOW_BYTES = 4 * 2 ** 20
const CONNECT_TIMEOUT_MS = 15_000
const HEADERS_TIMEOUT_MS = 30_000

/** A body may take hours: whoever reads it watches over its pauses. */
export const makeDispatcher = (connect: buildConnector.BuildOptions = {}): Dispatcher =>
  new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS, ...connect },
    headersTimeout: HEADERS_TIMEOUT_MS,
    bodyTimeout: 0,
  })

/** Resolves with the answer, whatever its status. Rejects when there is none, or when the signal aborts. */
export function getOnce(
  dispatcher: Dispatcher,
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<HubAnswer> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const body = new Body(signal, resolve, reject)
    const { origin, pathname, search } = url
    dispatcher.dispatch({ origin, path: `${pathname}${search}`, method: 'GET', headers: { ...headers } }, body)
  })
}

/** What undici tells on one side, an iterable of batches on the other. */
class Body implements Dispatcher.DispatchHandler, AsyncIterable<readonly Uint8Array[]> {
  readonly #signal: AbortSignal
  readonly #answered: (answer: HubAnswer) => void
  readonly #failed: (error: unknown) => void
  readonly #onAbort = () => this.#controller?.abort(asError(this.#signal.reason))
  #controller: Dispatcher.DispatchController | undefined
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #end: { readonly error?: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(signal: AbortSignal, answered: (answer: HubAnswer) => void, failed: (error: unknown) => void) {
    this.#signal = signal
    this.#answered = answered
    this.#failed = failed
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#signal.aborted) this.#onAbort()
    else this.#signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return
    this.#answered({
      status,
      header: (name) => {
        const value = headers[name]
        return Array.isArray(value) ? value[0] : value
      },
      body: this,
      drop: () => this.#drop(),
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    this.#pending.push(chunk)
    this.#pendingBytes += chunk.byteLength
    if (this.#pendingBytes >= WINDOW_BYTES) controller.pause()
    this.#wake?.()
  }

  onResponseEnd(): void {
    this.#over({})
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#failed(error)
    this.#over({ error })
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<readonly Uint8Array[]> {
    for (;;) {
      if (this.#pending.length > 0) {
        const batch = this.#pending
        this.#pending = []
        this.#pendingBytes = 0
        if (this.#controller?.paused === true) this.#controller.resume()
        yield batch
      } else if (this.#end !== undefined) {
        if ('error' in this.#end) throw this.#end.error
        return
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve))
        this.#wake = undefined
      }
    }
  }

  #drop(): void {
    this.#pending = []
    if (this.#end === undefined) this.#controller?.abort(new Error('the answer is not read to its end'))
  }

  #over(end: { readonly error?: unknown }): void {
    this.#end ??= end
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#wake?.()
  }
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error('stopped', { cause: reason }))
