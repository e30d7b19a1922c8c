/**
 * Who may do what: people (User), programs that ask the gateway (ApiKey), and Macs that are not in the cluster yet
 * (JoinToken). Secrets are made where they are used and kept as hashes; deleting the object takes the right away.
 */
import { createHash } from 'node:crypto'
import { OpError } from '../lib/errors.ts'
import type { IssuedCertificate } from './authority.ts'
import type { ObjectMeta } from './meta.ts'

/** admin: everything; operator: everything but rights; viewer: reads. */
export const roles = ['admin', 'operator', 'viewer'] as const
export type Role = (typeof roles)[number]

export interface User {
  readonly apiVersion: string
  readonly kind: 'User'
  readonly metadata: ObjectMeta
  readonly spec: { readonly role: Role }
  /** Absent: of before certificates were remembered. */
  readonly status?: { readonly certificates: readonly IssuedCertificate[] }
}

export interface ApiKeySpec {
  /** `sha256:` and 64 hex digits of the secret, which has 244 random bits: there is nothing to guess. */
  readonly secretHash: string
  /** Requests per minute, all together; absent: no limit. */
  readonly requestsPerMinute?: number
}
export interface ApiKey {
  readonly apiVersion: string
  readonly kind: 'ApiKey'
  readonly metadata: ObjectMeta
  readonly spec: ApiKeySpec
}

export interface JoinTokenSpec {
  readonly secretHash: string
  /** RFC 3339. */
  readonly expiresAt: string
  /** The only node name that it is for; absent: any name that is free. */
  readonly node?: string
}
export interface JoinToken {
  readonly apiVersion: string
  readonly kind: 'JoinToken'
  readonly metadata: ObjectMeta
  readonly spec: JoinTokenSpec
  readonly status?: {
    readonly usedBy: string
    readonly usedAt: string
    /** SHA-256, in hex, of the request that it let in: the same one may ask again. */
    readonly keyHash: string
  }
}

/** The names that certificates carry: who signs in as what. */
export const SERVER_USER = 'system:server'
export const GATEWAY_USER = 'system:gateway'
export const NODE_USER_PREFIX = 'system:node:'
/** Organizations that certificates carry: a person named like a part of the system is not taken for it. */
export const NODES = 'mctl:nodes'
export const PEOPLE = 'mctl:people'
export const GATEWAYS = 'mctl:gateways'
export const SERVERS = 'mctl:servers'
/** What the gateway shows to programs; with it nobody calls anything. */
export const GATEWAY_DOORS = 'mctl:gateway-doors'

/** What the gateway expects of the door of a node's shardhost. */
export const nodeDnsName = (node: string): string => `${node}.node.mctl`

/** In a certificate's alternative names: the object whose deletion revokes it. */
export const UID_URI_PREFIX = 'mctl:uid:'

/** The hash that is kept of a secret. Secrets have 244 random bits: a slow hash would protect nothing more. */
export const hashOfSecret = (secret: string): string => `sha256:${sha256(secret)}`

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** A Node's annotation: certificates that were issued before this time (RFC 3339) are void, and the name may join anew. */
export const RESET_ANNOTATION = 'mctl.dev/reset-at'
/** A Node's annotation: when it joined last (RFC 3339). */
export const JOINED_ANNOTATION = 'mctl.dev/joined-at'

/** Whether it still lets somebody in: `Unused`, `Used` or `Expired`. */
export function tokenState({ spec, status }: JoinToken, nowMs: number): 'Unused' | 'Used' | 'Expired' {
  if (status !== undefined) return 'Used'
  return Date.parse(spec.expiresAt) <= nowMs ? 'Expired' : 'Unused'
}

/** What `mctl join-token create` prints and `mctl agent --token` takes. */
export interface JoinSecret {
  /** Lower-case hex of SHA-256 over the authority's certificate: the server must prove to be of that cluster first. */
  readonly authorityHash: string
  readonly id: string
  readonly secret: string
}

export const formatJoinSecret = ({ authorityHash, id, secret }: JoinSecret): string =>
  `K10${authorityHash}::${id}.${secret}`

/** OpError Invalid for anything else; the message does not repeat the secret. */
export function parseJoinSecret(text: string): JoinSecret {
  const match = /^K10([0-9a-f]{64})::([a-z0-9][-a-z0-9]{0,62})\.([A-Za-z0-9]{16,128})$/.exec(text.trim())
  if (match === null)
    throw new OpError(
      'Invalid',
      'the join token must be K10<hash>::<id>.<secret>, as `mctl join-token create` printed it',
    )
  const [, authorityHash = '', id = '', secret = ''] = match
  return { authorityHash, id, secret }
}
