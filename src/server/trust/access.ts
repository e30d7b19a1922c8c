/**
 * What each caller may do. An agent: read its own Node and the Shards bound to it, write their status, hold one session.
 * The gateway: read what routing needs. People: by role; without identities (loopback) everything. Pure; refusals say
 * what would be allowed.
 */
import type { KindName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { Shard } from '../../api/shard.ts'
import { parseFieldSelector } from '../../api/selectors.ts'
import { OpError } from '../../lib/errors.ts'
import type { Identity, Selection } from '../../rpc/messages.ts'

/** Kinds that give rights: an admin's matter, to read them too (hashes are in them). */
const rights: readonly string[] = ['User', 'ApiKey', 'JoinToken'] satisfies readonly KindName[]
const gatewayReads: readonly string[] = [
  'Node',
  'ModelDeployment',
  'ShardGroup',
  'Shard',
  'ApiKey',
] satisfies readonly KindName[]

/** OpError Forbidden when the caller may not write an object of the kind. `verb` is what was tried: `apply`. */
export function checkWrite(identity: Identity, verb: string, kind: string): void {
  const { user, role, node } = identity
  checkKnown(identity)
  if (kind === 'Authority')
    throw new OpError(
      'Forbidden',
      `nobody may ${verb} an authority: \`mctl authority rotate\` and \`mctl authority retire\` change them`,
    )
  if (node !== undefined)
    throw forbiddenToAgent(node, `may not ${verb} objects: agents report the status of their own node and shards`)
  if (role === undefined || role === 'admin' || (role === 'operator' && !rights.includes(kind))) return
  const who = role === 'operator' ? 'an admin' : 'an operator or admin'
  throw new OpError('Forbidden', `user "${user}" (${role}) may not ${verb} objects of kind ${kind}: only ${who} may`)
}

/** OpError Forbidden when an agent calls for what only people and the control plane do. */
export function checkPerson(identity: Identity, verb: string): void {
  checkKnown(identity)
  if (identity.node !== undefined)
    throw forbiddenToAgent(identity.node, `may not ${verb}: agents report the status of their own node and shards`)
  if (identity.role === 'gateway') throw new OpError('Forbidden', `the gateway may not ${verb}`)
}

/** Somebody who may only ask to join: OpError Unauthorized. */
export function checkKnown({ anonymous }: Identity): void {
  if (anonymous === true) throw new OpError('Unauthorized', 'no client certificate of this cluster came with the call')
}

/** Is the object one that the caller may see? */
export function isOwn({ node, role }: Identity, object: MctlObject): boolean {
  const { kind, metadata } = object
  if (node !== undefined) {
    if (kind === 'Node') return metadata.name === node
    return kind === 'Shard' && (object as Shard).spec.nodeName === node
  }
  return mayRead(role, kind)
}

function mayRead(role: Identity['role'], kind: string): boolean {
  if (role === undefined || role === 'admin') return true
  return role === 'gateway' ? gatewayReads.includes(kind) : !rights.includes(kind)
}

/** OpError Forbidden when the object is not the caller's to read, or to write the status of: `verb` says which was tried. */
export function checkOwn(identity: Identity, object: MctlObject, verb: string): void {
  if (isOwn(identity, object)) return
  const { kind, metadata } = object
  if (identity.node === undefined) throw forbiddenKind(identity, verb, kind)
  throw forbiddenToAgent(identity.node, `may not ${verb} ${kind.toLowerCase()} "${metadata.name}": it is not its own`)
}

/** Status is written by agents, and by people who may do everything. */
export function checkStatusWriter(identity: Identity, object: MctlObject): void {
  const { node, role } = identity
  if (node === undefined && role !== undefined && role !== 'admin')
    throw forbiddenKind(identity, 'write the status of', object.kind)
  checkOwn(identity, object, 'write the status of')
}

/**
 * OpError Forbidden when a list or watch is not narrowed to what the caller may see: a selection that is silently cut
 * would look like an empty cluster.
 */
export function checkSelection(identity: Identity, { kind, fieldSelector = '' }: Selection): void {
  const { node, role } = identity
  checkKnown(identity)
  if (node === undefined) {
    if (!mayRead(role, kind)) throw forbiddenKind(identity, 'read', kind)
    return
  }
  const field = kind === 'Shard' ? 'spec.nodeName' : kind === 'Node' ? 'metadata.name' : undefined
  const isNarrow = parseFieldSelector(fieldSelector).some((r) => r.field === field && r.equal && r.value === node)
  if (field === undefined) throw forbiddenToAgent(node, `may not read objects of kind ${kind}`)
  if (!isNarrow) throw forbiddenToAgent(node, `may read ${kind}s only with the field selector ${field}=${node}`)
}

const forbiddenToAgent = (node: string, why: string): OpError =>
  new OpError('Forbidden', `the agent of node "${node}" ${why}`)

function forbiddenKind({ user, role }: Identity, verb: string, kind: string): OpError {
  const who = role === 'gateway' ? 'the gateway' : `user "${user}" (${role})`
  return new OpError('Forbidden', `${who} may not ${verb} objects of kind ${kind}: only an admin may`)
}
