/**
 * What a node's agent may do: read its own Node and the Shards bound to it, write their status, hold one session. People
 * may do everything until roles come. Pure; refusals say what would be allowed.
 */
import type { MctlObject } from '../api/meta.ts'
import type { Shard } from '../api/shard.ts'
import { parseFieldSelector } from '../api/selectors.ts'
import { OpError } from '../lib/errors.ts'
import type { Identity, Selection } from '../rpc/messages.ts'

/** OpError Forbidden when an agent calls for what only people and the control plane do. */
export function checkPerson(identity: Identity, verb: string): void {
  if (identity.node === undefined) return
  throw forbidden(identity.node, `may not ${verb}: agents report the status of their own node and shards`)
}

/** Is the object the agent's own Node, or a Shard bound to it? People own everything. */
export function isOwn({ node }: Identity, object: MctlObject): boolean {
  if (node === undefined) return true
  if (object.kind === 'Node') return object.metadata.name === node
  return object.kind === 'Shard' && (object as Shard).spec.nodeName === node
}

/** OpError Forbidden when the object is not the agent's own. `verb` is what was tried: `read`, `write the status of`. */
export function checkOwn(identity: Identity, object: MctlObject, verb: string): void {
  if (isOwn(identity, object)) return
  const { kind, metadata } = object
  throw forbidden(identity.node ?? '', `may not ${verb} ${kind.toLowerCase()} "${metadata.name}": it is not its own`)
}

/**
 * OpError Forbidden when an agent's list or watch is not narrowed to what is its own: a selection that is silently cut
 * would look like an empty cluster.
 */
export function checkSelection({ node }: Identity, { kind, fieldSelector = '' }: Selection): void {
  if (node === undefined) return
  const field = kind === 'Shard' ? 'spec.nodeName' : kind === 'Node' ? 'metadata.name' : undefined
  const isNarrow = parseFieldSelector(fieldSelector).some((r) => r.field === field && r.equal && r.value === node)
  if (field === undefined) throw forbidden(node, `may not read objects of kind ${kind}`)
  if (!isNarrow) throw forbidden(node, `may read ${kind}s only with the field selector ${field}=${node}`)
}

const forbidden = (node: string, why: string): OpError => new OpError('Forbidden', `the agent of node "${node}" ${why}`)
