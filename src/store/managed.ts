/** The book of managers in metadata.managedFields: who set which leaves. Pure; a time moves only when its tree does. */
import type { ManagedFields, MctlObject } from '../api/meta.ts'
import { timestamp } from '../api/meta.ts'
import type { Fields } from './fields.ts'
import { changedFields, fieldsOf, isLeaf, ownedPart, presentIn, union, without } from './fields.ts'
import type { Owned } from './fields.ts'
import { equalJson } from './json.ts'

export type Operation = ManagedFields['operation']
export interface Entry extends ManagedFields {
  readonly fieldsV1: Fields
}
export type Book = readonly Entry[]

/** Who writes, and when. */
export interface Writer {
  readonly manager: string
  readonly operation: Operation
  readonly nowMs: number
}

export const bookOf = (object: MctlObject): Book => (object.metadata.managedFields ?? []) as Book

/** Everything that anybody in the book owns. */
export const ownedBy = (book: Book): Fields => book.reduce<Fields>((all, entry) => union(all, entry.fieldsV1), {})

export const entryOf = (book: Book, manager: string, operation: Operation): Entry | undefined =>
  book.find((entry) => entry.manager === manager && entry.operation === operation)

/** The book with the writer's entry holding exactly `fields`. */
export function withEntry(book: Book, { manager, operation, nowMs }: Writer, fields: Fields): Book {
  const old = entryOf(book, manager, operation)
  if (old !== undefined && equalJson(old.fieldsV1, fields)) return book
  const entry = { manager, operation, time: timestamp(nowMs), fieldsV1: fields }
  const others = book.filter((one) => one !== old)
  return isLeaf(fields) ? others : [...others, entry]
}

/** The book after `taken` was taken from every entry that `from` picks; the very same book where nobody had any of it. */
export function withTaken(book: Book, taken: Fields, from: (entry: Entry) => boolean): Book {
  if (isLeaf(taken)) return book
  const left = book.map((entry) => {
    const fields = from(entry) ? without(entry.fieldsV1, taken) : entry.fieldsV1
    return fields === entry.fieldsV1 || equalJson(fields, entry.fieldsV1) ? entry : { ...entry, fieldsV1: fields }
  })
  if (left.every((entry, index) => entry === book[index])) return book
  return left.filter((entry) => !isLeaf(entry.fieldsV1))
}

/** The book of a new object: its writer owns what was sent, not what was defaulted. */
export const bookOfNew = (writer: Writer, sent: Owned): Book => withEntry([], writer, fieldsOf(sent))

/** After an update: what changed is the writer's as far as it was sent, and nobody else's. */
export function bookOfUpdate(old: MctlObject, after: Owned, sent: Owned, writer: Writer): Book {
  const changed = changedFields(ownedPart(old), ownedPart(after))
  const book = bookOf(old)
  if (isLeaf(changed)) return book
  const isOwn = (entry: Entry) => entry.manager === writer.manager && entry.operation === writer.operation
  const own = book.find(isOwn)?.fieldsV1 ?? {}
  const taken = withTaken(book, changed, (entry) => !isOwn(entry))
  return withEntry(taken, writer, union(without(own, changed), presentIn(changed, ownedPart(sent))))
}
