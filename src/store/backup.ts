/**
 * A copy of a serving store, the mark that tells whoever opens the copy that it is one, and its way back: the first
 * cluster has gone on since, and so may have one that an earlier restore of the same copy began.
 */
import { closeSync, copyFileSync, fsyncSync, openSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { OpError } from '../lib/errors.ts'
import { replacePrivateFile } from '../lib/replacefile.ts'
import { ensurePrivateFile, STORE_FILE } from './database.ts'
import { COPIED, RESTORE_BUMP, revisionForRestore } from './revisions.ts'
import { Tables } from './tables.ts'

/** Beside the copy: from where on its next restore may count. */
const RESTORES_FILE = 'restores.json'

/** Copies by SQLite's online backup; `file` appears whole or not at all. OpError Unavailable. */
export async function backUp(db: Database.Database, file: string): Promise<void> {
  const partial = `${file}.partial`
  try {
    ensurePrivateFile(partial)
    await db.backup(partial)
    // The cluster goes on after the copy was taken, so the copy's revisions must not go on where it ends (see Revisions).
    mark(partial, (tables) => tables.meta('restored') ?? COPIED)
    renameSync(partial, file)
  } catch (error) {
    throw new OpError('Unavailable', `back up the store to ${file}`, { cause: error })
  }
}

/**
 * Puts the copy in the folder `from` into the folder `to`, whole or not at all. What is opened there begins above every
 * revision that earlier restores can have given out: by the time of day, and by a note in `from` when the clock was set
 * back in between. (A folder that cannot be written gets no note.) OpError Unavailable.
 */
export function restore(from: string, to: string, nowMs: number): void {
  const [file, partial] = [join(to, STORE_FILE), join(to, `${STORE_FILE}.partial`)]
  try {
    ensurePrivateFile(partial)
    copyFileSync(join(from, STORE_FILE), partial)
    mark(partial, (tables) => {
      const revision = Math.max(revisionForRestore(tables, nowMs), nextRevision(from))
      noteRestore(from, revision)
      return String(revision)
    })
    renameSync(partial, file)
  } catch (error) {
    throw new OpError('Unavailable', `restore the store of ${from} into ${to}`, { cause: error })
  }
}

function mark(file: string, markOf: (tables: Tables) => string): void {
  const copy = new Database(file)
  try {
    copy.pragma('journal_mode = DELETE')
    const tables = new Tables(copy)
    tables.setMeta('restored', markOf(tables))
  } finally {
    copy.close()
  }
  const descriptor = openSync(file, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
}

function nextRevision(folder: string): number {
  try {
    const { nextRevision } = JSON.parse(readFileSync(join(folder, RESTORES_FILE), 'utf8')) as { nextRevision?: unknown }
    return Number.isSafeInteger(nextRevision) ? Number(nextRevision) : 0
  } catch {
    return 0
  }
}

function noteRestore(folder: string, revision: number): void {
  try {
    replacePrivateFile(join(folder, RESTORES_FILE), `${JSON.stringify({ nextRevision: revision + RESTORE_BUMP })}\n`)
  } catch {
    // A backup on a read-only disk: the time of day must do.
  }
}
