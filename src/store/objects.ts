/**
 * The one write door: default → validate → admit → merge → persist, as functions over a transaction. gRPC handlers,
 * controllers and GitOps write through here. Spec writers never touch status, status writers never touch spec; what
 * changes nothing returns the identical object and makes no revision.
 */
import type { Manifest, MctlObject, ObjectKey } from '../api/meta.ts'
import { keyOf } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import type { AnyObject, ObjectOf } from '../api/objects.ts'
import type { Shard } from '../api/shard.ts'
import type { StatusPatch } from '../api/statuspatch.ts'
import { applyStatusPatch } from '../api/statuspatch.ts'
import { OpError } from '../lib/errors.ts'
import { addressIn, addressOf, checkDelete, sound } from './admit.ts'
import { applied, withoutStaleDefaults } from './apply.ts'
import { equalJson, isMap } from './json.ts'
import { bookOf } from './managed.ts'
import type { PatchType } from './merge.ts'
import { patched } from './merge.ts'
import { alreadyExists, forbidden, notFound, uidNotFound } from './refusals.ts'
import type { Propagation } from './release.ts'
import { remove } from './release.ts'
import type { Tx } from './store.ts'
import type { Preconditions, WriteOptions, Written } from './writes.ts'
import {
  atRevision,
  checkPreconditions,
  create,
  finish,
  preconditionsIn,
  replaced,
  update,
  withStrays,
  written,
} from './writes.ts'

export { expireEvents, involvedObjectOf, recordEvent } from './events.ts'
export type { EventReport } from './events.ts'
export type { FieldValidation } from './admit.ts'
export type { PatchType } from './merge.ts'
export { FOREGROUND_FINALIZER, ORPHAN_FINALIZER, removeFinalizer } from './release.ts'
export type { Propagation } from './release.ts'
export type { Preconditions, WriteOptions, Written } from './writes.ts'

export interface ApplyOptions extends WriteOptions {
  readonly fieldManager: string
  /** Takes over fields that other managers own with another value. */
  readonly force?: boolean
}

export interface DeleteOptions {
  /** What becomes of the objects that it owns. Default Background. */
  readonly propagation?: Propagation
  /** Seconds from now until the engines behind it are killed. Absent: as long as a planned stop takes. */
  readonly graceSeconds?: number
  readonly dryRun?: boolean
  readonly preconditions?: Preconditions
}

/** The type behind a manifest's kind, where the compiler knows it. */
export type ObjectFor<M extends Manifest> = M['kind'] extends keyof ObjectOf ? ObjectOf[M['kind']] : MctlObject

/** Makes a new object; a status, uid or resourceVersion in the manifest is ignored. AlreadyExists, Invalid. */
export function createObject<M extends Manifest>(
  tx: Tx,
  manifest: M,
  options: WriteOptions = {},
): Written<ObjectFor<M>> {
  const address = addressOf(manifest)
  if (standing(tx, address) !== undefined) throw alreadyExists(address)
  return written(tx, options, undefined, () => create(tx, address, manifest, { ...options, as: 'Update' })) as Written<
    ObjectFor<M>
  >
}

/**
 * Replaces spec, labels and annotations (and owners and finalizers where the manifest names them). A uid or
 * resourceVersion in the manifest is a precondition. NotFound, Conflict, Invalid.
 */
export function updateObject<M extends Manifest>(
  tx: Tx,
  manifest: M,
  options: WriteOptions = {},
): Written<ObjectFor<M>> {
  const address = addressOf(manifest)
  const old = mustStand(tx, address)
  checkPreconditions(old, preconditionsIn(manifest.metadata))
  const { ownerReferences = old.metadata.ownerReferences, finalizers = old.metadata.finalizers } = manifest.metadata
  const sent = replaced(old, { ...manifest, metadata: { ...manifest.metadata, ownerReferences, finalizers } })
  return written(tx, options, old, () => update(tx, old, sent, options)) as Written<ObjectFor<M>>
}

/** Patches everything that an update may replace; what a patch says of status or of server-made metadata is ignored. */
export function patchObject(
  tx: Tx,
  ref: ObjectKey,
  type: PatchType,
  patch: unknown,
  options: WriteOptions & { readonly preconditions?: Preconditions } = {},
): Written {
  const old = mustStand(tx, addressIn(ref))
  checkPreconditions(old, options.preconditions ?? {})
  const result = patched(type, old, patch)
  if (!isMap(result)) throw new OpError('Invalid', `the patch leaves no object of ${ref.kind} "${ref.name}"`)
  const metadata = isMap(result['metadata']) ? result['metadata'] : {}
  checkPreconditions(old, preconditionsIn(metadata))
  const sent = withoutStaleDefaults(old, replaced(old, { ...result, metadata }))
  return written(tx, options, old, () => update(tx, old, sent, options))
}

/** Server-side apply: makes the object, or gives the manager exactly the fields of its manifest. Conflict names who owns them. */
export function applyObject<M extends Manifest>(tx: Tx, manifest: M, options: ApplyOptions): Written<ObjectFor<M>> {
  const address = addressOf(manifest)
  const old = standing(tx, address)
  if (old === undefined)
    return written(tx, options, undefined, () => create(tx, address, manifest, { ...options, as: 'Apply' })) as Written<
      ObjectFor<M>
    >
  checkPreconditions(old, preconditionsIn(manifest.metadata))
  const writer = { manager: options.fieldManager, operation: 'Apply', nowMs: tx.nowMs } as const
  const next = withStrays(manifest, applied({ live: old, manifest, writer, force: options.force === true }))
  if (next === old) return { object: old as ObjectFor<M>, result: 'unchanged', warnings: [] }
  return written(tx, options, old, () => finish(tx, old, withoutStaleDefaults(old, next), options)) as Written<
    ObjectFor<M>
  >
}

/**
 * Removes the object, or marks it with a deletionTimestamp while finalizers hold it; `gone` says which. Foreground and
 * Orphan are recorded as finalizers for the garbage collection. Deleting a Node (never a Ready one) releases its Shards
 * at once: no agent is left that could say Stopped. NotFound, Conflict, Forbidden.
 */
export function deleteObject(
  tx: Tx,
  ref: ObjectKey,
  options: DeleteOptions = {},
): { object: MctlObject; gone: boolean } {
  const old = mustStand(tx, addressIn(ref))
  checkPreconditions(old, options.preconditions ?? {})
  checkDelete(old)
  const run = () => remove(tx, old, options)
  if (options.dryRun !== true) return run()
  const { object, gone } = tx.rehearse(run)
  return { object: atRevision(object, old.metadata.resourceVersion), gone }
}

/**
 * An agent's patch of the status of its Node or Shard, by uid, on the fields that agents may write. NotFound for an
 * unknown uid, Forbidden for a field of the server's, Invalid.
 */
export function updateStatus(tx: Tx, uid: string, patch: StatusPatch): Written<Node | Shard> {
  const old = tx.getByUid(uid) as AnyObject | undefined
  if (old === undefined) throw uidNotFound(uid)
  if (old.kind !== 'Node' && old.kind !== 'Shard')
    throw forbidden(keyOf(old), 'agents write the status of Nodes and Shards alone')
  const status = applyStatusPatch(old, patch, tx.nowMs)
  if (equalJson(status, old.status)) return { object: old, result: 'unchanged', warnings: [] }
  const { object } = sound({ ...old, status } as MctlObject)
  return { object: tx.put(object as Node | Shard), result: 'configured', warnings: [] }
}

/** The manager owns nothing of the object any more; what it had set stays as it is. NotFound. */
export function disownFields<T extends MctlObject>(tx: Tx, object: T, manager: string): T {
  const old = mustStandByUid(tx, object)
  const book = bookOf(old).filter((entry) => entry.manager !== manager)
  const { managedFields: _old, ...metadata } = old.metadata
  return tx.put({ ...old, metadata: book.length === 0 ? metadata : { ...metadata, managedFields: book } })
}

/** For controllers: the status as a whole. The rest stays as it stands now, whatever `object` says. NotFound. */
export function setStatus<T extends MctlObject>(tx: Tx, object: T, status: T['status']): T {
  return tx.put({ ...mustStandByUid(tx, object), status })
}

/** For controllers: the spec as a whole, generation + 1 when it changes, owned by nobody. NotFound, Invalid. */
export function setSpec<T extends MctlObject>(tx: Tx, object: T, spec: T['spec']): T {
  const old = mustStandByUid(tx, object)
  return finish(tx, old, { ...old, spec }, {}).object as T
}

const standing = (tx: Tx, { kind, namespace, name }: ObjectKey): MctlObject | undefined =>
  tx.get(kind as keyof ObjectOf, namespace, name)

function mustStand(tx: Tx, address: ObjectKey): MctlObject {
  const object = standing(tx, address)
  if (object === undefined) throw notFound(address)
  return object
}

function mustStandByUid<T extends MctlObject>(tx: Tx, object: T): T {
  const current = tx.getByUid(object.metadata.uid)
  if (current === undefined) throw notFound(keyOf(object))
  return current as T
}
