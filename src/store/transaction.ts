/**
 * The writes of one commit while they are made: in memory first, so that a transaction that throws is undone by
 * itself and SQLite sees only what will be committed.
 */
import type { MctlObject, ObjectKey } from '../api/meta.ts'
import { keyOf, keyString } from '../api/meta.ts'
import type { ObjectOf } from '../api/objects.ts'
import { assert, OpError } from '../lib/errors.ts'
import type { LiveObjects, Version } from './cache.ts'
import { deepFreeze, equalJson } from './json.ts'
import { notFound } from './refusals.ts'
import type { Change, Snapshot, Tx } from './store.ts'

/** Throws an OpError to refuse what a transaction (or a rehearsal) has changed; reads see the changes. */
export type Admit = (after: Snapshot, changes: readonly Change[]) => void

export interface DraftOptions {
  readonly live: LiveObjects
  /** The committed version: it keeps what the draft changes. */
  readonly base: Version
  /** Revisions above this one are not reserved yet. */
  readonly revisionMax: number
  readonly nowMs: number
  readonly newUid: () => string
  readonly admit: Admit | undefined
}

/** The changes of one commit, made by one or more transactions. */
export class Draft {
  readonly options: DraftOptions
  readonly changes: Change[] = []
  #revision: number

  constructor(options: DraftOptions) {
    this.options = options
    this.#revision = options.base.revision
  }

  get revision(): number {
    return this.#revision
  }

  /** Runs one transaction; when it (or its admission) throws, its changes alone are undone and the error goes on. */
  run<T>(run: (tx: Tx) => T): T {
    const tx = new Transaction(this)
    const start = this.changes.length
    try {
      const result = run(tx)
      assert(!(result instanceof Promise), 'a transaction is synchronous: what it awaits would come after its commit')
      this.admitSince(tx, start)
      return result
    } catch (error) {
      this.undoTo(start)
      throw error
    } finally {
      tx.end()
    }
  }

  admitSince(tx: Tx, start: number): void {
    if (this.changes.length > start) this.options.admit?.(tx, this.changes.slice(start))
  }

  /** Records the change and makes it visible in the live objects. `object` undefined: removed. */
  change(key: string, old: MctlObject | undefined, object: MctlObject | undefined): MctlObject {
    const { live, base, revisionMax } = this.options
    if (this.#revision >= revisionMax)
      throw new OpError('Invalid', `one transaction may not make more than ${this.changes.length} changes: cut it`)
    const revision = this.#revision + 1
    const state = object ?? old
    assert(state !== undefined, `nothing stands under ${key}`)
    const stamped = stamp(state, revision)
    base.keep(key, old)
    live.replace(key, object === undefined ? undefined : stamped)
    this.#revision = revision
    const type = object === undefined ? 'DELETED' : old === undefined ? 'ADDED' : 'MODIFIED'
    this.changes.push({ type, revision, object: stamped, ...(old === undefined ? {} : { previous: old }) })
    return stamped
  }

  /** Takes back every change from the one at `start` on: as if it had never been made, revision included. */
  undoTo(start: number): void {
    for (const change of this.changes.splice(start).reverse()) {
      this.options.live.replace(keyString(keyOf(change.object)), change.previous)
      this.#revision = change.revision - 1
    }
  }
}

function stamp(object: MctlObject, revision: number): MctlObject {
  return deepFreeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } })
}

class Transaction implements Tx {
  readonly nowMs: number
  readonly #draft: Draft
  #ended = false

  constructor(draft: Draft) {
    this.#draft = draft
    this.nowMs = draft.options.nowMs
  }

  get revision(): number {
    return this.#draft.revision
  }

  newUid(): string {
    return this.#draft.options.newUid()
  }

  get<K extends keyof ObjectOf>(kind: K, namespace: string, name: string): ObjectOf[K] | undefined {
    return this.#live().get(keyString({ kind, namespace, name })) as ObjectOf[K] | undefined
  }

  getByUid(uid: string): MctlObject | undefined {
    return this.#live().getByUid(uid)
  }

  list<K extends keyof ObjectOf>(kind: K, namespace?: string): readonly ObjectOf[K][] {
    return this.#live().list(kind, namespace) as readonly ObjectOf[K][]
  }

  ownedBy(ownerUid: string): readonly MctlObject[] {
    return this.#live().ownedBy(ownerUid)
  }

  put<T extends MctlObject>(object: T): T {
    const key = keyString(keyOf(object))
    const old = this.#live().get(key)
    const { uid } = object.metadata
    assert(uid !== '', `${key} is written without a uid`)
    assert(
      old === undefined || old.metadata.uid === uid,
      `${key} is written under another uid than the one that stands`,
    )
    if (old !== undefined && equalButRevision(old, object)) return old as T
    return this.#draft.change(key, old, object) as T
  }

  remove(key: ObjectKey): void {
    const text = keyString(key)
    const old = this.#live().get(text)
    if (old === undefined) throw notFound(key)
    this.#draft.change(text, old, undefined)
  }

  rehearse<T>(run: () => T): T {
    this.#live()
    const start = this.#draft.changes.length
    try {
      const result = run()
      this.#draft.admitSince(this, start)
      return result
    } finally {
      this.#draft.undoTo(start)
    }
  }

  end(): void {
    this.#ended = true
  }

  #live(): LiveObjects {
    assert(!this.#ended, 'a transaction is used after its end')
    return this.#draft.options.live
  }
}

function equalButRevision(a: MctlObject, b: MctlObject): boolean {
  if (a === b) return true
  const { metadata: metadataA, ...restA } = a
  const { metadata: metadataB, ...restB } = b
  return (
    equalJson({ ...metadataA, resourceVersion: '' }, { ...metadataB, resourceVersion: '' }) && equalJson(restA, restB)
  )
}
