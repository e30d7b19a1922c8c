/**
 * Server-side apply (KEP-555): a manager says which fields it wants and gets exactly those; a field that it stops
 * wanting goes if nobody else wants it, and its default comes back. Pure.
 */
import type { Manifest, MctlObject } from '../api/meta.ts'
import { applyDefaults } from '../api/default.ts'
import type { Cause } from '../lib/errors.ts'
import { OpError } from '../lib/errors.ts'
import type { Fields } from './fields.ts'
import {
  child,
  conflicting,
  fieldsOf,
  isLeaf,
  merged,
  ownedPart,
  pathsOf,
  pruned,
  restricted,
  union,
} from './fields.ts'
import type { JsonMap } from './json.ts'
import { equalJson, isMap, setMember } from './json.ts'
import type { Book, Entry, Writer } from './managed.ts'
import { bookOf, entryOf, ownedBy, withEntry, withTaken } from './managed.ts'

export interface ApplyInput {
  readonly live: MctlObject
  /** As the manager sent it. */
  readonly manifest: Manifest
  readonly writer: Writer
  /** Takes over what other managers own with another value, instead of a Conflict. */
  readonly force: boolean
}

/**
 * What the live object becomes before its defaults are filled in; the very same object when nothing changes. OpError
 * Conflict names managers and paths.
 */
export function applied(input: ApplyInput): MctlObject {
  const { live, manifest, writer } = input
  const sent = fieldsOf(manifest)
  const before = entryOf(bookOf(live), writer.manager, 'Apply')?.fieldsV1
  // The common case first: the fields that were applied before are applied again, often in the same words. From here on
  // that their tree is the same is known by its identity.
  const asked = before !== undefined && equalJson(before, sent) ? before : sent
  const present = ownedPart(live)
  if (asked === before && merged(present, asked, ownedPart(manifest)) === present) return live
  return mergeApplied(input, asked)
}

function mergeApplied({ live, manifest, writer, force }: ApplyInput, asked: Fields): MctlObject {
  const wanted = ownedPart(applyDefaults(manifest))
  const book = takenOver(live, asked, wanted, { writer, force })
  const isOwn = (entry: Entry) => entry.manager === writer.manager && entry.operation === 'Apply'
  const dropped = entryOf(book, writer.manager, 'Apply')?.fieldsV1 ?? {}
  const holders = [asked, ...book.filter((entry) => !isOwn(entry)).map((entry) => entry.fieldsV1)]
  const present = ownedPart(live)
  const kept = dropped === asked ? present : pruned(present, dropped, holders)
  const next = merged(kept, asked, wanted) as JsonMap
  return withOwnedPart(live, next, withEntry(book, writer, asked))
}

/** The book after conflicts were refused or forced; own updates of the asked fields are part of the apply from now on. */
function takenOver(live: MctlObject, asked: Fields, wanted: JsonMap, by: { writer: Writer; force: boolean }): Book {
  const { manager } = by.writer
  const present = ownedPart(live)
  const conflicts = bookOf(live)
    .filter((entry) => entry.manager !== manager)
    .map((entry) => ({ entry, fields: conflicting(asked, entry.fieldsV1, wanted, present) }))
    .filter(({ fields }) => !isLeaf(fields))
  if (conflicts.length > 0 && !by.force)
    throw conflictError(conflicts.map(({ entry, fields }) => ({ manager: entry.manager, paths: pathsOf(fields) })))
  const taken = conflicts.reduce<Fields>((all, { fields }) => union(all, fields), {})
  const book = withTaken(bookOf(live), taken, (entry) => entry.manager !== manager)
  return withTaken(book, asked, (entry) => entry.manager === manager && entry.operation === 'Update')
}

function conflictError(conflicts: readonly { manager: string; paths: readonly string[] }[]): OpError {
  const causes: Cause[] = conflicts.flatMap(({ manager, paths }) =>
    paths.map((field) => ({ field, message: `conflict with "${manager}"` })),
  )
  const [first] = causes
  if (causes.length === 1 && first !== undefined)
    return new OpError('Conflict', `Apply failed with 1 conflict: ${first.message}: ${first.field}`, { causes })
  const byManager = [...new Set(conflicts.map(({ manager }) => manager))].sort()
  const lines = byManager.flatMap((name) => [
    `conflicts with "${name}":`,
    ...conflicts.filter(({ manager }) => manager === name).flatMap(({ paths }) => paths.map((path) => `- ${path}`)),
  ])
  return new OpError('Conflict', `Apply failed with ${causes.length} conflicts: ${lines.join('\n')}`, { causes })
}

function withOwnedPart(live: MctlObject, owned: JsonMap, book: Book): MctlObject {
  const parts: JsonMap = isMap(owned['metadata']) ? owned['metadata'] : {}
  const { labels: oldLabels, annotations: oldAnnotations, managedFields: oldBook, ...rest } = live.metadata
  const { labels, annotations } = parts as Pick<MctlObject['metadata'], 'labels' | 'annotations'>
  const sameMetadata = labels === oldLabels && annotations === oldAnnotations && (book === oldBook || book.length === 0)
  if (owned['spec'] === live.spec && sameMetadata) return live
  const metadata = { ...rest, ...parts, ...(book.length === 0 ? {} : { managedFields: book }) }
  return { ...live, spec: owned['spec'], metadata }
}

/**
 * `next` without those fields of its spec that are nobody's, were not changed, and are what the defaults made of the
 * rest: a default that follows another field (maxOutputTokens follows contextTokens) is then made anew.
 */
export function withoutStaleDefaults(old: MctlObject, next: MctlObject): MctlObject {
  if (old.spec === next.spec || !isMap(old.spec) || !isMap(next.spec)) return next
  const before = child(ownedBy(bookOf(old)), 'f:spec') ?? {}
  const set = isLeaf(before) ? {} : restricted(old.spec, before)
  const { spec: defaults } = applyDefaults({ ...old, spec: set })
  const owned = child(ownedBy([...bookOf(old), ...bookOf(next)]), 'f:spec')
  return { ...next, spec: unsetDefaults(next.spec, { old: old.spec, defaults, owned }) }
}

interface Beside {
  readonly old: unknown
  readonly defaults: unknown
  readonly owned: Fields | undefined
}

function unsetDefaults(next: JsonMap, { old, defaults, owned }: Beside): JsonMap {
  const result: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(next)) {
    const was = isMap(old) ? old[name] : undefined
    const byDefault = isMap(defaults) ? defaults[name] : undefined
    const owners = child(owned, `f:${name}`)
    if (owners !== undefined && isLeaf(owners)) setMember(result, name, value)
    else if (isMap(value) && isMap(was) && isMap(byDefault)) {
      const inside = unsetDefaults(value, { old: was, defaults: byDefault, owned: owners })
      if (Object.keys(inside).length > 0) setMember(result, name, inside)
    } else if (owners !== undefined || !equalJson(value, was) || !equalJson(was, byDefault))
      setMember(result, name, value)
  }
  return result
}
