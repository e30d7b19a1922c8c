/** What a committed change is about, for the mapping of changes to keys. */
import { isTrue } from '../api/conditions.ts'
import type { MctlObject } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import type { AnyObject, ObjectOf } from '../api/objects.ts'
import { isDeepStrictEqual } from 'node:util'
import type { Change } from '../store/store.ts'

export function isOfKind<K extends keyof ObjectOf>(
  object: MctlObject | AnyObject,
  kind: K,
): object is ObjectOf[K] & MctlObject {
  return object.kind === kind
}

/** Nothing that a plan looks at differs: bound follows from groups, which have changes of their own. */
export function sameButBound(node: Node, previous: Node | undefined): boolean {
  if (previous === undefined) return false
  const seen = ({ metadata, spec, status }: Node) => ({
    labels: metadata.labels,
    deletionTimestamp: metadata.deletionTimestamp,
    spec,
    status: { ...status, bound: undefined },
  })
  return isDeepStrictEqual(seen(node), seen(previous))
}

/** The node appeared, went, or became reachable or silent. */
export function flippedReady({ type, object, previous }: Change): boolean {
  if (type !== 'MODIFIED' || previous === undefined) return true
  const ready = (node: MctlObject) => isTrue((node as Node).status?.conditions, 'Ready')
  return ready(object) !== ready(previous)
}

/** The drain of the node became one that may cost replicas, or ceased to be. */
export function flippedForce({ object, previous }: Change): boolean {
  const force = (node: MctlObject | undefined) => (node as Node | undefined)?.spec.drain?.force
  return force(object) !== force(previous)
}
