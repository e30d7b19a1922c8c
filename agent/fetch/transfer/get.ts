/**
 * GET with a body that is read into one large buffer, over and over: a client of streams makes a new piece for each
 * 64 KiB, which costs more than the hashing of it. One connection per request, for files are large.
 */
import { connect as connectPlain, isIP } from 'node:net'
import type { OnReadOpts, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { HTTPParser } from 'http-parser-js'
import type { Clock } from '../../../src/lib/clock.ts'
import { OpError } from '../../../src/lib/errors.ts'
import type { FileRequest, Head } from './transfers.ts'

export interface BodyReader {
  /** Called once; the body is waited with until it resolves. Rejecting ends the request with that error. */
  readonly onHead: (head: Head) => Promise<void>
  /** A piece of the body, valid during the call. False: enough. */
  readonly onBody: (piece: Uint8Array) => boolean
}

export interface GetDoors {
  readonly clock: Clock
  readonly buffer: Buffer
}

/** Resolves when the body is read to its end, or enough of it. Redirects are followed and not told. */
export async function get(
  doors: GetDoors,
  request: FileRequest,
  reader: BodyReader,
  signal: AbortSignal,
): Promise<void> {
  let url = new URL(request.url)
  for (let hop = 0; hop <= request.redirects; hop += 1) {
    const redirected = await new Exchange(doors, { ...request, url: url.href }, reader, signal).run(
      url.origin === new URL(request.url).origin,
    )
    if (redirected === undefined) return
    const next = new URL(redirected, url)
    if (next.protocol !== 'https:' && (next.protocol !== 'http:' || url.protocol === 'https:')) break
    url = next
  }
  throw new OpError('Unavailable', `the hub redirects without end, or to no address, at last from ${url.origin}`)
}

/** One request and its answer. */
class Exchange {
  readonly #doors: GetDoors
  readonly #request: FileRequest
  readonly #reader: BodyReader
  readonly #signal: AbortSignal
  readonly #parser = new HTTPParser(HTTPParser.RESPONSE)
  readonly #resolve: (redirectedTo: string | undefined) => void
  readonly #reject: (error: unknown) => void
  readonly #ended: Promise<string | undefined>
  #socket: Socket | undefined
  #isOver = false
  /** Until the head is judged, what came with it is kept aside. */
  #held: Buffer[] | undefined
  #isComplete = false

  constructor(doors: GetDoors, request: FileRequest, reader: BodyReader, signal: AbortSignal) {
    this.#doors = doors
    this.#request = request
    this.#reader = reader
    this.#signal = signal
    const { promise, resolve, reject } = withResolvers<string | undefined>()
    this.#ended = promise
    this.#resolve = resolve
    this.#reject = reject
  }

  /** Resolves with where it redirects to, or undefined when the body was read. */
  async run(isHome: boolean): Promise<string | undefined> {
    const { url, connectMsMax } = this.#request
    this.#signal.throwIfAborted()
    const onAbort = () => this.#fail(this.#signal.reason)
    this.#signal.addEventListener('abort', onAbort, { once: true })
    const late = new Error(`no connection to ${new URL(url).host} within ${connectMsMax / 1000} s`)
    const timer = this.#doors.clock.after(connectMsMax, () => this.#fail(late))
    try {
      this.#parse()
      this.#socket = this.#connect(() => {
        timer.cancel()
        this.#socket?.write(this.#text(isHome))
      })
      this.#socket.on('error', (error) => this.#fail(error))
      this.#socket.on('end', () => this.#onEnd())
      this.#socket.on('close', () => this.#onEnd())
      return await this.#ended
    } finally {
      timer.cancel()
      this.#signal.removeEventListener('abort', onAbort)
      this.#socket?.destroy()
    }
  }

  #connect(onConnect: () => void): Socket {
    const { url, identity } = this.#request
    const { protocol, hostname, port } = new URL(url)
    const host = hostname.replace(/^\[|\]$/g, '')
    const onread: OnReadOpts = { buffer: this.#doors.buffer, callback: (bytes) => this.#onRead(bytes) }
    if (protocol === 'http:') return connectPlain({ host, port: Number(port || 80), onread }, onConnect)
    const name = isIP(host) === 0 ? { servername: host } : {}
    const options = { host, port: Number(port || 443), ALPNProtocols: ['http/1.1'], ...name, ...identity }
    // Documented, and not known to its types.
    return connectTls(Object.assign(options, { onread }), onConnect)
  }

  #text(isHome: boolean): string {
    const { url, headers, authorization } = this.#request
    const { host, pathname, search } = new URL(url)
    const own = isHome && authorization !== undefined ? { authorization } : {}
    const lines = Object.entries({ host, connection: 'close', ...headers, ...own }).map(([name, value]) => {
      if (/[\r\n\0]/.test(value)) throw new OpError('Invalid', `the value of the header ${name} holds a line end`)
      return `${name}: ${value}\r\n`
    })
    return `GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`
  }

  #parse(): void {
    const parser = this.#parser
    parser[HTTPParser.kOnHeadersComplete] = ({ statusCode, headers }) => {
      const head = headOf(statusCode, headers)
      if (!/^\d*$/.test(head.headers['content-length'] ?? '')) throw new Error('its content-length is no number')
      if (statusCode >= 200) this.#onHead(head)
    }
    parser[HTTPParser.kOnBody] = (chunk, offset, length) => {
      // The parser believes a chunk of negative length, and would go round in it.
      if (length < 0) throw new Error('a chunk of its body has no length')
      this.#onBody(chunk.subarray(offset, offset + length))
    }
    parser[HTTPParser.kOnMessageComplete] = () => {
      // Also called after a head without an answer yet (1xx).
      this.#isComplete = this.#hasHead
      if (this.#isComplete && this.#held === undefined) this.#end()
    }
  }

  #hasHead = false

  #onHead(head: Head): void {
    this.#hasHead = true
    const { location } = head.headers
    if (head.status >= 300 && head.status < 400 && location !== undefined) return this.#end(location)
    this.#held = []
    this.#reader.onHead(head).then(
      () => this.#release(),
      (error) => this.#fail(error),
    )
  }

  /** The head is judged: the body may come. */
  #release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    try {
      for (const piece of held) this.#onBody(piece)
    } catch (error) {
      this.#fail(error)
    }
    if (this.#isComplete) return this.#end()
    if (this.#isOver) return
    this.#socket?.resume()
    if (this.#socket?.readableEnded === true || this.#socket?.destroyed === true) this.#onEnd()
  }

  /** False: no more for now. */
  #onRead(bytes: number): boolean {
    if (this.#isOver) return false
    try {
      const result = this.#parser.execute(this.#doors.buffer, 0, bytes)
      // Of an answer that came in one piece it says afterwards that its head was too long.
      if (result instanceof Error && !this.#isComplete) this.#fail(result)
    } catch (error) {
      this.#fail(error)
    }
    return !this.#isOver && this.#held === undefined
  }

  #onBody(piece: Uint8Array): void {
    if (this.#isOver) return
    if (this.#held !== undefined) this.#held.push(Buffer.from(piece))
    else if (!this.#reader.onBody(piece)) this.#end()
  }

  /** No more bytes come. A body without a length is whole then. */
  #onEnd(): void {
    if (this.#isOver || this.#held !== undefined) return
    if (!this.#hasHead) return this.#fail(new Error('the connection was closed without an answer'))
    const broken = this.#parser.finish()
    if (broken instanceof Error || !this.#isComplete) this.#fail(new Error('the connection was closed in mid-answer'))
  }

  #end(redirectedTo?: string): void {
    this.#isOver = true
    this.#resolve(redirectedTo)
  }

  #fail(error: unknown): void {
    this.#isOver = true
    this.#reject(error)
  }
}

function headOf(status: number, pairs: readonly string[]): Head {
  const headers: Record<string, string> = {}
  for (let at = 0; at + 1 < pairs.length; at += 2) headers[(pairs[at] ?? '').toLowerCase()] ??= pairs[at + 1] ?? ''
  return { status, headers }
}

/** As Promise.withResolvers, which Node 20 does not have. */
function withResolvers<T>() {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
