/**
 * One process owns a data directory. The lock is an exclusive SQLite lock on a small file of its own, thus one of the
 * operating system: it ends with its process, however that ends, so there are no stale ones to judge.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { OpError } from '../lib/errors.ts'
import { ensurePrivateFile } from './database.ts'

export interface DirectoryLock {
  release(): void
}

/** Takes the lock at once; OpError Unavailable names the process that has it. */
export function lockDirectory(dataDir: string): DirectoryLock {
  const ownerFile = join(dataDir, 'lock.pid')
  const file = join(dataDir, 'lock.db')
  ensurePrivateFile(file)
  const db = new Database(file, { timeout: 0 })
  try {
    db.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    db.close()
    if (!(error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')))
      throw new OpError('Unavailable', `lock the data directory ${dataDir}`, { cause: error })
    throw new OpError(
      'Unavailable',
      `open the store in ${dataDir}: process ${ownerOf(ownerFile)} is using it; stop that process, or name another --data-dir`,
      { cause: error },
    )
  }
  writeFileSync(ownerFile, `${process.pid}\n`, { mode: 0o600 })
  return {
    release() {
      rmSync(ownerFile, { force: true })
      db.close()
    },
  }
}

function ownerOf(ownerFile: string): string {
  try {
    return readFileSync(ownerFile, 'utf8').trim()
  } catch {
    return '(unknown)'
  }
}
