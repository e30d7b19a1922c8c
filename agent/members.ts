/**
 * Who may knock at this node's doors for models and for measuring: certificates of nodes that the server still knows. What it said last counts
 * while it is away; before it said anything, a certificate of the cluster that has not run out is enough.
 */
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { Member } from '../src/api/peers.ts'
import { NODE_USER_PREFIX, UID_URI_PREFIX } from '../src/api/trust.ts'
import type { Logger } from '../src/lib/log.ts'
import { pemOf, readCertificate } from '../src/lib/x509.ts'
import type { CertificateFacts } from '../src/lib/x509.ts'

const MAX_TOLD = 1000

export class Members {
  #members: ReadonlyMap<string, Member> | undefined
  readonly #told = new Set<string>()

  set(members: readonly Member[]): void {
    this.#members = new Map(members.map((member) => [member.node, member]))
  }

  /** True once for each certificate, as long as there are not many: who logs refusals must not be made to log without end. */
  isNews({ serial }: CertificateFacts): boolean {
    if (this.#told.has(serial) || this.#told.size >= MAX_TOLD) return false
    this.#told.add(serial)
    return true
  }

  /** Why the certificate does not count any more; undefined: it does. */
  objection({ commonName, uris, notBeforeMs }: CertificateFacts): string | undefined {
    if (this.#members === undefined) return undefined
    const node = commonName.slice(NODE_USER_PREFIX.length)
    const member = this.#members.get(node)
    if (member === undefined || !uris.includes(`${UID_URI_PREFIX}${member.uid}`))
      return `the certificate of node "${node}" was revoked: its Node was deleted`
    return member.validFromMs !== undefined && notBeforeMs < member.validFromMs
      ? `the certificate of node "${node}" was revoked by a reset`
      : undefined
  }

  /** The same of whoever came over TLS: asked for each request, for a connection may be older than a revocation. */
  objectionTo(socket: Duplex, door: string, log: Logger): string | undefined {
    if (!(socket instanceof TLSSocket)) return undefined
    const certificate = readCertificate(pemOf(socket.getPeerCertificate().raw))
    const objection = this.objection(certificate)
    if (objection !== undefined && this.isNews(certificate))
      log.warn(`refused at the ${door} door`, { visitor: certificate.commonName, reason: objection })
    return objection
  }
}
