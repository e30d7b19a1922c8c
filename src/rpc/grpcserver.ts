/**
 * Serves `Handlers` over gRPC. Decodes, finds out who calls, hands over, encodes; an OpError becomes a status by the
 * table of status.ts. Streams pull: the next event is asked for only when the peer has taken the last, so that a slow
 * watcher fills the store's bounded queue (and is closed by it), never our memory.
 */
import type {
  Metadata as GrpcMetadata,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
  sendUnaryData,
} from '@grpc/grpc-js'
import { Metadata, Server, ServerCredentials, logVerbosity, setLogVerbosity } from '@grpc/grpc-js'
import type { PeerCertificate } from 'node:tls'
import { systemClock } from '../lib/clock.ts'
import { OpError, isOpError } from '../lib/errors.ts'
import { joinHostPort, splitHostPort } from '../lib/hostport.ts'
import type { Logger } from '../lib/log.ts'
import type { Codec, StreamCall, UnaryCall, Wire } from './codec.ts'
import { logsCall, sessionCall, unaryCalls, unaryNames, watchCall } from './codec.ts'
import { Pipe } from './flow.ts'
import type { IdentityOf } from './identity.ts'
import { MAX_MESSAGE_BYTES } from './json.ts'
import type { AgentMessage, CallContext, Handlers, Identity, ServerMessage, Unary } from './messages.ts'
import { protoMethod, protoMethods } from './proto.ts'
import { ERROR_TRAILER, toStatus } from './status.ts'
import type { ServerTls } from './tls.ts'
import { factsOfPeer, serverCredentials } from './tls.ts'

export interface ServeOptions {
  /** `host:port`; port 0: any free one. */
  readonly listen: string
  readonly identityOf: IdentityOf
  /** Absent: in the clear, for loopback only. */
  readonly tls?: ServerTls
  readonly log: Logger
  /** Told of each unary call that ended: `code` is OK, else the OpError's. */
  readonly onCall?: ((rpc: string, code: string, durationMs: number) => void) | undefined
}
export interface RunningServer {
  /** `host:port` as bound. */
  readonly address: string
  /** Ends the open calls of callers whose right to call was taken away. */
  cut(isMeant: (caller: Identity) => boolean): void
  /** What the server shows and whom it trusts, for connections from now on. */
  changeTls(tls: ServerTls): void
  /** Ends streams with Unavailable, waits for calls in flight, after `graceMs` cuts what is left. */
  stop(graceMs: number): Promise<void>
}

const channelOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // Two servers on one port would each get half of the calls.
  'grpc.so_reuseport': 0,
  // Counters that nobody reads.
  'grpc.enable_channelz': 0,
}

/** OpError Unavailable when the address cannot be listened on. */
export async function serve(handlers: Handlers, options: ServeOptions): Promise<RunningServer> {
  // What goes wrong is told by our own errors and log lines.
  setLogVerbosity(logVerbosity.NONE)
  const server = new Server(channelOptions)
  const open = new OpenCalls(options)
  server.addService(protoMethods() as ServiceDefinition, implementation(handlers, open))
  const { host } = splitHostPort(options.listen)
  const secured = options.tls && serverCredentials(options.tls)
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(options.listen, secured?.credentials ?? ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(cannotListen(options.listen, error)),
    ),
  )
  return {
    address: joinHostPort(host, port),
    cut: (isMeant) => open.cut(isMeant),
    changeTls: (tls) => secured?.change(tls),
    stop: (graceMs) => stop(server, open, graceMs),
  }
}

function cannotListen(listen: string, cause: Error): OpError {
  return new OpError('Unavailable', `listen on ${listen}: choose another address, or stop what holds it`, { cause })
}

async function stop(server: Server, open: OpenCalls, graceMs: number): Promise<void> {
  open.stop()
  const timer = systemClock.after(graceMs, () => server.forceShutdown())
  await new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
  timer.cancel()
  // tryShutdown leaves idle connections of clients that never close them.
  server.forceShutdown()
}

interface AnyCall {
  readonly metadata: GrpcMetadata
  readonly cancelled: boolean
  getPeer(): string
  getAuthContext(): { readonly sslPeerCertificate?: PeerCertificate | undefined }
  once(event: 'cancelled', listener: () => void): unknown
}

/** A reason of our own spares the making of a DOMException, stack and all, at the end of every call. */
const OVER = 'the call is over'

/** What a handler knows of its call. Most unary calls never look at their signal: it is made when they do. */
class Context implements CallContext {
  readonly identity: Identity
  #controller: AbortController | undefined
  #isOver = false

  constructor(identity: Identity) {
    this.identity = identity
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#isOver) this.#controller.abort(OVER)
    return this.#controller.signal
  }

  get isOver(): boolean {
    return this.#isOver
  }

  end(): void {
    this.#isOver = true
    this.#controller?.abort(OVER)
  }
}

/** The calls in flight: each has a signal that aborts when its caller goes away or the server stops. */
class OpenCalls {
  readonly #options: ServeOptions
  readonly #contexts = new Set<Context>()
  #stopping = false

  constructor(options: ServeOptions) {
    this.#options = options
  }

  get stopping(): boolean {
    return this.#stopping
  }

  /** Starts the time of a call; the answer ends it with its code. */
  timed(rpc: string): ((code: string) => void) | undefined {
    const { onCall } = this.#options
    if (onCall === undefined) return undefined
    const startMs = systemClock.monotonicMs()
    return (code) => onCall(rpc, code, systemClock.monotonicMs() - startMs)
  }

  /** Runs `work` as one call. `answer` sends the error that it throws. */
  async run(
    rpc: string,
    call: AnyCall,
    work: (context: CallContext) => Promise<void>,
    answer: (error: unknown) => void,
  ): Promise<void> {
    let context: Context | undefined
    try {
      context = this.#begin(rpc, call)
      await work(context)
    } catch (error) {
      if (!isOpError(error) && context?.isOver !== true)
        this.#options.log.error('call failed by a bug', { call: rpc, error })
      answer(error)
    } finally {
      if (context !== undefined) this.#contexts.delete(context)
    }
  }

  cut(isMeant: (caller: Identity) => boolean): void {
    for (const context of this.#contexts) if (isMeant(context.identity)) context.end()
  }

  stop(): void {
    this.#stopping = true
    for (const context of this.#contexts) context.end()
  }

  #begin(rpc: string, call: AnyCall): Context {
    if (this.#stopping) throw stoppingError()
    const header = (name: string) => headerOf(call.metadata, name)
    const facts = {
      header,
      rpc,
      get peer() {
        return call.getPeer()
      },
      get certificate() {
        const { sslPeerCertificate: certificate } = call.getAuthContext()
        return certificate === undefined ? undefined : factsOfPeer(certificate)
      },
    }
    const context = new Context(this.#options.identityOf(facts))
    this.#contexts.add(context)
    call.once('cancelled', () => context.end())
    if (call.cancelled) context.end()
    return context
  }
}

const stoppingError = () => new OpError('Unavailable', 'the server is stopping', { retryAfterSeconds: 1 })

function headerOf(metadata: GrpcMetadata, name: string): string | undefined {
  const value = metadata.get(name)[0]
  return value === undefined ? undefined : String(value)
}

function implementation(handlers: Handlers, open: OpenCalls): UntypedServiceImplementation {
  const calls: UntypedServiceImplementation = {}
  for (const name of unaryNames) calls[unaryCalls[name].rpc] = unaryHandler(handlers, name, open)
  calls[watchCall.rpc] = streamHandler(watchCall, (request, context) => handlers.watch(request, context), open)
  calls[logsCall.rpc] = streamHandler(logsCall, (request, context) => handlers.logs(request, context), open)
  calls[sessionCall.rpc] = sessionHandler(handlers, open)
  for (const rpc of Object.keys(calls)) protoMethod(rpc)
  return calls
}

function unaryHandler<M extends Unary>(handlers: Handlers, name: M, open: OpenCalls) {
  const { rpc, request, reply }: UnaryCall<M> = unaryCalls[name]
  // TypeScript cannot see that the M of the table and of the handlers is one and the same.
  const handle = handlers[name].bind(handlers) as (request: unknown, context: CallContext) => Promise<unknown>
  return (call: ServerUnaryCall<Wire, Wire>, callback: sendUnaryData<Wire>): void => {
    const end = open.timed(rpc)
    const work = async (context: CallContext) => {
      const answer = await handle(request.decode(call.request), context)
      callback(null, (reply as Codec<unknown>).encode(answer))
      end?.('OK')
    }
    void open.run(rpc, call, work, (error) => {
      callback(serviceError(error))
      end?.(isOpError(error) ? error.code : 'Internal')
    })
  }
}

function streamHandler<Request, Event>(
  { rpc, request, event }: StreamCall<Request, Event>,
  handle: (request: Request, context: CallContext) => AsyncIterable<Event>,
  open: OpenCalls,
) {
  return (call: ServerWritableStream<Wire, Wire>): void => {
    const work = (context: CallContext) =>
      pump(handle(request.decode(call.request), context), call, event, context.signal, open)
    void open.run(rpc, call, work, (error) => call.emit('error', serviceError(error)))
  }
}

function sessionHandler(handlers: Handlers, open: OpenCalls) {
  const { rpc, up, down } = sessionCall
  return (call: ServerDuplexStream<Wire, Wire>): void => {
    const work = (context: CallContext) => {
      const messages = incoming<AgentMessage>(call, up, context.signal)
      return pump<ServerMessage>(handlers.nodeSession(messages, context), call, down, context.signal, open)
    }
    void open.run(rpc, call, work, (error) => call.emit('error', serviceError(error)))
  }
}

/** What a server stream and the sending half of a duplex have in common. */
interface Sink {
  readonly destroyed: boolean
  write(message: Wire): boolean
  end(): unknown
  once(event: 'drain' | 'close', listener: () => void): unknown
  off(event: 'drain' | 'close', listener: () => void): unknown
}

/** Writes events one by one, waiting for `drain` whenever the peer is behind; ends the call well when they end. */
async function pump<Event>(
  events: AsyncIterable<Event>,
  call: Sink,
  codec: Pick<Codec<Event>, 'encode'>,
  signal: AbortSignal,
  open: OpenCalls,
): Promise<void> {
  for await (const event of events) {
    if (signal.aborted || call.destroyed) break
    if (!call.write(codec.encode(event))) await drained(call, signal)
  }
  if (open.stopping) throw stoppingError()
  call.end()
}

function drained(call: Sink, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      call.off('drain', finish)
      call.off('close', finish)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    if (signal.aborted) return resolve()
    call.once('drain', finish)
    call.once('close', finish)
    signal.addEventListener('abort', finish, { once: true })
  })
}

/**
 * The peer's messages until it half-closes or goes away: for a handler both are simply the end. Not the stream's own
 * iterator, which destroys a duplex, sending half and status included, as soon as the reading half has ended.
 */
function incoming<Message>(
  call: ServerDuplexStream<Wire, Wire>,
  codec: Codec<Message | undefined>,
  signal: AbortSignal,
): AsyncIterable<Message> {
  const pipe = new Pipe<Message>(16)
  call.on('data', (wire: Wire) => {
    try {
      const message = codec.decode(wire)
      if (message === undefined || pipe.push(message)) return
    } catch (error) {
      pipe.fail(error)
    }
    call.pause()
    void pipe.room().then(() => call.resume())
  })
  call.once('end', () => pipe.end())
  signal.addEventListener('abort', () => pipe.cut(), { once: true })
  return pipe
}

function serviceError(error: unknown) {
  const { code, details, trailer } = toStatus(error)
  const metadata = new Metadata()
  metadata.set(ERROR_TRAILER, trailer)
  return { name: 'Error', message: details, code, details, metadata }
}
