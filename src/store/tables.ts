/**
 * The SQL of the store, and nothing else: rows of `objects`, `log` and `meta` in and out. All of it is synchronous,
 * so every statement here is bounded in rows.
 */
import type Database from 'better-sqlite3'
import type { MctlObject } from '../api/meta.ts'
import { sharedJson } from '../lib/sharedjson.ts'
import type { Change, ChangeType } from './store.ts'

/** A read or a delete of the log touches at most this many rows in one turn. */
export const SLICE_ROWS = 500

export type MetaKey = 'clusterUid' | 'reservedRevision' | 'openedRevision' | 'compactedRevision' | 'restored'

interface LogRow {
  readonly revision: number
  readonly kind: string
  readonly type: ChangeType
  readonly body: string
}

export interface OldRow {
  readonly revision: number
  readonly at_ms: number
}

export class Tables {
  readonly #db: Database.Database
  readonly #transaction: Database.Transaction<(run: () => void) => void>
  /** Object uid → its row. */
  readonly #ids = new Map<string, number>()
  readonly #upsert: Database.Statement
  readonly #delete: Database.Statement
  readonly #append: Database.Statement
  readonly #after: Database.Statement
  readonly #oldest: Database.Statement
  readonly #setMeta: Database.Statement
  readonly #trim: Database.Statement

  constructor(db: Database.Database) {
    this.#db = db
    this.#transaction = db.transaction((run) => run())
    this.#upsert = db.prepare(
      'INSERT INTO objects(id, body) VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET body = excluded.body',
    )
    this.#delete = db.prepare('DELETE FROM objects WHERE id = ?')
    this.#append = db.prepare('INSERT INTO log(revision, kind, type, at_ms, body) VALUES (?, ?, ?, ?, ?)')
    this.#after = db.prepare(
      'SELECT revision, kind, type, body FROM log WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?',
    )
    this.#oldest = db.prepare('SELECT revision, at_ms FROM log ORDER BY revision LIMIT ?')
    this.#trim = db.prepare('DELETE FROM log WHERE revision <= ?')
    this.#setMeta = db.prepare(
      'INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value',
    )
  }

  /**
   * One durable transaction: the log gets every change, `objects` only the last one of each object. `beforeCommit` may
   * still undo all of it by a throw.
   */
  write(changes: readonly Change[], atMs: number, beforeCommit: () => void = () => {}): void {
    const ids = new Map<string, number>()
    this.inTransaction(() => {
      const last = new Map<number, string | undefined>()
      for (const { type, revision, object } of changes) {
        const { uid } = object.metadata
        const id = ids.get(uid) ?? this.#ids.get(uid) ?? revision
        ids.set(uid, id)
        const body = sharedJson(object)
        this.#append.run(revision, object.kind, type, atMs, body)
        last.set(id, type === 'DELETED' ? undefined : body)
      }
      for (const [id, body] of last) {
        if (body === undefined) this.#delete.run(id)
        else this.#upsert.run(id, body)
      }
      beforeCommit()
    })
    for (const { type, object } of changes) {
      const { uid } = object.metadata
      if (type === 'DELETED') this.#ids.delete(uid)
      else this.#ids.set(uid, ids.get(uid) as number)
    }
  }

  inTransaction(run: () => void): void {
    this.#transaction.immediate(run)
  }

  /** The present state; to be read whole before anything is written. */
  *objects(): Iterable<MctlObject> {
    for (const row of this.#db.prepare('SELECT id, body FROM objects').iterate()) {
      const { id, body } = row as { id: number; body: string }
      const object = parse(body)
      this.#ids.set(object.metadata.uid, id)
      yield object
    }
  }

  /** Changes in (after, upTo], at most one slice; those of other kinds are skipped without parsing. `to` is where it got. */
  changes(after: number, upTo: number, wanted: (kind: string) => boolean): { changes: Change[]; to: number } {
    const rows = this.#after.all(after, upTo, SLICE_ROWS) as LogRow[]
    const last = rows.at(-1)
    const changes = rows
      .filter((row) => wanted(row.kind))
      .map(({ type, revision, body }) => ({ type, revision, object: parse(body) }))
    return { changes, to: last === undefined || rows.length < SLICE_ROWS ? upTo : last.revision }
  }

  oldest(limit: number): readonly OldRow[] {
    return this.#oldest.all(limit) as OldRow[]
  }

  /** Forgets the rows up to `revision` (the caller sees to it that they are at most a slice); returns how many. */
  trim(revision: number): number {
    let rows = 0
    this.inTransaction(() => {
      rows = this.#trim.run(revision).changes
      this.setMeta('compactedRevision', String(revision))
    })
    return rows
  }

  /** Gives freed pages back to the file system, a few at a time. */
  shrink(pages: number): void {
    this.#db.pragma(`incremental_vacuum(${pages})`)
  }

  lastRevision(): number {
    return this.#db.prepare('SELECT coalesce(max(revision), 0) FROM log').pluck().get() as number
  }

  logRows(): number {
    return this.#db.prepare('SELECT count(*) FROM log').pluck().get() as number
  }

  meta(key: MetaKey): string | undefined {
    return this.#db.prepare('SELECT value FROM meta WHERE key = ?').pluck().get(key) as string | undefined
  }

  setMeta(key: MetaKey, value: string): void {
    this.#setMeta.run(key, value)
  }

  deleteMeta(key: MetaKey): void {
    this.#db.prepare('DELETE FROM meta WHERE key = ?').run(key)
  }

  /** Moves the whole WAL into the database file and flushes it: from here on a lost WAL loses nothing of it. */
  checkpoint(): boolean {
    const [result] = this.#db.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[]
    return result?.busy === 0
  }
}

const parse = (body: string): MctlObject => JSON.parse(body) as MctlObject
