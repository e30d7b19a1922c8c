/**
 * The leader's HTTP door: gateway → door → engine on loopback, untouched. It answers only for its own shard uid, so that
 * a stale routing table never reaches a stranger. Bytes go on as they come; a client that goes away takes its request
 * with it. When the engine fails after the head was sent, the client's connection is destroyed: no final chunk, no
 * missing byte that looks like an end; so the gateway can tell it from a whole answer.
 */
import { Agent, request } from 'node:http'
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { GATEWAYS } from '../../src/api/trust.ts'
import { doorServer } from '../doorserver.ts'
import type { Companion } from './companion.ts'

export const SHARD_HEADER = 'mctl-shard'
/** Tells the gateway that the engine has not seen the request: another replica may take it. */
const UNSERVED: OutgoingHttpHeaders = { 'mctl-unserved': '1' }

export interface DoorOptions {
  readonly address: string
  readonly port: number
  readonly enginePort: number
  readonly shardUid: string
  /** Absent: plain HTTP, on loopback. */
  readonly credentialsFile?: string | undefined
  /** Looks at each request before the engine does, and may answer it or hand on another body. Absent: bytes pass untouched. */
  readonly admit?: NonNullable<Companion['admit']>
}

export type DoorState = 'NotReady' | 'Open' | 'Draining'

/** Of one hop, not of the message: never passed on (RFC 9110 §7.6.1). */
const hopHeaders = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  SHARD_HEADER,
])
/** Longer than the gateway keeps an idle connection, so that it is never we who close on a request under way. */
const KEEP_ALIVE_MS = 120_000
/** As the mlx shim's. */
const BODY_BYTES_MAX = 32 * 2 ** 20
/** llama-server closes after 5 s, mlx at once. */
const ENGINE_IDLE_MS = 4000

export class Door {
  readonly #options: DoorOptions
  readonly #server: Server
  /** Let go after a short idle time, before any engine does: a body cannot be sent twice. HTTP/1.0 ones close anyway. */
  readonly #engineConnections = new Agent({ keepAlive: true, timeout: ENGINE_IDLE_MS, noDelay: true })
  readonly #drained: (() => void)[] = []
  #state: DoorState = 'NotReady'
  #inFlight = 0
  #taken = 0

  constructor(options: DoorOptions) {
    this.#options = options
    this.#server = doorServer(options.credentialsFile, GATEWAYS, (incoming, reply) => this.#onRequest(incoming, reply))
    this.#server.keepAliveTimeout = KEEP_ALIVE_MS
    this.#server.requestTimeout = 0
  }

  /** Rejects when the port is taken. Resolves with the port, which the OS chooses for port 0. */
  listen(): Promise<number> {
    const { address, port } = this.#options
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host: address, port, exclusive: true }, () => {
        this.#server.off('error', reject)
        resolve((this.#server.address() as AddressInfo).port)
      })
    })
  }

  set(state: DoorState): void {
    this.#state = state
  }

  /** Requests that the engine answers now. */
  inFlight(): number {
    return this.#inFlight
  }

  /** Requests that it was given so far. */
  taken(): number {
    return this.#taken
  }

  /** Resolves when no request is in flight. */
  drained(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve()
    return new Promise((resolve) => this.#drained.push(resolve))
  }

  /** Ends every connection, those with an answer under way too. */
  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
    this.#engineConnections.destroy()
  }

  #onRequest(incoming: IncomingMessage, reply: ServerResponse): void {
    const refusal = refusalOf(incoming.headers[SHARD_HEADER], this.#options.shardUid, this.#state)
    if (refusal !== undefined) return refuse(reply, refusal, UNSERVED)
    this.#inFlight += 1
    this.#taken += 1
    reply.once('close', () => this.#onDone())
    if (this.#options.admit === undefined) this.#forward(incoming, reply)
    else void this.#admit(incoming, reply, this.#options.admit)
  }

  /** The body is read whole; a client that goes away meanwhile is forgotten. */
  async #admit(incoming: IncomingMessage, reply: ServerResponse, admit: NonNullable<DoorOptions['admit']>) {
    const gone = new AbortController()
    reply.once('close', () => gone.abort())
    const body = await readBody(incoming)
    if (body === 'Gone') return
    if (body === 'TooLarge')
      return refuse(reply, { status: 413, code: 'body_too_large', message: `the body is over ${BODY_BYTES_MAX} bytes` })
    const { method = 'GET', url: path = '/' } = incoming
    const admission = await admit({ method, path, body }, gone.signal)
    if (reply.destroyed) return
    if (admission.kind === 'Answered') return answer(reply, admission.status, admission.body)
    this.#forward(incoming, reply, { path: admission.path, body: admission.body ?? '' })
  }

  #onDone(): void {
    this.#inFlight -= 1
    if (this.#inFlight === 0) for (const resolve of this.#drained.splice(0)) resolve()
  }

  #forward(incoming: IncomingMessage, reply: ServerResponse, instead?: { path: string; body: string }): void {
    const upstream = request({
      host: '127.0.0.1',
      port: this.#options.enginePort,
      method: incoming.method ?? 'GET',
      path: instead?.path ?? incoming.url ?? '/',
      headers: instead === undefined ? passedOn(incoming.rawHeaders) : withLength(incoming.rawHeaders, instead.body),
      agent: this.#engineConnections,
    })
    upstream.on('response', (answer) => relay(answer, reply))
    upstream.on('error', (error) => onUpstreamError(reply, error))
    reply.once('close', () => {
      if (!reply.writableFinished) upstream.destroy()
    })
    if (instead === undefined) send(incoming, upstream)
    else upstream.end(instead.body)
  }
}

async function readBody(incoming: IncomingMessage): Promise<Buffer | 'Gone' | 'TooLarge'> {
  const parts: Buffer[] = []
  let bytes = 0
  try {
    for await (const part of incoming as AsyncIterable<Buffer>) {
      bytes += part.length
      // Read on to its end: a client that is still sending hears no answer.
      if (bytes <= BODY_BYTES_MAX) parts.push(part)
    }
  } catch {
    return 'Gone'
  }
  return bytes > BODY_BYTES_MAX ? 'TooLarge' : Buffer.concat(parts)
}

/** The request's body; one without any ends at once. */
function send(incoming: IncomingMessage, upstream: ClientRequest): void {
  const hasBody =
    incoming.headers['content-length'] !== undefined || incoming.headers['transfer-encoding'] !== undefined
  if (hasBody) incoming.pipe(upstream)
  else upstream.end()
}

function relay(answer: IncomingMessage, reply: ServerResponse): void {
  reply.writeHead(answer.statusCode ?? 502, answer.statusMessage, passedOn(answer.rawHeaders))
  // The head of a stream goes out before its first token; any other waits for its first bytes, one packet for both.
  if (isEventStream(answer)) reply.flushHeaders()
  const ending = new StreamEnding(answer)
  answer.on('data', (chunk: Buffer) => {
    ending.push(chunk)
    if (!reply.write(chunk)) answer.pause()
  })
  reply.on('drain', () => answer.resume())
  answer.on('end', () => {
    if (answer.complete && ending.whole()) reply.end()
    else reply.destroy()
  })
  answer.on('error', () => reply.destroy())
}

const isEventStream = (answer: IncomingMessage): boolean =>
  answer.headers['content-type']?.startsWith('text/event-stream') === true

/**
 * HTTP/1.0 streams end with the connection, and so does a killed engine: only the stream's own last word tells them
 * apart. A stream that the protocol bounds (chunks, length) needs no such look.
 */
class StreamEnding {
  readonly #untold: boolean
  #tail = ''

  constructor(answer: IncomingMessage) {
    const bounded = answer.headers['content-length'] !== undefined || answer.headers['transfer-encoding'] !== undefined
    this.#untold = !bounded && isEventStream(answer) && answer.statusCode === 200
  }

  push(chunk: Buffer): void {
    if (this.#untold) this.#tail = (this.#tail + chunk.subarray(-32).toString('latin1')).slice(-32)
  }

  whole(): boolean {
    return !this.#untold || this.#tail.trimEnd().endsWith('[DONE]')
  }
}

function onUpstreamError(reply: ServerResponse, error: Error): void {
  // An engine that has answered may close before it has read the whole body; the answer stands.
  if (reply.writableEnded) return
  if (reply.headersSent) return void reply.destroy()
  refuse(reply, { status: 502, code: 'engine_unavailable', message: `the engine did not answer: ${error.message}` })
}

interface DoorRefusal {
  readonly status: number
  readonly code: string
  readonly message: string
}

/** Pure: why this request does not pass. Another uid comes first: the caller's table is stale whatever our state. */
export function refusalOf(
  asked: string | readonly string[] | undefined,
  shardUid: string,
  state: DoorState,
): DoorRefusal | undefined {
  if (asked !== shardUid) {
    const other = asked === undefined ? 'no shard' : `shard ${String(asked)}`
    const message = `this is the door of shard ${shardUid}, the request names ${other}`
    return { status: 421, code: 'wrong_shard', message }
  }
  if (state === 'NotReady') return { status: 503, code: 'shard_not_ready', message: 'the shard is not Ready yet' }
  if (state === 'Draining') return { status: 503, code: 'shard_stopping', message: 'the shard is stopping' }
  return undefined
}

function refuse(
  reply: ServerResponse,
  { status, code, message }: DoorRefusal,
  headers: OutgoingHttpHeaders = {},
): void {
  answer(reply, status, { error: { message, type: 'mctl_error', code } }, headers)
}

function answer(reply: ServerResponse, status: number, body: unknown, headers: OutgoingHttpHeaders = {}): void {
  if (reply.destroyed) return
  const text = JSON.stringify(body)
  reply.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...headers,
  })
  reply.end(text)
}

/** Raw header pairs without those of the hop: spelling, order and repeats stay. */
export function passedOn(rawHeaders: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = [rawHeaders[i], rawHeaders[i + 1]]
    if (!hopHeaders.has(name.toLowerCase())) kept.push(name, value)
  }
  return kept
}

/** Those of the client, with the length of another body. */
function withLength(rawHeaders: readonly string[], body: string): string[] {
  const kept: string[] = []
  const passed = passedOn(rawHeaders)
  for (let i = 0; i + 1 < passed.length; i += 2)
    if ((passed[i] ?? '').toLowerCase() !== 'content-length') kept.push(passed[i] ?? '', passed[i + 1] ?? '')
  return body === '' ? kept : [...kept, 'content-length', String(Buffer.byteLength(body))]
}
