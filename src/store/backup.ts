/** A copy of a serving store, and the mark that tells whoever opens the copy that it is one. */
import { closeSync, fsyncSync, openSync, renameSync } from 'node:fs'
import Database from 'better-sqlite3'
import { OpError } from '../lib/errors.ts'
import { ensurePrivateFile } from './database.ts'

/** Copies by SQLite's online backup; `file` appears whole or not at all. OpError Unavailable. */
export async function backUp(db: Database.Database, file: string): Promise<void> {
  const partial = `${file}.partial`
  try {
    ensurePrivateFile(partial)
    await db.backup(partial)
    markRestorable(partial)
    renameSync(partial, file)
  } catch (error) {
    throw new OpError('Unavailable', `back up the store to ${file}`, { cause: error })
  }
}

/** The cluster goes on after the copy was taken, so the copy's revisions must not go on where it ends (see Revisions). */
function markRestorable(file: string): void {
  const copy = new Database(file)
  try {
    copy.pragma('journal_mode = DELETE')
    copy.prepare("INSERT INTO meta(key, value) VALUES ('restored', '1') ON CONFLICT(key) DO NOTHING").run()
  } finally {
    copy.close()
  }
  const descriptor = openSync(file, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
}
