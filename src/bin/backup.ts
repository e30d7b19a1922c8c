/**
 * `mctl server backup` and `restore`: the cluster's state and its authority, in a folder. A backup is taken beside a
 * serving server; a restored one goes on far above the revisions that the first cluster (or an earlier restore of the
 * same backup) gave out, so that agents and watchers notice and read everything anew.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { CliError } from '../cli/context.ts'
import { messageOf } from '../lib/errors.ts'
import { keyFiles } from '../server/trust/keys.ts'
import { backUp, restore } from '../store/backup.ts'
import { STORE_FILE } from '../store/database.ts'
import { lockDirectory } from '../store/lock.ts'

/** Makes the folder `out`, 0700; it must not be there. Answers what it holds. */
export async function backupServer(dataDir: string, out: string): Promise<{ readonly withAuthority: boolean }> {
  const file = join(dataDir, STORE_FILE)
  if (!existsSync(file)) throw new CliError(`there is no server's data in ${dataDir}: name its folder with --data-dir`)
  makeEmpty(out, 'back up to')
  const db = new Database(file, { readonly: true, fileMustExist: true })
  try {
    // First: a key that the state does not know of does no harm, one that it needs and lacks would.
    const withAuthority = copyAuthority(dataDir, out)
    await backUp(db, join(out, STORE_FILE))
    return { withAuthority }
  } catch (error) {
    rmSync(out, { recursive: true, force: true })
    throw new CliError(`back up ${dataDir}: ${messageOf(error)}`)
  } finally {
    db.close()
  }
}

/** Puts a backup where a server has never been; the server that starts there is the same cluster. */
export function restoreServer(from: string, dataDir: string): { readonly withAuthority: boolean } {
  if (!existsSync(join(from, STORE_FILE)))
    throw new CliError(`${from} is no backup: there is no ${STORE_FILE} in it, as \`mctl server backup\` makes it`)
  checkSound(join(from, STORE_FILE))
  makeEmpty(dataDir, 'restore into')
  const lock = lockDirectory(dataDir)
  try {
    restore(from, dataDir, Date.now())
    return { withAuthority: copyAuthority(from, dataDir) }
  } finally {
    lock.release()
  }
}

function checkSound(file: string): void {
  let found: unknown
  try {
    const db = new Database(file, { readonly: true })
    found = db.pragma('quick_check', { simple: true })
    db.close()
  } catch (error) {
    found = messageOf(error)
  }
  if (found !== 'ok') throw new CliError(`${file} is damaged: ${String(found)}. Take another backup`)
}

function copyAuthority(from: string, to: string): boolean {
  const files = keyFiles.filter((file) => existsSync(join(from, file)))
  if (files.length > 0) mkdirSync(join(to, 'trust'), { recursive: true, mode: 0o700 })
  for (const file of files) {
    copyFileSync(join(from, file), join(to, file))
    chmodSync(join(to, file), 0o600)
  }
  return files.length > 0
}

/** The folder, made when it is not there; one with something in it is not touched. */
function makeEmpty(dir: string, verb: string): void {
  if (existsSync(dir) && readdirSync(dir).length > 0)
    throw new CliError(`${verb} ${dir}: it is not empty. Name a folder that does not exist yet`)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
}
