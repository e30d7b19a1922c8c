/**
 * TLS of the wire. Both ends know one authority, the cluster's own. The server proves that it is the server by a name
 * that only its certificate carries, whatever address it is reached by; a caller may come without a certificate (a Mac
 * that joins has none yet): what it may call is the matter of `identityOf`.
 */
import type { ChannelCredentials, ChannelOptions, ServerCredentials } from '@grpc/grpc-js'
import { credentials, experimental } from '@grpc/grpc-js'
import type { PeerCertificate } from 'node:tls'
import { alternativesOf } from '../lib/alternativenames.ts'
import type { CertificateFacts } from '../lib/x509.ts'

/** In the server's certificate, and in no other that the authority signs. */
export const SERVER_NAME = 'server.mctl'

export interface ServerTls {
  /** All that are trusted, one after the other. */
  readonly authorityPem: string
  /** The server's own, and after it the authority that signed it. */
  readonly certificatePem: string
  readonly keyPem: string
}

export interface ClientTls {
  /** All that are trusted, one after the other. */
  readonly authorityPem: string
  /** Absent: the call says nothing of who calls. */
  readonly own?: { readonly certificatePem: string; readonly keyPem: string }
}

/** Credentials that can be changed while a server listens: connections from then on see the new ones. */
export interface ChangingCredentials {
  readonly credentials: ServerCredentials
  change(tls: ServerTls): void
}

/** A certificate of another authority ends the handshake no differently than none: the call is then nobody's. */
export function serverCredentials(first: ServerTls): ChangingCredentials {
  const authorities = new Told({ caCertificate: Buffer.from(first.authorityPem) })
  const identities = new Told(identityOf(first))
  const provider: Parameters<typeof experimental.createCertificateProviderServerCredentials>[1] = {
    addCaCertificateListener: (listener) => authorities.add(listener),
    removeCaCertificateListener: (listener) => authorities.remove(listener),
    addIdentityCertificateListener: (listener) => identities.add(listener),
    removeIdentityCertificateListener: (listener) => identities.remove(listener),
  }
  return {
    credentials: experimental.createCertificateProviderServerCredentials(provider, provider, false),
    change(tls) {
      authorities.tell({ caCertificate: Buffer.from(tls.authorityPem) })
      identities.tell(identityOf(tls))
    },
  }
}

// The authority goes along: one who joins compares it with the hash that its token pins.
const identityOf = ({ certificatePem, keyPem }: ServerTls) => ({
  certificate: Buffer.from(certificatePem),
  privateKey: Buffer.from(keyPem),
})

/** A value, and who wants to hear of each new one. */
class Told<T> {
  #value: T
  readonly #listeners = new Set<(value: T) => void>()

  constructor(value: T) {
    this.#value = value
  }

  add(listener: (value: T) => void): void {
    this.#listeners.add(listener)
    process.nextTick(() => listener(this.#value))
  }

  remove(listener: (value: T) => void): void {
    this.#listeners.delete(listener)
  }

  tell(value: T): void {
    this.#value = value
    for (const listener of this.#listeners) listener(value)
  }
}

export function clientCredentials({ authorityPem, own }: ClientTls): ChannelCredentials {
  const pem = (text: string | undefined) => (text === undefined ? null : Buffer.from(text))
  return credentials.createSsl(Buffer.from(authorityPem), pem(own?.keyPem), pem(own?.certificatePem))
}

export const clientTlsOptions: ChannelOptions = {
  'grpc.ssl_target_name_override': SERVER_NAME,
  'grpc.default_authority': SERVER_NAME,
}

/** What the peer's certificate says, once the handshake has found it signed by the authority. */
export function factsOfPeer(certificate: PeerCertificate): CertificateFacts {
  const names = alternativesOf(certificate.subjectaltname)
  const only = (type: string) => names.filter(([t]) => t === type).map(([, name]) => name)
  return {
    commonName: one(certificate.subject.CN),
    organization: one(certificate.subject.O),
    uris: only('URI'),
    dnsNames: only('DNS'),
    serial: certificate.serialNumber.toLowerCase(),
    issuer: one(certificate.issuer.CN),
    notBeforeMs: Date.parse(certificate.valid_from),
    notAfterMs: Date.parse(certificate.valid_to),
  }
}

/** Our certificates name each once; of one that does not, no name counts. */
const one = (name: string | readonly string[] | undefined): string => (typeof name === 'string' ? name : '')
