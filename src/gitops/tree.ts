/** What a source gives: the files of one immutable state, read whole, and what of it was refused. Nothing here does I/O. */
import { createHash } from 'node:crypto'
import type { Cause } from '../lib/errors.ts'

export interface SourceFile {
  /** From the root of the source, with forward slashes. */
  readonly path: string
  readonly bytes: Uint8Array
}

export interface SourceTree {
  /** A commit, or `sha256:…` of a directory's files. */
  readonly revision: string
  /** sha256 over names and contents of the files that count. */
  readonly digest: string
  /** In order of paths. */
  readonly files: readonly SourceFile[]
  /** Symbolic links, escapes, and what is too large. */
  readonly causes: readonly Cause[]
  /** Paths of the Sync that are not there. */
  readonly missingPaths: readonly string[]
  readonly author?: string
  readonly subject?: string
}

export const MAX_MANIFEST_BYTES = 1_000_000
export const MAX_TREE_BYTES = 16_000_000
export const MAX_TREE_FILES = 2_000
/** Names that are looked at, manifests or not. */
export const MAX_TREE_ENTRIES = 50_000

const endings = ['.yaml', '.yml', '.json']

/** Manifests by their ending; what a name with a leading dot holds (`.github`, `.git`) is for other programs. */
export const isManifest = (path: string): boolean => endings.some((ending) => path.endsWith(ending)) && !isHidden(path)

export const isHidden = (path: string): boolean => path.split('/').some((part) => part.startsWith('.'))

/** A path that could lead out of its root, or fool a person who reads it. */
export const isUnsafe = (path: string): boolean =>
  path === '' ||
  path.startsWith('/') ||
  /[\u0000-\u001f\u007f\\]/.test(path) ||
  path.split('/').some((part) => part === '' || part === '.' || part === '..' || part.toLowerCase() === '.git')

export const refusedEntry = (path: string, message: string): Cause => ({ field: '', message, where: `${path}:1` })

/** An entry as a listing tells it, before its content is read. */
export interface TreeEntry {
  readonly path: string
  readonly type: 'File' | 'Symlink' | 'Submodule' | 'Other'
  readonly bytes: number
}

/** Which entries are read, and what is wrong with the others. One too large a file refuses the whole. */
export function chooseEntries<T extends TreeEntry>(entries: readonly T[]): { files: readonly T[]; causes: Cause[] } {
  const causes: Cause[] = []
  const files: T[] = []
  let bytes = 0
  for (const entry of entries) {
    const { path, type } = entry
    if (isUnsafe(path)) causes.push(refusedEntry(JSON.stringify(path), 'the name is refused: it could lead elsewhere'))
    else if (isHidden(path)) continue
    else if (type === 'Symlink')
      causes.push(refusedEntry(path, 'symbolic links are refused: put the file itself there'))
    else if (type === 'Submodule') causes.push(refusedEntry(path, 'submodules are refused: put the files there'))
    else if (type === 'Other') causes.push(refusedEntry(path, 'is neither a file nor a folder'))
    else if (!isManifest(path)) continue
    else if (entry.bytes > MAX_MANIFEST_BYTES)
      causes.push(
        refusedEntry(path, `the file is too large: ${entry.bytes} bytes, must have at most ${MAX_MANIFEST_BYTES}`),
      )
    else {
      bytes += entry.bytes
      files.push(entry)
    }
  }
  if (files.length > MAX_TREE_FILES)
    causes.push(refusedEntry('.', `too many manifests: ${files.length}, must be at most ${MAX_TREE_FILES}`))
  if (bytes > MAX_TREE_BYTES)
    causes.push(refusedEntry('.', `the manifests are too large: ${bytes} bytes, must have at most ${MAX_TREE_BYTES}`))
  return { files: causes.length > 0 ? [] : files.sort((a, b) => (a.path < b.path ? -1 : 1)), causes }
}

/** The digest that says whether two trees hold the same manifests under the same names. */
export function digestOfFiles(files: readonly SourceFile[]): string {
  const hash = createHash('sha256')
  for (const { path, bytes } of files) {
    hash.update(`${Buffer.byteLength(path)} ${path} ${bytes.length} `)
    hash.update(bytes)
  }
  return `sha256:${hash.digest('hex')}`
}
