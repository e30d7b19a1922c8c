/**
 * Garbage collection by owner uid, as Kubernetes does it: what is owned by nobody who lives is deleted (Background);
 * a Foreground owner goes after its dependents; Orphan takes the owner's name out of its dependents first. Nodes are
 * never collected. (Events age in the store's own upkeep.)
 */
import type { MctlObject } from '../api/meta.ts'
import { keyOf } from '../api/meta.ts'
import { kindNames } from '../api/kinds.ts'
import { isBeingDeleted } from '../planner/actions.ts'
import { deleteObject, FOREGROUND_FINALIZER, ORPHAN_FINALIZER, removeFinalizer } from '../store/objects.ts'
import type { Change, Snapshot, Tx } from '../store/store.ts'
import type { ControllerDoors, Loop } from './controller.ts'

const collected = kindNames.filter((kind) => kind !== 'Node' && kind !== 'Event')

/** Keys are uids: of owners that go or went, and of dependents. */
export const gcLoop = ({ store }: ControllerDoors): Loop => ({
  name: 'gc',
  allKeys: (snapshot) =>
    collected
      .flatMap((kind) => snapshot.list(kind))
      .filter(mayConcern)
      .map((o) => o.metadata.uid),
  keysOf,
  async reconcile(uid) {
    await store.transact((tx) => collect(tx, uid))
    return undefined
  },
})

/** Owners that went, that are going in a special way, and dependents that came or went. */
function keysOf({ type, object }: Change, snapshot: Snapshot): readonly string[] {
  const owners = (object.metadata.ownerReferences ?? []).map((owner) => owner.uid)
  if (type === 'DELETED') return [...owners, ...snapshot.ownedBy(object.metadata.uid).map((o) => o.metadata.uid)]
  return mayConcern(object) ? [object.metadata.uid] : []
}

const mayConcern = ({ metadata }: MctlObject): boolean =>
  (metadata.ownerReferences ?? []).length > 0 ||
  metadata.finalizers?.includes(FOREGROUND_FINALIZER) === true ||
  metadata.finalizers?.includes(ORPHAN_FINALIZER) === true

function collect(tx: Tx, uid: string): void {
  const object = tx.getByUid(uid)
  if (object === undefined || object.kind === 'Node') return
  if (isBeingDeleted(object)) return release(tx, object)
  const owners = object.metadata.ownerReferences ?? []
  if (owners.length > 0 && owners.every((owner) => tx.getByUid(owner.uid) === undefined))
    deleteObject(tx, keyOf(object), { preconditions: { uid } })
}

function release(tx: Tx, owner: MctlObject): void {
  const { finalizers = [], uid } = owner.metadata
  const dependents = tx.ownedBy(uid)
  if (finalizers.includes(ORPHAN_FINALIZER)) {
    for (const dependent of dependents) disown(tx, dependent, uid)
    removeFinalizer(tx, owner, ORPHAN_FINALIZER)
    return
  }
  if (!finalizers.includes(FOREGROUND_FINALIZER)) return
  if (dependents.length === 0) return void removeFinalizer(tx, owner, FOREGROUND_FINALIZER)
  for (const dependent of dependents)
    if (!isBeingDeleted(dependent)) deleteObject(tx, keyOf(dependent), { propagation: 'Foreground' })
}

function disown(tx: Tx, dependent: MctlObject, ownerUid: string): void {
  const { ownerReferences = [], ...metadata } = dependent.metadata
  const left = ownerReferences.filter((owner) => owner.uid !== ownerUid)
  tx.put({ ...dependent, metadata: left.length === 0 ? metadata : { ...metadata, ownerReferences: left } })
}
