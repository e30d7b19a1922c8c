/**
 * Who calls. On loopback without identities two headers say it; with certificates another function of the same type
 * (server/identities.ts) takes it from the peer's. Handlers see only the result.
 */
import { OpError } from '../lib/errors.ts'
import type { CertificateFacts } from '../lib/x509.ts'
import type { Identity } from './messages.ts'

export const USER_HEADER = 'mctl-user'
export const NODE_HEADER = 'mctl-node'

/** What a transport knows of a call before it reads the message. */
export interface CallFacts {
  header(name: string): string | undefined
  /** `ip:port` of the caller. */
  readonly peer: string
  /** Name of the call in the .proto: `Watch`. */
  readonly rpc: string
  /** Of a caller over TLS, signed by the cluster's authority and within its time when the connection was made. */
  readonly certificate?: CertificateFacts | undefined
}
/** Throws OpError Unauthorized when the caller is nobody. */
export type IdentityOf = (call: CallFacts) => Identity

/** The user of an agent without certificates, and its certificate's name later. */
export const nodeUser = (node: string): string => `system:node:${node}`

/** For loopback only: believes the headers. */
export function identityOfHeaders(call: CallFacts): Identity {
  const node = call.header(NODE_HEADER)
  if (node === undefined || node === '') return { user: call.header(USER_HEADER) || 'anonymous' }
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(node))
    throw new OpError('Unauthorized', `header ${NODE_HEADER}: ${JSON.stringify(node)} is not a node's name`)
  return { user: nodeUser(node), node }
}
