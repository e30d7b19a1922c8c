/**
 * A way through the network for an engine's own protocol, which knows neither keys nor passwords. The engine's programs
 * speak to 127.0.0.1 on both machines; between the machines are HTTP CONNECT and, once there are identities, TLS in which
 * both sides show who they are: the way in belongs to the rank that leads, and it names the shard that it means. Bytes
 * pass as they are, with the pace of the slower side; an end or a failure of one side is one of the other.
 */
import type { IncomingMessage, Server } from 'node:http'
import { request } from 'node:http'
import type { Server as NetServer } from 'node:net'
import { Socket, connect, createServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { NODES, NODE_USER_PREFIX, nodeDnsName } from '../../src/api/trust.ts'
import { messageOf } from '../../src/lib/errors.ts'
import { splitHostPort } from '../../src/lib/hostport.ts'
import { doorServer, readIdentity, visitorAt } from '../doorserver.ts'
import { SHARD_HEADER } from './door.ts'

const CONNECT_TIMEOUT_MS = 5_000

export interface TunnelEnd {
  /** `ip:port` where the far machine opens the way in. */
  readonly address: string
  /** The node there, by its certificate. */
  readonly node: string
  /** The shard that is meant. */
  readonly shardUid: string
}

export interface ExitOptions {
  /** `ip:port` to listen on. */
  readonly address: string
  readonly shardUid: string
  /** The only node that may come in. */
  readonly visitor: string
  /** Where the engine listens on 127.0.0.1. */
  readonly enginePort: number
  /** Absent: plain, on loopback. */
  readonly credentialsFile?: string | undefined
}

/** The side of the engine that is spoken to: a door to one port of this machine. */
export class TunnelExit {
  readonly #options: ExitOptions
  readonly #server: Server
  readonly #open = new Set<Duplex>()

  constructor(options: ExitOptions) {
    this.#options = options
    this.#server = doorServer(options.credentialsFile, NODES, (_, reply) => void reply.writeHead(405).end())
    this.#server.on('connect', (incoming, socket, head) => this.#onConnect(incoming, socket, head))
  }

  /** Rejects when the port is taken. */
  listen(): Promise<void> {
    const { host, port } = splitHostPort(this.#options.address)
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port, exclusive: true }, () =>
        resolve(this.#server.off('error', reject) && undefined),
      )
    })
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
    for (const socket of this.#open) socket.destroy()
  }

  #onConnect(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
    socket.on('error', () => socket.destroy())
    // Not a matter of the protocol that the connection was made for.
    if (socket instanceof Socket) socket.allowHalfOpen = true
    const refusal = this.#refusalOf(incoming)
    if (refusal !== undefined) return void socket.end(`HTTP/1.1 ${refusal}\r\n\r\n`)
    const engine = connect({ host: '127.0.0.1', port: this.#options.enginePort, allowHalfOpen: true, noDelay: true })
    const onRefused = (error: Error) =>
      socket.end(`HTTP/1.1 503 ${error.message.replaceAll(/[^\x20-\x7e]/g, ' ')}\r\n\r\n`)
    engine.once('error', onRefused)
    socket.once('close', () => engine.destroy())
    engine.once('connect', () => {
      engine.off('error', onRefused)
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
      if (head.length > 0) engine.write(head)
      joinStreams(socket, engine)
    })
  }

  #refusalOf({ socket, headers }: IncomingMessage): string | undefined {
    const { shardUid, visitor, credentialsFile } = this.#options
    if (credentialsFile !== undefined && visitorAt(socket, NODES) !== `${NODE_USER_PREFIX}${visitor}`)
      return '403 this rank is led by another node'
    return headers[SHARD_HEADER] === shardUid ? undefined : '421 this is the door of another shard'
  }
}

/** The side of the engine that speaks: a port on 127.0.0.1 of the system's choice, each connection to which goes through. */
export class TunnelEntrance {
  readonly #far: TunnelEnd
  readonly #credentialsFile: string | undefined
  readonly #server: NetServer
  readonly #open = new Set<Duplex>()

  constructor(far: TunnelEnd, credentialsFile: string | undefined) {
    this.#far = far
    this.#credentialsFile = credentialsFile
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => void this.#through(socket))
  }

  /** Resolves with the port. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host: '127.0.0.1', port: 0, exclusive: true }, () => {
        this.#server.off('error', reject)
        resolve((this.#server.address() as { port: number }).port)
      })
    })
  }

  /** Would a connection get through to an engine that listens? undefined: yes; else why not. */
  async obstacle(signal: AbortSignal): Promise<string | undefined> {
    try {
      const socket = await this.#reach(signal)
      socket.destroy()
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#open) socket.destroy()
  }

  async #through(socket: Socket): Promise<void> {
    this.#open.add(socket)
    const gone = new AbortController()
    socket.once('close', () => {
      this.#open.delete(socket)
      gone.abort()
    })
    socket.on('error', () => socket.destroy())
    try {
      // What the engine says meanwhile waits in the socket.
      const far = await this.#reach(gone.signal)
      if (socket.destroyed) return void far.destroy()
      joinStreams(socket, far)
    } catch {
      socket.destroy()
    }
  }

  async #reach(signal: AbortSignal): Promise<Duplex> {
    const { address, shardUid } = this.#far
    const { host, port } = splitHostPort(address)
    const connection = this.#dial(host, port)
    const call = request({
      method: 'CONNECT',
      path: 'engine:0',
      host,
      port,
      headers: { [SHARD_HEADER]: shardUid },
      createConnection: () => connection,
      timeout: CONNECT_TIMEOUT_MS,
      signal,
    })
    return new Promise((resolve, reject) => {
      call.once('timeout', () => call.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS / 1000} s`)))
      call.once('error', reject)
      call.once('connect', (reply: IncomingMessage, socket: Socket, head: Buffer) => {
        // Without its lines of text: Node's own parser has read them, and hands on what came after them.
        if (head.length > 0) socket.unshift(head)
        socket.setTimeout(0)
        if (reply.statusCode === 200) return resolve(socket)
        socket.destroy()
        reject(new Error(`${reply.statusCode} ${reply.statusMessage}`))
      })
      call.end()
    })
  }

  #dial(host: string, port: number): Socket {
    const socket = { host, port, allowHalfOpen: true, noDelay: true }
    if (this.#credentialsFile === undefined) return connect(socket)
    const { authorityPem, certificatePem, keyPem } = readIdentity(this.#credentialsFile)
    const servername = nodeDnsName(this.#far.node)
    return connectTls({
      ...socket,
      ...{ ca: authorityPem, cert: certificatePem, key: keyPem, servername, minVersion: 'TLSv1.3' as const },
    })
  }
}

/** What one side says the other hears, at the pace at which it listens; a side that fails takes the other with it. */
export function joinStreams(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.once('close', () => {
      if (!from.readableEnded) to.destroy()
    })
  }
}
