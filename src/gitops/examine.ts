/**
 * What applying would do now, object by object: a rehearsed server-side apply, so defaults and fields of others never look
 * like drift. Reads only: each rehearsal is undone.
 */
import { shown } from '../api/causes.ts'
import type { ManagedFields, MctlObject } from '../api/meta.ts'
import { keyString } from '../api/meta.ts'
import type { ObjectOf } from '../api/objects.ts'
import type { InventoryEntry, Sync } from '../api/sync.ts'
import { SYNC_MANAGER } from '../api/sync.ts'
import type { Cause } from '../lib/errors.ts'
import { isOpError } from '../lib/errors.ts'
import type { Fields } from '../store/fields.ts'
import { changedFields, isLeaf, ownedPart, pathsOf } from '../store/fields.ts'
import { applyObject } from '../store/objects.ts'
import type { Tx } from '../store/store.ts'
import type { Desired, Rendered } from './render.ts'

export interface Finding {
  readonly desired: Desired
  /**
   * `Unchanged`: as the source wants it. `Terminating`: it is on its way out, and can be made anew when it is gone.
   * `Refused`: it may not be applied, `fault` says why.
   */
  readonly result: 'Created' | 'Configured' | 'Unchanged' | 'Terminating' | 'Refused'
  /** `.spec.replicas: 1 → 2`; empty where only the ownership of fields would change. */
  readonly fields: readonly string[]
  /** Who else holds fields that differ. */
  readonly holders: readonly string[]
  /** Fields that others hold are taken over. */
  readonly force: boolean
  readonly fault?: { readonly reason: 'ObjectClaimed' | 'FieldConflict' | 'ObjectRefused'; readonly cause: Cause }
}

const MAX_FIELDS = 20

export const keyOfEntry = ({ kind, namespace, name }: InventoryEntry) => ({ kind, namespace: namespace ?? '', name })

export const liveObject = (tx: Pick<Tx, 'get'>, entry: InventoryEntry): MctlObject | undefined => {
  const { kind, namespace, name } = keyOfEntry(entry)
  return tx.get(kind as keyof ObjectOf, namespace, name)
}

/** Findings for all objects of the source, in their order. */
export function examine(tx: Tx, sync: Sync, rendered: Rendered): readonly Finding[] {
  const own = new Set((sync.status?.inventory ?? []).map((entry) => keyString(keyOfEntry(entry))))
  const claims = claimsOfOthers(tx, sync)
  return rendered.objects.map((desired) => {
    const text = keyString(desired.key)
    const claimant = claims.get(text)
    if (claimant !== undefined) return claimed(desired, claimant)
    return rehearsed(tx, desired, own.has(text) || desired.force)
  })
}

function claimsOfOthers(tx: Tx, sync: Sync): ReadonlyMap<string, string> {
  const claims = new Map<string, string>()
  for (const other of tx.list('Sync'))
    if (other.metadata.uid !== sync.metadata.uid)
      for (const entry of other.status?.inventory ?? []) claims.set(keyString(keyOfEntry(entry)), other.metadata.name)
  return claims
}

const refused = (
  desired: Desired,
  reason: NonNullable<Finding['fault']>['reason'],
  cause: Omit<Cause, 'where'>,
): Finding => ({
  desired,
  result: 'Refused',
  fields: [],
  holders: [],
  force: false,
  fault: { reason, cause: { ...cause, where: desired.where } },
})

const claimed = (desired: Desired, claimant: string): Finding =>
  refused(desired, 'ObjectClaimed', {
    field: 'metadata.name',
    message: `Forbidden: Sync "${claimant}" follows this object already; take it out of one of the two sources`,
  })

function rehearsed(tx: Tx, desired: Desired, force: boolean): Finding {
  const { kind, namespace, name } = desired.key
  const live: MctlObject | undefined = tx.get(kind as keyof ObjectOf, namespace, name)
  if (live?.metadata.deletionTimestamp !== undefined)
    return { desired, result: 'Terminating', fields: [], holders: [], force }
  try {
    const { object, result } = applyObject(tx, desired.manifest, { fieldManager: SYNC_MANAGER, force, dryRun: true })
    if (live === undefined) return { desired, result: 'Created', fields: [], holders: [], force }
    if (result === 'unchanged') return { desired, result: 'Unchanged', fields: [], holders: [], force }
    const changed = changedFields(ownedPart(live), ownedPart(object))
    const fields = isLeaf(changed) ? [] : pathsOf(changed).map((path) => fieldText(path, live, object))
    return {
      desired,
      result: 'Configured',
      fields: fields.slice(0, MAX_FIELDS),
      holders: holdersOf(live, changed),
      force,
    }
  } catch (error) {
    if (!isOpError(error)) throw error
    const isConflict = error.code === 'Conflict'
    const advice = isConflict
      ? '; others hold these fields with another value: take them out of the manifest, write the same value, or take them over with the annotation mctl.dev/force: "true"'
      : ''
    return refused(desired, isConflict ? 'FieldConflict' : 'ObjectRefused', {
      field: '',
      message: `${error.message.replaceAll('\n', ' ')}${advice}`,
    })
  }
}

function holdersOf(live: MctlObject, changed: Fields): readonly string[] {
  const holds = ({ manager, fieldsV1 }: ManagedFields) =>
    manager !== SYNC_MANAGER && overlaps(fieldsV1 as Fields, changed)
  return [...new Set((live.metadata.managedFields ?? []).filter(holds).map(({ manager }) => manager))].sort()
}

function overlaps(a: Fields, b: Fields): boolean {
  for (const key in a) {
    const [inA, inB] = [a[key], b[key]]
    if (inA === undefined || inB === undefined) continue
    if (isLeaf(inA) || isLeaf(inB) || overlaps(inA, inB)) return true
  }
  return false
}

function fieldText(path: string, before: MctlObject, after: MctlObject): string {
  return `${path}: ${valueText(valueAt(before, path))} → ${valueText(valueAt(after, path))}`
}

const valueText = (value: unknown): string => (value === undefined ? '<none>' : shown(value))

/** Keys may hold dots (labels), so the longest key that fits is taken. */
function valueAt(value: unknown, path: string): unknown {
  let at = value
  let rest = path.slice(1)
  while (rest !== '') {
    if (typeof at !== 'object' || at === null) return undefined
    const map = at as Readonly<Record<string, unknown>>
    const key = Object.keys(map)
      .filter((one) => rest === one || rest.startsWith(`${one}.`))
      .sort((a, b) => b.length - a.length)[0]
    if (key === undefined) return undefined
    at = map[key]
    rest = rest.slice(key.length + 1)
  }
  return at
}
