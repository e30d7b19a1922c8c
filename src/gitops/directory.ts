/**
 * A directory on the server's machine as a source. It has no commits, so what is applied is a reading that was the same
 * twice in a row: a file that is being written, or a folder that is being renamed, is waited for.
 */
import type { Dirent } from 'node:fs'
import { lstat, readdir, readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { messageOf, OpError } from '../lib/errors.ts'
import type { SourceFile, SourceTree, TreeEntry } from './tree.ts'
import { chooseEntries, digestOfFiles, isHidden, MAX_MANIFEST_BYTES, MAX_TREE_ENTRIES, refusedEntry } from './tree.ts'

const SETTLE_MS = 500
const MAX_READINGS = 10

/** OpError Unavailable when the directory cannot be read, or changes all the time. */
export async function readDirectory(directory: string, clock: Clock, signal: AbortSignal): Promise<SourceTree> {
  let before = await readOnce(directory)
  for (let reading = 1; reading < MAX_READINGS && !signal.aborted; reading++) {
    await sleep(clock, SETTLE_MS, signal)
    const now = await readOnce(directory)
    if (now.digest === before.digest && now.causes.length === before.causes.length) return now
    before = now
  }
  throw new OpError('Unavailable', `${directory} is changed all the time: it was never the same twice in a row`)
}

async function readOnce(directory: string): Promise<SourceTree> {
  try {
    // The root itself may be a link that people move; below it links are refused.
    const root = await realpath(directory)
    const entries: TreeEntry[] = []
    await list(root, '', entries)
    const { files: chosen, causes } = chooseEntries(entries)
    if (entries.length > MAX_TREE_ENTRIES)
      causes.push(refusedEntry('.', `too many files: must be at most ${MAX_TREE_ENTRIES}`))
    const files: SourceFile[] = []
    for (const { path } of chosen) {
      const bytes = await readFile(join(root, path))
      if (bytes.length > MAX_MANIFEST_BYTES) causes.push(refusedEntry(path, 'the file grew while it was read'))
      files.push({ path, bytes })
    }
    const digest = digestOfFiles(files)
    return { revision: digest, digest, files, causes, missingPaths: [] }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new OpError('Unavailable', `${directory} does not exist on the server's machine`)
    throw new OpError('Unavailable', `read ${directory}: ${messageOf(cause)}`)
  }
}

async function list(root: string, below: string, entries: TreeEntry[]): Promise<void> {
  for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`
    if (entries.length > MAX_TREE_ENTRIES) return
    if (entry.isDirectory()) {
      if (!isHidden(path)) await list(root, path, entries)
      continue
    }
    const bytes = entry.isFile() ? (await lstat(join(root, path))).size : 0
    entries.push({ path, type: typeOf(entry), bytes })
  }
}

const typeOf = (entry: Dirent): TreeEntry['type'] =>
  entry.isFile() ? 'File' : entry.isSymbolicLink() ? 'Symlink' : 'Other'
