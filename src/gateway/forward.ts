/**
 * One try at one replica: the client's bytes to the leader's door, the answer's bytes back as they come. Nothing is
 * parsed or re-encoded; what is looked for is whether an event stream came to its own end, and at which pace.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher, Pool } from 'undici'
import type { Clock } from '../lib/clock.ts'
import type { Pace } from './pace.ts'
import { PaceMeter } from './pace.ts'
import type { Replica } from './routes.ts'

export type ForwardEnd =
  /** The whole answer was sent, whatever its status. */
  | { readonly kind: 'Done'; readonly status: number; readonly pace: Pace | undefined }
  /** Nothing was sent to the client yet: another replica may try. */
  | {
      readonly kind: 'NotStarted'
      readonly cause: string
      readonly stale: boolean
      /** The door said so itself: its shard is another one, is not ready, or stops. */
      readonly unserved: boolean
    }
  /** The answer broke off after its first byte. */
  | { readonly kind: 'BrokenOff'; readonly cause: string }
  | { readonly kind: 'ClientGone' }

export interface ForwardRequest {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly body: Buffer
  readonly replica: Replica
  readonly pool: Pool
  readonly clock: Clock
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  readonly onFirstByte: () => void
  readonly onTokens?: (tokens: number) => void
}

/** The door answers these before it has asked the engine: the request was not seen by anyone. */
const isUnserved = (status: number, headers: IncomingHttpHeaders): boolean =>
  status === 421 || headers['mctl-unserved'] !== undefined

export function forward(job: ForwardRequest): Promise<ForwardEnd> {
  return new Promise((resolve) => {
    const handler = new ReplyHandler(job, resolve)
    job.pool.dispatch(
      { path: job.request.url ?? '/', method: 'POST', headers: requestHeaders(job), body: job.body },
      handler,
    )
  })
}

function requestHeaders(job: ForwardRequest): Record<string, string> {
  const { accept } = job.request.headers
  return {
    'content-type': job.request.headers['content-type'] ?? 'application/json',
    'mctl-shard': job.replica.shardUid,
    ...(accept === undefined ? {} : { accept }),
  }
}

class ReplyHandler implements Dispatcher.DispatchHandler {
  readonly #job: ForwardRequest
  readonly #resolve: (end: ForwardEnd) => void
  readonly #startedMs: number
  #status = 0
  #headers: IncomingHttpHeaders = {}
  #isStream = false
  #refused: string | undefined
  #stale = false
  #meter: PaceMeter | undefined
  #abort: (() => void) | undefined
  #resume: (() => void) | undefined

  constructor(job: ForwardRequest, resolve: (end: ForwardEnd) => void) {
    this.#job = job
    this.#resolve = resolve
    this.#startedMs = job.clock.monotonicMs()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    const { signal, response } = this.#job
    this.#abort = () => controller.abort(new Error('the client went away'))
    if (signal.aborted) this.#abort()
    else signal.addEventListener('abort', this.#abort, { once: true })
    this.#resume = () => controller.resume()
    response.on('drain', this.#resume)
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    const { replica } = this.#job
    this.#status = status
    if (isUnserved(status, headers)) {
      this.#refused = `the shard of ${replica.group} answered ${status}`
      this.#stale = status === 421
      return
    }
    this.#headers = headers
    this.#isStream = (headers['content-type'] ?? '').startsWith('text/event-stream')
    const { clock, onTokens } = this.#job
    if (status === 200)
      this.#meter = new PaceMeter({
        clock,
        ...(onTokens === undefined ? {} : { onTokens }),
        startedMs: this.#startedMs,
        isStream: this.#isStream,
        bodyBytes: this.#job.body.length,
      })
  }

  /** The head waits for the first byte of the body: until then another replica may still answer. */
  #sendHead(): void {
    const { response, replica, onFirstByte } = this.#job
    if (response.headersSent) return
    const length = this.#headers['content-length']
    response.setHeader('content-type', this.#headers['content-type'] ?? 'application/json')
    if (this.#isStream) response.setHeader('cache-control', 'no-cache')
    if (length !== undefined) response.setHeader('content-length', length)
    response.setHeader('mctl-served-by', replica.group)
    response.writeHead(this.#status)
    onFirstByte()
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#refused !== undefined) return
    this.#sendHead()
    this.#meter?.add(chunk)
    if (this.#job.response.write(chunk)) return
    this.#meter?.hold()
    controller.pause()
  }

  onResponseEnd(): void {
    if (this.#refused !== undefined)
      return this.#finish({ kind: 'NotStarted', cause: this.#refused, stale: this.#stale, unserved: true })
    // An engine that dies closes its stream just as one that is finished: only [DONE] tells them apart.
    if (this.#isStream && this.#meter?.saidDone === false)
      return this.#finish(this.#failure('the engine ended the stream before its end'))
    this.#sendHead()
    this.#job.response.end()
    this.#finish({ kind: 'Done', status: this.#status, pace: this.#meter?.pace() })
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    if (this.#job.signal.aborted) return this.#finish({ kind: 'ClientGone' })
    this.#finish(this.#failure(error.message))
  }

  #failure(cause: string): ForwardEnd {
    return this.#job.response.headersSent
      ? { kind: 'BrokenOff', cause }
      : { kind: 'NotStarted', cause, stale: false, unserved: false }
  }

  #finish(end: ForwardEnd): void {
    if (this.#abort !== undefined) this.#job.signal.removeEventListener('abort', this.#abort)
    if (this.#resume !== undefined) this.#job.response.off('drain', this.#resume)
    this.#resolve(end)
  }
}
