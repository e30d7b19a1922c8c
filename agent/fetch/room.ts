/**
 * Room on the volume of the models: some of it stays free whatever is fetched, and fetched models that nobody wants give
 * theirs up, the longest unused first, but only when it is needed. `file:` models are never touched.
 */
import { rm, stat, utimes } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { formatBytes } from '../../src/lib/quantity.ts'
import type { FetchDoors, Volume } from './doors.ts'
import { DiskFull } from './doors.ts'
import { RECORD, fetchedFolders } from './folder.ts'
import { isUsedByOthers } from './uses.ts'

const KEEP_SHARE = 0.1
const KEEP_BYTES = 5 * 2 ** 30

/** Bytes of the volume that fetching leaves free. */
export const keptFree = ({ totalBytes }: Volume): number => Math.min(KEEP_BYTES, Math.floor(KEEP_SHARE * totalBytes))

/** Bytes that are missing for writing `neededBytes` more; 0: there is room. */
export const missingBytes = (volume: Volume, neededBytes: number): number =>
  Math.max(0, neededBytes + keptFree(volume) - volume.freeBytes)

export interface RoomDoors extends Pick<FetchDoors, 'modelsDir' | 'volume' | 'lock' | 'clock' | 'log'> {
  /** Folders that shards of this agent need. */
  readonly inUse: () => ReadonlySet<string>
}

/** Makes room for `neededBytes` more; DiskFull with the figures when that cannot be done now. */
export async function makeRoom(doors: RoomDoors, neededBytes: number): Promise<void> {
  for (;;) {
    const volume = await doors.volume(doors.modelsDir)
    if (volume === undefined || missingBytes(volume, neededBytes) === 0) return
    if (!(await pruneOldest(doors)))
      throw new DiskFull(
        `${formatBytes(neededBytes)} more are needed on the volume of ${doors.modelsDir}, which has ` +
          `${formatBytes(volume.freeBytes)} free and keeps ${formatBytes(keptFree(volume))} of it: free some, the fetch goes on by itself`,
      )
  }
}

/** Removes the longest unused fetched model that nobody needs; false when there is none. */
async function pruneOldest(doors: RoomDoors): Promise<boolean> {
  for (const dir of await byAge(doors.modelsDir)) {
    if (doors.inUse().has(dir)) continue
    const lock = doors.lock(dir)
    if (lock === undefined) continue
    try {
      if (await isUsedByOthers(dir)) continue
      doors.log.info('unused model is removed, its room is needed', { dir })
      // First the record: what is left of a removal that breaks off is no model.
      await rm(join(dir, RECORD), { force: true })
      await rm(dir, { recursive: true, force: true })
      return true
    } finally {
      lock.release()
    }
  }
  return false
}

/** Folders, the longest unused first: the time of the record is that of the last use. */
async function byAge(modelsDir: string): Promise<readonly string[]> {
  const folders = await Promise.all(
    (await fetchedFolders(modelsDir)).map(async (dir) => ({
      dir,
      usedMs: await stat(join(dir, RECORD)).then(
        (s) => s.mtimeMs,
        () => 0,
      ),
    })),
  )
  return folders
    .sort((a, b) => a.usedMs - b.usedMs || (basename(a.dir) < basename(b.dir) ? -1 : 1))
    .map(({ dir }) => dir)
}

/** Notes that a shard uses the model now. */
export async function touch(dir: string, nowMs: number): Promise<void> {
  await utimes(join(dir, RECORD), nowMs / 1000, nowMs / 1000).catch(() => {})
}
