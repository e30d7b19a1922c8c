/**
 * Ownership as a tree of field names (Kubernetes' FieldsV1): `{"f:spec": {"f:replicas": {}}}`. An empty node is a leaf.
 * Maps are granular, lists and scalars are one leaf; an empty map is a leaf that says "this exists". Only spec, labels
 * and annotations are owned, never status. A null is a field that was not set.
 */
import type { JsonMap } from './json.ts'
import { equalJson, isMap, setMember } from './json.ts'

export interface Fields {
  readonly [key: string]: Fields
}
type Draft = Record<string, Fields>

export function isLeaf(fields: Fields): boolean {
  for (const _key in fields) return false
  return true
}
const nameOf = (key: string): string => key.slice(2)
const entries = (fields: Fields): [string, Fields][] => Object.entries(fields)
export const child = (fields: Fields | undefined, key: string): Fields | undefined => fields?.[key]

/** The part of an object that can be owned, as one map. */
export interface Owned {
  readonly spec?: unknown
  readonly metadata: { readonly labels?: unknown; readonly annotations?: unknown }
}

/** The owned part alone: what ownership, conflicts and merges look at. */
export function ownedPart(object: Owned): JsonMap {
  const { labels, annotations } = object.metadata
  const metadata = { ...(isMap(labels) ? { labels } : {}), ...(isMap(annotations) ? { annotations } : {}) }
  return { metadata, ...(isMap(object.spec) ? { spec: object.spec } : {}) }
}

/** Every leaf that the object sets. */
export function fieldsOf(object: Owned): Fields {
  const { metadata, spec } = ownedPart(object)
  return withMembers({
    'f:metadata': withMembers({
      'f:labels': fieldsIn(isMap(metadata) ? metadata['labels'] : undefined),
      'f:annotations': fieldsIn(isMap(metadata) ? metadata['annotations'] : undefined),
    }),
    'f:spec': fieldsIn(spec),
  })
}

/** Without the parts that set nothing: an empty spec or an empty map of labels is owned by nobody. */
const withMembers = (parts: Draft): Fields =>
  Object.fromEntries(Object.entries(parts).filter(([, inside]) => !isLeaf(inside)))

function fieldsIn(value: unknown): Fields {
  const fields: Draft = {}
  if (!isMap(value)) return fields
  for (const name in value) {
    const member = value[name]
    if (member !== undefined && member !== null) fields[`f:${name}`] = fieldsIn(member)
  }
  return fields
}

/** The leaves whose value differs between the two: set, changed, or gone. */
export function changedFields(before: unknown, after: unknown): Fields {
  const changed: Draft = {}
  const a: JsonMap = isMap(before) ? before : {}
  const b: JsonMap = isMap(after) ? after : {}
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    if (equalJson(a[name], b[name])) continue
    const inside = isMap(a[name]) || isMap(b[name]) ? changedFields(a[name], b[name]) : {}
    changed[`f:${name}`] = inside
  }
  return changed
}

/** The fields that have a value in `object`: a change that removed something owns nothing there. */
export function presentIn(fields: Fields, value: unknown): Fields {
  const present: Draft = {}
  for (const [key, inside] of entries(fields)) {
    const member = isMap(value) ? value[nameOf(key)] : undefined
    if (member === undefined || member === null) continue
    const kept = presentIn(inside, member)
    if (isLeaf(inside) || !isLeaf(kept)) present[key] = kept
  }
  return present
}

export function union(a: Fields, b: Fields): Fields {
  if (isLeaf(a)) return b
  if (isLeaf(b)) return a
  const both: Draft = { ...a }
  for (const [key, inside] of entries(b)) {
    const other = both[key]
    both[key] = other === undefined ? inside : union(other, inside)
  }
  return both
}

/** `fields` without what lies at or below a leaf of `taken`, and without leaves above one. */
export function without(fields: Fields, taken: Fields): Fields {
  const left: Draft = {}
  for (const [key, inside] of entries(fields)) {
    const gone = child(taken, key)
    if (gone === undefined) left[key] = inside
    else if (!isLeaf(gone) && !isLeaf(inside)) {
      const rest = without(inside, gone)
      if (!isLeaf(rest)) left[key] = rest
    }
  }
  return left
}

/** The leaves of `asked` that `owner` owns too while the live value is another than the wanted one. */
export function conflicting(asked: Fields, owner: Fields, wanted: unknown, live: unknown): Fields {
  const found: Draft = {}
  for (const [key, inside] of entries(asked)) {
    const theirs = child(owner, key)
    if (theirs === undefined) continue
    const name = nameOf(key)
    const wantedValue = isMap(wanted) ? wanted[name] : undefined
    const liveValue = isMap(live) ? live[name] : undefined
    if (!isLeaf(inside) && !isLeaf(theirs)) {
      const below = conflicting(inside, theirs, wantedValue, liveValue)
      if (!isLeaf(below)) found[key] = below
    } else if (!agrees(wantedValue, liveValue)) found[key] = {}
  }
  return found
}

/** A map asks only for its members, so two maps agree where at least one side names none. */
const agrees = (wanted: unknown, live: unknown): boolean => (isMap(wanted) && isMap(live)) || equalJson(wanted, live)

/** `.spec.replicas`, one per leaf, in order. */
export function pathsOf(fields: Fields, above = ''): string[] {
  return entries(fields)
    .flatMap(([key, inside]) => {
      const path = `${above}.${nameOf(key)}`
      return isLeaf(inside) ? [path] : pathsOf(inside, path)
    })
    .sort()
}

/** `live` with the leaves of `asked` as `wanted` has them; the very same value where nothing differs. */
export function merged(live: unknown, asked: Fields, wanted: unknown): unknown {
  if (isLeaf(asked)) return agrees(wanted, live) ? live : wanted
  const from: JsonMap = isMap(live) ? live : {}
  let result: Record<string, unknown> | undefined
  for (const key in asked) {
    const name = nameOf(key)
    const old = Object.hasOwn(from, name) ? from[name] : undefined
    const member = merged(old, asked[key] as Fields, isMap(wanted) ? wanted[name] : undefined)
    if (member !== old) setMember((result ??= { ...from }), name, member)
  }
  return result ?? from
}

/**
 * `value` without the leaves of `dropped` that none of `holders` has; a map that is emptied so goes too. The very same
 * value where nothing goes.
 */
export function pruned(value: JsonMap, dropped: Fields, holders: readonly Fields[]): JsonMap {
  let result: Record<string, unknown> | undefined
  for (const key in dropped) {
    const name = nameOf(key)
    const inside = dropped[key] as Fields
    const held = holders.flatMap((holder) => holder[key] ?? [])
    const member = value[name]
    if (member === undefined || (isLeaf(inside) && held.length > 0)) continue
    const rest = isLeaf(inside) ? undefined : isMap(member) ? pruned(member, inside, held) : member
    if (rest === member) continue
    result ??= { ...value }
    if (isMap(rest) && (held.length > 0 || Object.keys(rest).length > 0)) setMember(result, name, rest)
    else delete result[name]
  }
  return result ?? value
}

/** The members of `value` that are owned. */
export function restricted(value: unknown, fields: Fields): unknown {
  if (isLeaf(fields) || !isMap(value)) return value
  const result: Record<string, unknown> = {}
  for (const [key, inside] of entries(fields)) {
    const name = nameOf(key)
    if (value[name] !== undefined) setMember(result, name, restricted(value[name], inside))
  }
  return result
}
