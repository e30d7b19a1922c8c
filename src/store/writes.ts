/** The steps that the write door's functions share: from what a client sent to what is stored. */
import type { Manifest, MctlObject, ObjectKey } from '../api/meta.ts'
import { keyOf, timestamp } from '../api/meta.ts'
import type { FieldValidation } from './admit.ts'
import { checkImmutable, sound, withFinalizers } from './admit.ts'
import type { JsonMap } from './json.ts'
import { equalJson, isMap, setMember } from './json.ts'
import type { Book, Operation, Writer } from './managed.ts'
import { bookOf, bookOfNew, bookOfUpdate } from './managed.ts'
import { modifiedMeanwhile, uidDiffers } from './refusals.ts'
import { isReleased } from './release.ts'
import type { Tx } from './store.ts'

export interface WriteOptions {
  /** The result is computed and admitted, nothing is written; its resourceVersion is the present one, '' for a new object. */
  readonly dryRun?: boolean
  /** Who becomes the owner of what changes. Absent: nobody, as for writes of the system itself. */
  readonly fieldManager?: string
  /** Default Strict. */
  readonly fieldValidation?: FieldValidation
}

export interface Preconditions {
  readonly uid?: string
  readonly resourceVersion?: string
}

export interface Written<T extends MctlObject = MctlObject> {
  readonly object: T
  readonly result: 'created' | 'configured' | 'unchanged'
  /** Unknown fields that were left out (`fieldValidation: Warn`). */
  readonly warnings: readonly string[]
}

/** Runs the write, or rehearses it for a dry run. */
export function written(tx: Tx, options: WriteOptions, old: MctlObject | undefined, run: () => Written): Written {
  if (options.dryRun !== true) return run()
  const rehearsed = tx.rehearse(run)
  return { ...rehearsed, object: atRevision(rehearsed.object, old?.metadata.resourceVersion ?? '') }
}

export const atRevision = (object: MctlObject, resourceVersion: string): MctlObject =>
  object.metadata.resourceVersion === resourceVersion
    ? object
    : { ...object, metadata: { ...object.metadata, resourceVersion } }

export function preconditionsIn(metadata: Readonly<Record<string, unknown>>): Preconditions {
  const { uid, resourceVersion } = metadata
  return {
    ...(typeof uid === 'string' && uid !== '' ? { uid } : {}),
    ...(typeof resourceVersion === 'string' && resourceVersion !== '' ? { resourceVersion } : {}),
  }
}

/** OpError Conflict when the object is another one, or another version, than the writer has seen. */
export function checkPreconditions(object: MctlObject, { uid, resourceVersion }: Preconditions): void {
  if (uid !== undefined && uid !== object.metadata.uid) throw uidDiffers(keyOf(object), uid, object.metadata.uid)
  if (resourceVersion !== undefined && resourceVersion !== object.metadata.resourceVersion)
    throw modifiedMeanwhile(keyOf(object))
}

function writerOf(tx: Tx, options: WriteOptions, operation: Operation): Writer | undefined {
  const { fieldManager } = options
  return fieldManager === undefined ? undefined : { manager: fieldManager, operation, nowMs: tx.nowMs }
}

/** Stores the manifest as a new object. What it says of its status and of server-made metadata is not listened to. */
export function create(
  tx: Tx,
  address: ObjectKey,
  manifest: Manifest,
  options: WriteOptions & { as: Operation },
): Written {
  const { status: _status, ...sent } = manifest
  const writer = writerOf(tx, options, options.as)
  const asked: JsonMap = isMap(manifest.metadata) ? manifest.metadata : {}
  const metadata = withoutUnset({
    ...asked,
    namespace: address.namespace === '' ? asked['namespace'] : address.namespace,
    uid: tx.newUid(),
    resourceVersion: '',
    generation: 1,
    creationTimestamp: timestamp(tx.nowMs),
    deletionTimestamp: undefined,
    deletionGracePeriodSeconds: undefined,
    finalizers: withFinalizers(address.kind, asked['finalizers']),
    managedFields: writer === undefined ? undefined : bookOfNew(writer, { ...sent, metadata: asked }),
  })
  const { object, warnings } = sound({ ...sent, metadata } as unknown as MctlObject, options.fieldValidation)
  return { object: tx.put(object), result: 'created', warnings }
}

/** The old object with everything that a client may replace taken from `manifest`. */
export function replaced(old: MctlObject, manifest: JsonMap & { readonly metadata: JsonMap }): MctlObject {
  const { status: _status, ...sent } = manifest
  const { apiVersion, kind, status } = old
  const { name, namespace, uid, resourceVersion, generation, creationTimestamp } = old.metadata
  const { deletionTimestamp, deletionGracePeriodSeconds, managedFields } = old.metadata
  const serverMade = {
    name,
    namespace,
    uid,
    resourceVersion,
    generation,
    creationTimestamp,
    deletionTimestamp,
    deletionGracePeriodSeconds,
    managedFields,
  }
  const metadata = withoutUnset({ ...manifest.metadata, ...serverMade })
  return { ...sent, apiVersion, kind, metadata, ...(status === undefined ? {} : { status }) } as unknown as MctlObject
}

/** Stores `sent` (see `replaced`) in place of `old`; what it changes becomes its writer's. */
export function update(tx: Tx, old: MctlObject, sent: MctlObject, options: WriteOptions): Written {
  const writer = writerOf(tx, options, 'Update')
  if (writer === undefined) return finish(tx, old, sent, options)
  return finish(tx, old, sent, options, (next) => bookOfUpdate(old, next, sent, writer))
}

/** Defaults, checks and writes `next`; `bookFor` says who owns what of the object as it will be stored. */
export function finish(
  tx: Tx,
  old: MctlObject,
  next: MctlObject,
  options: WriteOptions,
  bookFor: (next: MctlObject) => Book = bookOf,
): Written {
  const { object, warnings } = sound(next, options.fieldValidation)
  checkImmutable(old, object)
  const sameSpec = equalJson(old.spec, object.spec)
  const book = bookFor(object)
  const { managedFields: _managed, ...metadata } = object.metadata
  const final: MctlObject = {
    ...object,
    ...(sameSpec && old.spec !== undefined ? { spec: old.spec } : {}),
    metadata: {
      ...metadata,
      generation: old.metadata.generation + (sameSpec ? 0 : 1),
      ...(book.length === 0 ? {} : { managedFields: book }),
    },
  }
  if (isReleased(final)) {
    tx.remove(keyOf(old))
    return { object: final, result: 'configured', warnings }
  }
  const stored = tx.put(final)
  return { object: stored, result: stored === old ? 'unchanged' : 'configured', warnings }
}

const ownMembers = ['apiVersion', 'kind', 'metadata', 'spec', 'status']
const serverMembers = ['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp']
const mergedMembers = [
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'labels',
  'annotations',
  'finalizers',
  'ownerReferences',
]
const metadataMembers: ReadonlySet<string> = new Set([...serverMembers, ...mergedMembers])

/**
 * `next` (the merged apply) with what the merge has no place for: owners and finalizers, which an apply adds and never
 * takes away, and whatever is unknown or of a wrong type, so that validation sees it.
 */
export function withStrays(manifest: Manifest, next: MctlObject): MctlObject {
  const { spec, metadata } = manifest as JsonMap & Manifest
  const strays = Object.entries(manifest).filter(([name]) => !ownMembers.includes(name))
  const wrongSpec = spec !== undefined && spec !== null && !isMap(spec) ? { spec } : {}
  const asked: JsonMap = metadata
  const unknown = Object.entries(asked).filter(([name]) => !metadataMembers.has(name))
  const more = {
    ...wrongMap('labels', asked['labels']),
    ...wrongMap('annotations', asked['annotations']),
    ...added('finalizers', next.metadata.finalizers, asked['finalizers']),
    ...added('ownerReferences', next.metadata.ownerReferences, asked['ownerReferences']),
  }
  if (strays.length + unknown.length + Object.keys(more).length === 0 && !('spec' in wrongSpec)) return next
  const full = { ...next.metadata, ...Object.fromEntries(unknown), ...more }
  return { ...next, ...Object.fromEntries(strays), ...wrongSpec, metadata: full } as MctlObject
}

const wrongMap = (name: string, value: unknown): JsonMap =>
  value === undefined || value === null || isMap(value) ? {} : { [name]: value }

function added(name: string, present: readonly unknown[] = [], asked: unknown): JsonMap {
  if (asked === undefined || asked === null) return {}
  if (!Array.isArray(asked)) return { [name]: asked }
  const missing = asked.filter((item) => !present.some((one) => equalJson(one, item)))
  return missing.length === 0 ? {} : { [name]: [...present, ...(missing as unknown[])] }
}

function withoutUnset(members: JsonMap): JsonMap {
  const set: Record<string, unknown> = {}
  for (const name in members)
    if (members[name] !== undefined && members[name] !== null) setMember(set, name, members[name])
  return set
}
