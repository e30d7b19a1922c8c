/**
 * Letting go: an object that is deleted stands with a deletionTimestamp until its last finalizer is taken away. Who
 * holds a finalizer has something to clean up first.
 */
import type { MctlObject } from '../api/meta.ts'
import { keyOf, timestamp } from '../api/meta.ts'
import { AGENT_FINALIZER } from '../api/words.ts'
import type { Tx } from './store.ts'

export type Propagation = 'Background' | 'Foreground' | 'Orphan'

/** Finalizers that tell the garbage collection how to treat dependents; it removes them when it is done. */
export const FOREGROUND_FINALIZER = 'foregroundDeletion'
export const ORPHAN_FINALIZER = 'orphan'

const marks: Readonly<Record<Propagation, readonly string[]>> = {
  Background: [],
  Foreground: [FOREGROUND_FINALIZER],
  Orphan: [ORPHAN_FINALIZER],
}

/**
 * Removes the object, or marks it while something holds it. A second deletion changes nothing, save that it may give
 * less grace. `graceSeconds` absent: that of its owners, which may be going.
 */
export function remove(
  tx: Tx,
  old: MctlObject,
  { propagation = 'Background', graceSeconds }: { readonly propagation?: Propagation; readonly graceSeconds?: number },
): { object: MctlObject; gone: boolean } {
  if (old.kind === 'Node') releaseShards(tx, old.metadata.name)
  if (old.metadata.deletionTimestamp !== undefined)
    return { object: graceSeconds === undefined ? old : hurried(tx, old, graceSeconds), gone: false }
  const held = new Set([...(old.metadata.finalizers ?? []), ...marks[propagation]])
  const marked = withGrace(markDeleted(old, tx.nowMs), graceSeconds ?? graceOfOwners(tx, old))
  const next = withFinalizerList(marked, [...held])
  if (!isReleased(next)) return { object: tx.put(next), gone: false }
  tx.remove(keyOf(old))
  return { object: old, gone: true }
}

/** Lets go of the object; undefined when that was the last finalizer of a deleted object, or the object is gone already. */
export function removeFinalizer<T extends MctlObject>(tx: Tx, object: T, name: string): T | undefined {
  const old = tx.getByUid(object.metadata.uid) as T | undefined
  if (old?.metadata.finalizers?.includes(name) !== true) return old
  const next = withFinalizerList(
    old,
    old.metadata.finalizers.filter((one) => one !== name),
  )
  if (!isReleased(next)) return tx.put(next)
  tx.remove(keyOf(old))
  return undefined
}

const graceOfOwners = (tx: Tx, { metadata }: MctlObject): number | undefined =>
  (metadata.ownerReferences ?? [])
    .flatMap((owner) => tx.getByUid(owner.uid)?.metadata.deletionGracePeriodSeconds ?? [])
    .sort((a, b) => a - b)[0]

const withGrace = <T extends MctlObject>(object: T, seconds: number | undefined): T =>
  seconds === undefined ? object : { ...object, metadata: { ...object.metadata, deletionGracePeriodSeconds: seconds } }

/** Gives an object that is going less time, and what is going with it. Never more: whoever saw the shorter one acts on it. */
function hurried(tx: Tx, object: MctlObject, seconds: number): MctlObject {
  const { deletionTimestamp, deletionGracePeriodSeconds = Infinity, uid } = object.metadata
  if (deletionTimestamp === undefined) return object
  for (const dependent of tx.ownedBy(uid)) hurried(tx, dependent, seconds)
  return deletionGracePeriodSeconds <= seconds ? object : tx.put(withGrace(object, seconds))
}

/** The Shards of a node that will never report again: deleted, and not held by its agent any more. */
function releaseShards(tx: Tx, nodeName: string): void {
  for (const shard of tx.list('Shard').filter(({ spec }) => spec.nodeName === nodeName)) {
    const marked = shard.metadata.deletionTimestamp === undefined ? tx.put(markDeleted(shard, tx.nowMs)) : shard
    removeFinalizer(tx, marked, AGENT_FINALIZER)
  }
}

const markDeleted = <T extends MctlObject>(object: T, nowMs: number): T => ({
  ...object,
  metadata: { ...object.metadata, deletionTimestamp: timestamp(nowMs) },
})

/** Deleted, and nobody holds it any more. */
export const isReleased = ({ metadata }: MctlObject): boolean =>
  metadata.deletionTimestamp !== undefined && (metadata.finalizers ?? []).length === 0

export function withFinalizerList<T extends MctlObject>(object: T, finalizers: readonly string[]): T {
  const { finalizers: _old, ...metadata } = object.metadata
  return { ...object, metadata: finalizers.length === 0 ? metadata : { ...metadata, finalizers } }
}
