/** Opens the SQLite file with the settings that the store's promises rest on, and asserts that they took. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { assert, OpError } from '../lib/errors.ts'

/** The store's file in the data directory. */
export const STORE_FILE = 'mctl.db'

/** The store is alone with its file; a stranger that reads or writes it may hold everything up for this long. */
const BUSY_MS = 1_000

/** The data directory with mode 0700, made when absent. A directory that all users share is refused. */
export function ensureDataDir(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    const mode = statSync(dataDir).mode & 0o7777
    if ((mode & 0o1000) !== 0)
      throw new OpError('Invalid', `${dataDir} is shared by all users of this machine: name a folder inside it`)
    if ((mode & 0o077) !== 0) chmodSync(dataDir, 0o700)
  } catch (error) {
    if (error instanceof OpError) throw error
    throw new OpError('Unavailable', `prepare the data directory ${dataDir}`, { cause: error })
  }
}

/** Makes an empty file of mode 0600 when there is none: what SQLite puts beside it then has the same mode. */
export function ensurePrivateFile(file: string): void {
  if (!existsSync(file)) closeSync(openSync(file, 'a', 0o600))
  else if ((statSync(file).mode & 0o077) !== 0) chmodSync(file, 0o600)
}

/** Opens `DIR/mctl.db`, or a database in memory. OpError Unavailable when it is no database or cannot be read. */
export function openDatabase(dataDir: string | ':memory:'): Database.Database {
  const file = dataDir === ':memory:' ? dataDir : join(dataDir, STORE_FILE)
  if (file !== ':memory:') ensurePrivateFile(file)
  let db: Database.Database | undefined
  try {
    db = new Database(file, { timeout: BUSY_MS })
    configure(db, file !== ':memory:')
    return db
  } catch (error) {
    db?.close()
    throw new OpError('Unavailable', `open the store ${file}`, { cause: error })
  }
}

/**
 * synchronous=FULL flushes the WAL at each commit (the driver's default does not), and on macOS only F_FULLFSYNC
 * reaches the disk. auto_vacuum can be chosen only before the first table.
 */
function configure(db: Database.Database, durable: boolean): void {
  const settings: readonly (readonly [pragma: string, value: string, expected: unknown])[] = [
    ['auto_vacuum', 'INCREMENTAL', 2],
    ['journal_mode', 'WAL', durable ? 'wal' : 'memory'],
    ['synchronous', 'FULL', 2],
    ['fullfsync', '1', 1],
    ['checkpoint_fullfsync', '1', 1],
    ['journal_size_limit', String(64 * 2 ** 20), 64 * 2 ** 20],
  ]
  for (const [pragma, value, expected] of settings) {
    db.pragma(`${pragma} = ${value}`)
    const actual: unknown = db.pragma(pragma, { simple: true })
    assert(actual === expected, `SQLite answers ${pragma} = ${String(actual)}, not ${String(expected)}`)
  }
}
