/**
 * The schema, step by step. A step that has shipped is never changed; the next one goes to the end of the list. A
 * database that is newer than this list is refused: an old program would not know what it must keep.
 */
import type Database from 'better-sqlite3'
import { OpError } from '../../lib/errors.ts'
import { initial } from './0001-initial.ts'

export interface Migration {
  readonly name: string
  readonly sql: string
}

export const migrations: readonly Migration[] = [initial]

/** Brings the database to the newest schema, each step in a transaction of its own. OpError Unimplemented when it is newer. */
export function migrate(db: Database.Database, file: string, nowMs: number): void {
  db.exec(
    'CREATE TABLE IF NOT EXISTS migrations(version INTEGER PRIMARY KEY, name TEXT NOT NULL, at_ms INTEGER NOT NULL)',
  )
  const version = db.prepare('SELECT coalesce(max(version), 0) FROM migrations').pluck().get() as number
  if (version > migrations.length)
    throw new OpError(
      'Unimplemented',
      `open the store ${file}: its schema has version ${version}, this mctl knows version ${migrations.length}: ` +
        'a newer mctl has written it; start that one, or restore a backup from before the upgrade',
    )
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue
    db.transaction(() => {
      db.exec(migration.sql)
      db.prepare('INSERT INTO migrations(version, name, at_ms) VALUES (?, ?, ?)').run(index + 1, migration.name, nowMs)
    }).immediate()
  }
}
