/**
 * The client's side of gRPC: one connection per `connect`, opened by the first call and again after it was lost. Every
 * failure is an OpError; a server that cannot be reached is Unavailable within `connectTimeoutMs`.
 */
import type { ChannelOptions, ServiceError } from '@grpc/grpc-js'
import { Client as GrpcClient, Metadata, connectivityState, credentials } from '@grpc/grpc-js'
import { systemClock } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import type { Transport } from './client.ts'
import { clientOn } from './client.ts'
import type { Codec, ReplyOf, RequestOf, StreamCall, UnaryCall, Wire } from './codec.ts'
import { logsCall, sessionCall, unaryCalls, watchCall } from './codec.ts'
import { ABORTED, orAborted } from './flow.ts'
import { NODE_HEADER, USER_HEADER } from './identity.ts'
import { MAX_MESSAGE_BYTES } from './json.ts'
import type { AgentMessage, CallOptions, Client, ServerMessage, Unary } from './messages.ts'
import { protoMethod } from './proto.ts'
import { ERROR_TRAILER, fromNativeStatus, fromTrailer, grpcCodes } from './status.ts'
import type { ClientTls } from './tls.ts'
import { clientCredentials, clientTlsOptions } from './tls.ts'

export interface ConnectOptions {
  /** Who calls, on loopback without identities. */
  readonly user?: string
  /** Set by agents: the node's name. */
  readonly node?: string
  /** Deadline of a unary call. Default 30 s. */
  readonly timeoutMs?: number
  /** Default 10 s. */
  readonly connectTimeoutMs?: number
  /** Absent: in the clear. */
  readonly tls?: ClientTls
}

const channelOptions: ChannelOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // A write that may have happened is not sent again behind the caller's back.
  'grpc.enable_retries': 0,
  // The control plane is on the local network: a web proxy of the environment is not for it.
  'grpc.enable_http_proxy': 0,
  // Two clients of one process share nothing, least of all a slow reader's connection.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  // Counters that nobody reads.
  'grpc.enable_channelz': 0,
}

/** `address` is `host:port`; OpError Invalid when it is not. Does not wait: the first call connects. */
export function connect(address: string, options: ConnectOptions = {}): Client {
  const target = /^(?:https?:\/\/)?([^/]+:\d{1,5})\/?$/.exec(address.trim())?.[1]
  if (target === undefined)
    throw new OpError('Invalid', `server address ${JSON.stringify(address)}: must be HOST:PORT, e.g. 127.0.0.1:6480`)
  return clientOn(new GrpcTransport(target, options))
}

class GrpcTransport implements Transport {
  readonly #address: string
  readonly #timeoutMs: number
  readonly #connectTimeoutMs: number
  readonly #metadata = new Metadata()
  readonly #client: GrpcClient
  #closed = false

  constructor(address: string, options: ConnectOptions) {
    this.#address = address
    this.#timeoutMs = options.timeoutMs ?? 30_000
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 10_000
    if (options.user !== undefined) this.#metadata.set(USER_HEADER, options.user)
    if (options.node !== undefined) this.#metadata.set(NODE_HEADER, options.node)
    const { tls } = options
    this.#client =
      tls === undefined
        ? new GrpcClient(address, credentials.createInsecure(), channelOptions)
        : new GrpcClient(address, clientCredentials(tls), { ...channelOptions, ...clientTlsOptions })
  }

  close(): void {
    this.#closed = true
    this.#client.close()
  }

  async unary<M extends Unary>(name: M, request: RequestOf<M>, options: CallOptions = {}): Promise<ReplyOf<M>> {
    const { rpc, request: requests, reply: replies }: UnaryCall<M> = unaryCalls[name]
    const { path, requestSerialize, responseDeserialize } = protoMethod(rpc)
    const wire = requests.encode(request)
    if (!this.#isConnected(options.signal)) await this.#connected(options.signal)
    const { signal } = options
    const deadline = systemClock.nowMs() + (options.timeoutMs ?? this.#timeoutMs)
    const reply = await new Promise<Wire>((resolve, reject) => {
      const done = (error: ServiceError | null, answer?: Wire) => {
        signal?.removeEventListener('abort', cancel)
        if (error === null) resolve(answer ?? {})
        else reject(this.#opError(error, signal))
      }
      // Each call takes a copy of its own of the metadata.
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        wire,
        this.#metadata,
        { deadline },
        done,
      )
      const cancel = () => call.cancel()
      signal?.addEventListener('abort', cancel, { once: true })
    })
    return replies.decode(reply)
  }

  watch(request: RequestOf<'watch'>, options?: CallOptions) {
    return this.#stream(watchCall, request, options)
  }

  logs(request: RequestOf<'logs'>, options?: CallOptions) {
    return this.#stream(logsCall, request, options)
  }

  async *#stream<Request, Event>(
    { rpc, request: requests, event: events }: StreamCall<Request, Event>,
    request: Request,
    options: CallOptions = {},
  ): AsyncIterable<Event> {
    const { path, requestSerialize, responseDeserialize } = protoMethod(rpc)
    const wire = requests.encode(request)
    await this.#connected(options.signal)
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      wire,
      this.#metadata.clone(),
      this.#streamOptions(options),
    )
    yield* this.#events(call, events, options.signal)
  }

  async *nodeSession(messages: AsyncIterable<AgentMessage>, options: CallOptions = {}): AsyncIterable<ServerMessage> {
    const { path, requestSerialize, responseDeserialize } = protoMethod(sessionCall.rpc)
    await this.#connected(options.signal)
    const call = this.#client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      this.#metadata.clone(),
      this.#streamOptions(options),
    )
    const closed = new AbortController()
    let failure: { error: unknown } | undefined
    void send(messages, sessionCall.up, call, closed.signal).catch((error: unknown) => {
      failure = { error }
      call.cancel()
    })
    try {
      yield* this.#events(call, sessionCall.down, options.signal)
    } catch (error) {
      // The caller's own messages failed: that is the reason, not the cancellation that followed from it.
      throw failure === undefined ? error : failure.error
    } finally {
      closed.abort()
    }
  }

  #streamOptions({ timeoutMs }: CallOptions): { deadline?: number } {
    return timeoutMs === undefined ? {} : { deadline: systemClock.nowMs() + timeoutMs }
  }

  /** Reads a call to its end; leaving the loop cancels it, aborting the signal throws Cancelled. */
  async *#events<Event>(
    call: AsyncIterable<unknown> & { cancel(): void; on(event: 'error', listener: () => void): unknown },
    codec: Codec<Event | undefined>,
    signal: AbortSignal | undefined,
  ): AsyncIterable<Event> {
    const cancel = () => call.cancel()
    // The status of a cancelled call comes after its reader has gone, and an unheard 'error' would end the process.
    call.on('error', () => {})
    signal?.addEventListener('abort', cancel, { once: true })
    if (signal?.aborted === true) cancel()
    try {
      for await (const wire of call) {
        const event = codec.decode(wire as Wire)
        if (event !== undefined) yield event
      }
    } catch (error) {
      throw error instanceof OpError ? error : this.#opError(error as ServiceError, signal)
    } finally {
      signal?.removeEventListener('abort', cancel)
      cancel()
    }
  }

  #opError(error: ServiceError, signal: AbortSignal | undefined): OpError {
    const trailer = error.metadata?.get(ERROR_TRAILER)[0]
    const known = trailer instanceof Buffer ? fromTrailer(trailer) : undefined
    if (known !== undefined) return known
    // The other side cancelled what we did not: it was cut off in the middle of a call.
    if (error.code === grpcCodes.Cancelled && signal?.aborted !== true && !this.#closed)
      return new OpError('Unavailable', `the server ${this.#address} broke off the call`)
    return fromNativeStatus(error.code, error.details ?? error.message, this.#address)
  }

  #isConnected(signal: AbortSignal | undefined): boolean {
    const isWanted = signal?.aborted !== true && !this.#closed
    return isWanted && this.#client.getChannel().getConnectivityState(false) === connectivityState.READY
  }

  /**
   * Resolves when there is a connection or its failure is known (the call then fails with the reason). gRPC alone would
   * keep a call to a silent address waiting until the call's own deadline.
   */
  async #connected(signal: AbortSignal | undefined): Promise<void> {
    const deadline = systemClock.nowMs() + this.#connectTimeoutMs
    for (;;) {
      if (signal?.aborted === true) throw new OpError('Cancelled', `call to ${this.#address} was cancelled`)
      if (this.#closed) throw new OpError('Cancelled', `call to ${this.#address}: the client was closed`)
      const channel = this.#client.getChannel()
      const state = channel.getConnectivityState(true)
      if (state !== connectivityState.IDLE && state !== connectivityState.CONNECTING) return
      const changed = new Promise<boolean>((resolve) =>
        channel.watchConnectivityState(state, deadline, (error?: Error | null) => resolve(!error)),
      )
      const isTimely = signal === undefined ? await changed : await orAborted(changed, signal)
      if (isTimely === false && !this.#closed)
        throw new OpError(
          'Unavailable',
          `Unable to connect to the server: ${this.#address}: no connection within ${this.#connectTimeoutMs / 1000} s`,
        )
    }
  }
}

interface Sending {
  write(message: Wire): boolean
  end(): unknown
  once(event: 'drain' | 'close', listener: () => void): unknown
}

/** Sends until the messages end (then half-closes) or the call is over. */
async function send<Message>(
  messages: AsyncIterable<Message>,
  codec: Pick<Codec<Message>, 'encode'>,
  call: Sending,
  closed: AbortSignal,
): Promise<void> {
  const iterator = messages[Symbol.asyncIterator]()
  for (;;) {
    const next = await orAborted(iterator.next(), closed)
    // A source that is waiting cannot be closed before it wakes.
    if (next === ABORTED) return void Promise.resolve(iterator.return?.()).catch(() => {})
    if (next.done === true) break
    if (!call.write(codec.encode(next.value)))
      await orAborted(new Promise<void>((resolve) => void call.once('drain', resolve)), closed)
  }
  call.end()
}
