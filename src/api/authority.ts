/**
 * An authority that signs the cluster's certificates. There is one, and two while the cluster changes from one to the
 * next: first everybody comes to trust both, then the new one signs, and when nobody lives on the old one it is retired.
 */
import type { ObjectMeta } from './meta.ts'

/**
 * Introduced: trusted, and signs nothing yet. Signing: signs what agents and people ask for. Outgoing: signs no more for
 * them, and is still what the server and its gateway show, because who was away knows only this one. Retiring: shown no
 * more, and trusted for the seconds until the gateway shows the other one.
 */
export const authorityPhases = ['Introduced', 'Signing', 'Outgoing', 'Retiring'] as const
export type AuthorityPhase = (typeof authorityPhases)[number]

export interface AuthoritySpec {
  /** Common name in its certificate, and as the issuer in all that it signed; no two authorities share one. */
  readonly subject: string
  /** Lower-case hex of SHA-256 over its certificate: what join tokens pin. */
  readonly fingerprint: string
  /** RFC 3339. */
  readonly expiresAt: string
}

/** Somebody for whose sake the next step waits. */
export interface Holdup {
  readonly kind: 'Node' | 'User' | 'Gateway'
  readonly name: string
  readonly reason: string
  readonly remedy: string
}

export interface AuthorityStatus {
  readonly phase: AuthorityPhase
  /** RFC 3339: when it came into this phase. */
  readonly since: string
  /** Introduced: who does not trust it yet. Outgoing: who still lives on it. */
  readonly waitingFor?: readonly Holdup[]
}

export interface Authority {
  readonly apiVersion: string
  readonly kind: 'Authority'
  readonly metadata: ObjectMeta
  readonly spec: AuthoritySpec
  readonly status?: AuthorityStatus
}

/** Its object's name: `ca-` and the first 8 digits of its fingerprint. */
export const authorityName = (fingerprint: string): string => `ca-${fingerprint.slice(0, 8)}`

export const authorityPhase = ({ status }: Authority): AuthorityPhase => status?.phase ?? 'Signing'

/** The one that signs what is asked for now. */
export const signingOf = (authorities: readonly Authority[]): Authority | undefined =>
  authorities.find((authority) => authorityPhase(authority) === 'Signing')

/** The one whose certificates the server and its gateway show: of two the older, which everybody knows. */
export const shownOf = (authorities: readonly Authority[]): Authority | undefined =>
  authorities.find((authority) => authorityPhase(authority) === 'Outgoing') ?? signingOf(authorities)

/** A certificate that was issued to a person, as their User remembers it. */
export interface IssuedCertificate {
  readonly serial: string
  /** Name of the authority that signed it. */
  readonly authority: string
  /** RFC 3339. */
  readonly expiresAt: string
}

/** What a Node's agent lives on, as the server saw it at the last session. */
export interface NodeTrust {
  /** Name of the authority that signed the certificate which the agent showed. */
  readonly authority: string
  /** RFC 3339: the end of that certificate. */
  readonly expiresAt: string
  /** Fingerprints of the authorities that the agent trusts; absent: it is too old to tell. */
  readonly trusts?: readonly string[]
}
