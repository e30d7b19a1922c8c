/** The folder of the shards' sockets, which may have to be a short one under /tmp: taken only when it is ours alone. */
import { lstatSync, mkdirSync, rmSync, rmdirSync } from 'node:fs'
import { OpError } from '../../src/lib/errors.ts'

/** Throws OpError Unavailable when somebody else could reach into it. */
export function makeSocketFolder(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const found = lstatSync(dir)
  if (!found.isDirectory() || found.uid !== (process.getuid?.() ?? found.uid) || (found.mode & 0o077) !== 0)
    throw new OpError(
      'Unavailable',
      `use ${dir} for sockets: it must be a folder of this user with mode 0700; remove it`,
    )
}

/** Removes a socket, and the folder with the last one. */
export function removeSocket(path: string, dir: string): void {
  rmSync(path, { force: true })
  try {
    rmdirSync(dir)
  } catch {
    // Other shards use it, or it is gone already.
  }
}
