/**
 * Load on the server at little cost of its own: gRPC calls as ready-made HTTP/2 frames (RFC 9113) over plain sockets, one
 * call at a time on each connection. 64 typed clients in one process need more of the machine than the server that they
 * measure; what etcd's and nginx's figures are taken with is as lean as this.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Codec, RequestOf } from '../../src/rpc/codec.ts'
import { unaryCalls } from '../../src/rpc/codec.ts'
import { USER_HEADER } from '../../src/rpc/identity.ts'
import type { Unary } from '../../src/rpc/messages.ts'
import { protoMethod } from '../../src/rpc/proto.ts'

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const FRAME_HEAD_BYTES = 9
const types = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 } as const
const END_STREAM = 0x1
const ACK = 0x1
const END_HEADERS = 0x4
/** No dynamic table (id 1) and all the window there is (id 4): replies need neither state nor updates. */
const SETTINGS = Buffer.from([0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff])
const WINDOW = Buffer.from([0x7f, 0xff, 0, 0])

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)])

/** HPACK without state: names by the static table where it has them, values as they are. */
function headerBlock(path: string, authority: string): Buffer {
  const POST = 0x83
  const HTTP = 0x86
  return Buffer.concat([
    Buffer.from([POST, HTTP, 0x04]),
    text(path),
    Buffer.from([0x01]),
    text(authority),
    ...(['content-type', 'application/grpc', 'te', 'trailers', USER_HEADER, 'bench'] as const).map((word, i) =>
      i % 2 === 0 ? Buffer.concat([Buffer.from([0x00]), text(word)]) : text(word),
    ),
  ])
}

function grpcMessage(bytes: Uint8Array): Buffer {
  const message = Buffer.alloc(5 + bytes.length)
  message.writeUInt32BE(bytes.length, 1)
  message.set(bytes, 5)
  return message
}

/** One connection that makes one call after the other. */
export class Load<M extends Unary> {
  readonly #socket: Socket
  readonly #headers: Buffer
  readonly #encode: (request: RequestOf<M>) => Buffer
  #rest: Buffer = Buffer.alloc(0)
  #stream = -1
  #hasReply = false
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined

  private constructor(socket: Socket, address: string, name: M) {
    const { rpc, request } = unaryCalls[name] as { rpc: string; request: Codec<RequestOf<M>> }
    const { path, requestSerialize } = protoMethod(rpc)
    this.#socket = socket
    this.#headers = headerBlock(path, address)
    this.#encode = (value) => grpcMessage(requestSerialize(request.encode(value)))
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#onBytes(bytes))
    socket.on('close', () => this.#settle?.reject(new Error('the server closed the connection')))
    socket.on('error', (error) => this.#settle?.reject(error))
    socket.write(
      Buffer.concat([PREFACE, frame(types.settings, 0, 0, SETTINGS), frame(types.windowUpdate, 0, 0, WINDOW)]),
    )
  }

  static open<M extends Unary>(address: string, name: M): Promise<Load<M>> {
    const [host = '', port = ''] = address.split(':')
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port), host, () => resolve(new Load(socket, address, name)))
      socket.once('error', reject)
    })
  }

  /** Resolves when the server has answered with a message; rejects when it refused. */
  call(request: RequestOf<M>): Promise<void> {
    this.#stream += 2
    this.#hasReply = false
    const answered = new Promise<void>((resolve, reject) => (this.#settle = { resolve, reject }))
    this.#socket.write(
      Buffer.concat([
        frame(types.headers, END_HEADERS, this.#stream, this.#headers),
        frame(types.data, END_STREAM, this.#stream, this.#encode(request)),
      ]),
    )
    return answered
  }

  close(): void {
    this.#settle = undefined
    this.#socket.destroy()
  }

  #onBytes(bytes: Buffer): void {
    let left = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    while (left.length >= FRAME_HEAD_BYTES) {
      const end = FRAME_HEAD_BYTES + left.readUIntBE(0, 3)
      if (left.length < end) break
      this.#onFrame(left[3] ?? 0, left[4] ?? 0, left.subarray(FRAME_HEAD_BYTES, end))
      left = left.subarray(end)
    }
    this.#rest = left
  }

  #onFrame(type: number, flags: number, payload: Buffer): void {
    if ((type === types.settings || type === types.ping) && (flags & ACK) === 0)
      this.#socket.write(frame(type, ACK, 0, type === types.ping ? payload : Buffer.alloc(0)))
    if (type === types.goaway || type === types.reset) this.#settle?.reject(new Error('the server broke off the call'))
    // A refusal is a status without a message.
    if (type === types.data) this.#hasReply = true
    if (type !== types.headers || (flags & END_STREAM) === 0) return
    if (this.#hasReply) this.#settle?.resolve()
    else this.#settle?.reject(new Error('the server refused the call'))
  }
}
