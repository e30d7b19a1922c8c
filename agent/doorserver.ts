/**
 * The listening half of a door: plain on loopback; with the node's credentials over TLS, for those of one organization of
 * the cluster (gateways, nodes) and nobody else. The credentials' file is looked at for each connection: it is renewed
 * while hosts live for months.
 */
import { readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { RequestListener, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createSecureContext } from 'node:tls'
import type { SecureContext, SecureContextOptions, TLSSocket } from 'node:tls'

/** `visitors`: the organization that the certificate of whoever knocks must carry. */
export function doorServer(credentialsFile: string | undefined, visitors: string, onRequest: RequestListener): Server {
  if (credentialsFile === undefined) return createServer(onRequest)
  const contexts = new Contexts(credentialsFile)
  const server = createTlsServer({
    ...contexts.options(),
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: true,
    SNICallback: (_, done) => {
      try {
        done(null, contexts.current())
      } catch (error) {
        done(error as Error)
      }
    },
  })
  server.on('request', onRequest)
  // Every node and person has a certificate of the same authority: only the visitors' open this door.
  server.on('secureConnection', (socket: TLSSocket) => {
    if (socket.getPeerCertificate().subject?.O !== visitors) socket.destroy()
  })
  return server
}

class Contexts {
  readonly #file: string
  #known: { readonly modifiedMs: number; readonly context: SecureContext } | undefined

  constructor(file: string) {
    this.#file = file
  }

  options(): SecureContextOptions {
    const { keyPem, certificatePem, authorityPem } = JSON.parse(readFileSync(this.#file, 'utf8')) as Record<
      string,
      string
    >
    return { key: keyPem, cert: certificatePem, ca: authorityPem }
  }

  current(): SecureContext {
    const modifiedMs = statSync(this.#file).mtimeMs
    if (this.#known?.modifiedMs !== modifiedMs)
      this.#known = { modifiedMs, context: createSecureContext({ ...this.options(), minVersion: 'TLSv1.3' }) }
    return this.#known.context
  }
}
