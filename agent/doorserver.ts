/**
 * The listening half of a door: plain on loopback; with the node's credentials over TLS, for those of one organization of
 * the cluster (gateways, nodes) and nobody else. The credentials' file is looked at for each connection: it is renewed
 * while hosts live for months.
 */
import { constants } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket, createSecureContext } from 'node:tls'
import type { SecureContext, SecureContextOptions } from 'node:tls'
import { NODES } from '../src/api/trust.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Members } from './members.ts'

/** `visitors`: the organization that the certificate of whoever knocks must carry. */
export function doorServer(credentialsFile: string | undefined, visitors: string, onRequest: RequestListener): Server {
  if (credentialsFile === undefined) return createServer(onRequest)
  const contexts = new Contexts(credentialsFile)
  const server = createTlsServer({
    ...contexts.options(),
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: true,
    // A ticket would let a certificate in whose authority was retired since.
    secureOptions: constants.SSL_OP_NO_TICKET,
    SNICallback: (_, done) => {
      try {
        done(null, contexts.current())
      } catch (error) {
        done(error as Error)
      }
    },
  })
  // Every node and person has a certificate of the same authority: only the visitors' open this door.
  server.on('secureConnection', (socket: TLSSocket) => {
    // Who names no node is shown the certificate, and judged by the authorities, of this process's start.
    if (visitorAt(socket, visitors) === undefined || !socket.servername) socket.destroy()
  })
  // What came with the last bytes of the handshake was read already when that connection was cut.
  server.on('request', (request, reply) => {
    if (visitorAt(request.socket, visitors) === undefined) request.socket.destroy()
    else onRequest(request, reply)
  })
  return server
}

/** Name in the certificate of whoever came through such a door, if it is of that organization. */
export function visitorAt(socket: Duplex, organization: string): string | undefined {
  if (!(socket instanceof TLSSocket) || socket.destroyed) return undefined
  const { O, CN } = socket.getPeerCertificate()?.subject ?? {}
  return O === organization && typeof CN === 'string' ? CN : undefined
}

export interface NodeIdentity {
  readonly keyPem: string
  readonly certificatePem: string
  readonly authorityPem: string
}

export const readIdentity = (credentialsFile: string): NodeIdentity =>
  JSON.parse(readFileSync(credentialsFile, 'utf8')) as NodeIdentity

export interface NodesDoorOptions {
  /** In the log: 'models', 'measuring'. */
  readonly name: string
  readonly credentialsFile?: string | undefined
  /** Whose certificates count. Absent: all of the cluster's nodes. */
  readonly members?: Members | undefined
  readonly log: Logger
}

/** Opens a door for other nodes, on a port of the system's choice: GETs of agents whose Node still stands, nobody else's. */
export function openNodesDoor(options: NodesDoorOptions, onRequest: RequestListener): Promise<OpenDoor> {
  const server = doorServer(options.credentialsFile, NODES, (request, response) => {
    const objection = objectionTo(options, request)
    if (objection === undefined) onRequest(request, response)
    else response.writeHead(403, { 'content-type': 'text/plain' }).end(objection)
  })
  return listening(server, options.credentialsFile)
}

function objectionTo({ name, members, log }: NodesDoorOptions, request: IncomingMessage): string | undefined {
  const objection = members?.objectionTo(request.socket, name, log)
  if (objection !== undefined) return objection
  // A web page on this machine is no peer: browsers say where a request comes from.
  const stranger = request.headers.origin !== undefined || request.headers['sec-fetch-site'] !== undefined
  return request.method !== 'GET' || stranger ? 'only agents ask here' : undefined
}

export interface OpenDoor {
  readonly port: number
  close(): Promise<void>
}

/** Listens on a port of the system's choice: on every link of the node with credentials, else on loopback only. */
async function listening(server: Server, credentialsFile: string | undefined): Promise<OpenDoor> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    if (credentialsFile === undefined) server.listen(0, '127.0.0.1', resolve)
    else server.listen(0, resolve)
  })
  const { port } = server.address() as AddressInfo
  const close = (): Promise<void> => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(() => resolve()))
  }
  return { port, close }
}

class Contexts {
  readonly #file: string
  #known: { readonly modifiedMs: number; readonly context: SecureContext } | undefined

  constructor(file: string) {
    this.#file = file
  }

  options(): SecureContextOptions {
    const { keyPem, certificatePem, authorityPem } = readIdentity(this.#file)
    return { key: keyPem, cert: certificatePem, ca: authorityPem }
  }

  current(): SecureContext {
    const modifiedMs = statSync(this.#file).mtimeMs
    if (this.#known?.modifiedMs !== modifiedMs)
      this.#known = { modifiedMs, context: createSecureContext({ ...this.options(), minVersion: 'TLSv1.3' }) }
    return this.#known.context
  }
}
