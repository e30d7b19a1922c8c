/**
 * The wire without sockets, for tests and the simulator: the same codecs and JSON bytes, the same pull of streams through
 * a small window, the same cancelling. With a `Link` the network's faults come in.
 */
import type { Clock } from '../lib/clock.ts'
import { AnsweredError, OpError, isOpError, messageOf } from '../lib/errors.ts'
import type { Transport } from './client.ts'
import { clientOn } from './client.ts'
import type { Codec, ReplyOf, RequestOf, StreamCall, UnaryCall, Wire } from './codec.ts'
import { logsCall, sessionCall, unaryCalls, watchCall } from './codec.ts'
import { ABORTED, Pipe, orAborted } from './flow.ts'
import { MAX_MESSAGE_BYTES } from './json.ts'
import type {
  AgentMessage,
  CallContext,
  CallOptions,
  Client,
  Handlers,
  Identity,
  ServerMessage,
  Unary,
} from './messages.ts'
import type { Direction, Link } from './network.ts'

export interface MemoryClientOptions {
  readonly identity: Identity
  /** Deadlines are kept only with a clock. */
  readonly clock?: Clock
  readonly fault?: Link
}

/** Messages in flight per stream and direction, as an HTTP/2 window would hold. */
const WINDOW = 16
const UNARY_TIMEOUT_MS = 30_000
/** A reason of our own spares the making of a DOMException for every call. */
const OVER = 'the call is over'

export function memoryClient(handlers: Handlers, options: MemoryClientOptions): Client {
  return clientOn(new MemoryTransport(handlers, options))
}

class MemoryTransport implements Transport {
  readonly #handlers: Handlers
  readonly #options: MemoryClientOptions
  readonly #calls = new Set<Call>()

  constructor(handlers: Handlers, options: MemoryClientOptions) {
    this.#handlers = handlers
    this.#options = options
  }

  close(): void {
    for (const call of [...this.#calls]) call.break(new OpError('Cancelled', 'the client was closed'))
  }

  async unary<M extends Unary>(name: M, request: RequestOf<M>, options: CallOptions = {}): Promise<ReplyOf<M>> {
    const { request: requests, reply: replies }: UnaryCall<M> = unaryCalls[name]
    const handle = this.#handlers[name].bind(this.#handlers) as unknown as (
      request: RequestOf<M>,
      context: CallContext,
    ) => Promise<ReplyOf<M>>
    const wire = bounded(requests.encode(request))
    const call = this.#begin({ timeoutMs: UNARY_TIMEOUT_MS, ...options })
    try {
      await call.open()
      await call.cross('up')
      const reply = await call.hold(answer(handle, requests.decode(wire), call.context))
      const answerWire = bounded(replies.encode(reply))
      await call.cross('down')
      return replies.decode(answerWire)
    } catch (error) {
      throw call.reason(error)
    } finally {
      this.#end(call)
    }
  }

  watch(request: RequestOf<'watch'>, options?: CallOptions) {
    return this.#stream(watchCall, (r, context) => this.#handlers.watch(r, context), request, options)
  }

  logs(request: RequestOf<'logs'>, options?: CallOptions) {
    return this.#stream(logsCall, (r, context) => this.#handlers.logs(r, context), request, options)
  }

  async *#stream<Request, Event>(
    { request: requests, event: events }: StreamCall<Request, Event>,
    handle: (request: Request, context: CallContext) => AsyncIterable<Event>,
    request: Request,
    options: CallOptions = {},
  ): AsyncIterable<Event> {
    const wire = requests.encode(request)
    const call = this.#begin(options)
    try {
      await call.open()
      await call.cross('up')
      yield* this.#down(call, events, () => handle(requests.decode(wire), call.context))
    } catch (error) {
      throw call.reason(error)
    } finally {
      this.#end(call)
    }
  }

  async *nodeSession(messages: AsyncIterable<AgentMessage>, options: CallOptions = {}): AsyncIterable<ServerMessage> {
    const call = this.#begin(options)
    const up = new Pipe<AgentMessage>(WINDOW)
    call.onBreak(() => up.cut())
    try {
      await call.open()
      void carry(messages, sessionCall.up, up, call, 'up').catch((error: unknown) => call.break(error))
      yield* this.#down(call, sessionCall.down, () => this.#handlers.nodeSession(up, call.context))
    } catch (error) {
      throw call.reason(error)
    } finally {
      this.#end(call)
    }
  }

  /** The server's events, pumped through a window as a socket would. */
  async *#down<Event>(
    call: Call,
    codec: Codec<Event | undefined>,
    handle: () => AsyncIterable<Event>,
  ): AsyncIterable<Event> {
    const pipe = new Pipe<Event>(WINDOW)
    call.onBreak((error) => pipe.cut(error))
    const events = { [Symbol.asyncIterator]: () => handle()[Symbol.asyncIterator]() }
    void carry(events, codec, pipe, call, 'down').catch((error: unknown) => pipe.fail(asOpError(error)))
    yield* pipe
  }

  #begin(options: CallOptions): Call {
    const call = new Call(this.#options, options)
    this.#calls.add(call)
    return call
  }

  #end(call: Call): void {
    this.#calls.delete(call)
    call.end()
  }
}

/** One call: its signal aborts when the caller goes away, the deadline is over or the link breaks. */
class Call {
  readonly context: CallContext
  readonly #controller = new AbortController()
  readonly #link: Link | undefined
  readonly #cleanups: (() => void)[] = []
  readonly #breakListeners: ((error: unknown) => void)[] = []
  #broken: { error: unknown } | undefined

  constructor({ identity, clock, fault }: MemoryClientOptions, { signal, timeoutMs }: CallOptions) {
    this.#link = fault
    this.context = { identity, signal: this.#controller.signal }
    const cancel = () => this.break(new OpError('Cancelled', 'the call was cancelled'))
    if (signal?.aborted === true) cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    this.#cleanups.push(() => signal?.removeEventListener('abort', cancel))
    if (fault !== undefined) this.#cleanups.push(fault.onReset((error) => this.break(error)))
    if (clock === undefined || timeoutMs === undefined) return
    const timer = clock.after(timeoutMs, () =>
      this.break(new OpError('Timeout', `no answer from the server in time: ${timeoutMs / 1000} s`)),
    )
    this.#cleanups.push(() => timer.cancel())
  }

  async open(): Promise<void> {
    if (this.#link !== undefined) await this.hold(this.#link.open(this.context.signal))
    else this.#throwIfBroken()
  }

  async cross(direction: Direction): Promise<void> {
    if (this.#link !== undefined) await this.hold(this.#link.cross(this.context.signal, direction))
    else this.#throwIfBroken()
  }

  /** Waits, but not longer than the call lives. */
  async hold<T>(promise: Promise<T>): Promise<T> {
    const result = await orAborted(promise, this.context.signal)
    if (result === ABORTED) this.#throwIfBroken()
    return result as T
  }

  break(error: unknown): void {
    if (this.#broken !== undefined || this.#controller.signal.aborted) return
    this.#broken = { error }
    this.#controller.abort(OVER)
    for (const listener of this.#breakListeners) listener(error)
  }

  onBreak(listener: (error: unknown) => void): void {
    if (this.#broken !== undefined) listener(this.#broken.error)
    else this.#breakListeners.push(listener)
  }

  /** Why the call failed: the break, if there was one, for all else followed from it. */
  reason(error: unknown): OpError {
    return this.#broken === undefined ? answered(asOpError(error)) : asOpError(this.#broken.error)
  }

  end(): void {
    for (const cleanup of this.#cleanups.splice(0)) cleanup()
    this.#controller.abort(OVER)
  }

  #throwIfBroken(): void {
    if (this.#broken !== undefined) throw asOpError(this.#broken.error)
  }
}

/** Encodes, crosses the link, decodes, waits for room. Ends the pipe when the source ends or the call is over. */
async function carry<Message>(
  source: AsyncIterable<Message>,
  codec: Codec<Message | undefined>,
  pipe: Pipe<Message>,
  call: Call,
  direction: Direction,
): Promise<void> {
  const { signal } = call.context
  const iterator = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await orAborted(iterator.next(), signal)
      if (next === ABORTED || next.done === true) break
      const wire = bounded(codec.encode(next.value))
      await call.cross(direction)
      const message = codec.decode(wire)
      if (message !== undefined && !pipe.push(message)) await orAborted(pipe.room(), signal)
    }
    pipe.end()
  } finally {
    // A source that is waiting cannot be closed before it wakes; its signal is aborted, so it will.
    void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

/** A handler that throws before its first await fails as one that rejects. */
async function answer<Request, Reply>(
  handle: (request: Request, context: CallContext) => Promise<Reply>,
  request: Request,
  context: CallContext,
): Promise<Reply> {
  return await handle(request, context)
}

function asOpError(error: unknown): OpError {
  return isOpError(error) ? error : new OpError('Internal', `internal error: ${messageOf(error)}`, { cause: error })
}

/** As it comes out of the wire's trailer, but for its cause, which helps to find bugs. */
function answered(error: OpError): AnsweredError {
  const { code, message, causes, retryAfterSeconds, cause } = error
  return new AnsweredError(code, message, {
    causes,
    cause,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  })
}

/** The same limit as on the wire; only byte fields can be that large. */
function bounded(wire: Wire): Wire {
  const bytes = Object.values(wire)
    .flat()
    .reduce((sum: number, field: unknown) => sum + (field instanceof Uint8Array ? field.length : 0), 0)
  if (bytes > MAX_MESSAGE_BYTES)
    throw new OpError(
      'Invalid',
      `message is too large: ${bytes} bytes (the limit is ${MAX_MESSAGE_BYTES} bytes, 4 MiB)`,
    )
  return wire
}
