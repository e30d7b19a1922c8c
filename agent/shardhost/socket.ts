/** The host's Unix socket: JSON lines, State out on connect and on change, Stop and Ping in. */
import { chmodSync, unlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { LineSplitter } from './lines.ts'
import type { FromHost, HostState, ToHost } from './protocol.ts'

export interface ControlHandlers {
  state(): HostState
  onMessage(message: ToHost): void
}

export class ControlSocket {
  readonly #path: string
  readonly #handlers: ControlHandlers
  readonly #server: Server
  readonly #clients = new Set<Socket>()

  constructor(path: string, handlers: ControlHandlers) {
    this.#path = path
    this.#handlers = handlers
    this.#server = createServer((socket) => this.#onClient(socket))
  }

  /** The host holds the shard's claim, so a file that stands there is a dead one's. */
  async listen(): Promise<void> {
    removeFile(this.#path)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.#path, resolve)
    })
    chmodSync(this.#path, 0o600)
  }

  /** Tells every connected agent. */
  tell(state: HostState): void {
    for (const client of this.#clients) send(client, state)
  }

  /** Lets the last State reach its readers, then closes; the socket file goes. */
  async close(): Promise<void> {
    this.#server.close()
    removeFile(this.#path)
    const ends = [...this.#clients].map((client) => new Promise<void>((resolve) => client.end(() => resolve())))
    await Promise.all(ends)
    for (const client of this.#clients) client.destroy()
  }

  #onClient(socket: Socket): void {
    this.#clients.add(socket)
    socket.on('close', () => this.#clients.delete(socket))
    socket.on('error', () => socket.destroy())
    const lines = new LineSplitter((line) => this.#onLine(socket, line))
    socket.on('data', (chunk: Buffer) => lines.push(chunk))
    send(socket, this.#handlers.state())
  }

  #onLine(socket: Socket, line: string): void {
    const message = parse(line)
    if (message?.type === 'Ping') send(socket, this.#handlers.state())
    else if (message !== undefined) this.#handlers.onMessage(message)
  }
}

function send(socket: Socket, state: HostState): void {
  const message: FromHost = { type: 'State', state }
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`)
}

function parse(line: string): ToHost | undefined {
  try {
    const message = JSON.parse(line) as Partial<ToHost> | null
    if (message?.type === 'Ping') return { type: 'Ping' }
    if (message?.type !== 'Stop' || typeof message.graceMs !== 'number') return undefined
    return message as ToHost
  } catch {
    return undefined
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
