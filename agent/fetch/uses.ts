/**
 * Marks in a model's folder that say which agents of this machine need it, for agents may share a models folder. A mark
 * counts as long as its process lives.
 */
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive, startTimeOf } from '../../src/lib/process.ts'

const PREFIX = '.used-by-'
const pattern = /^\.used-by-(\d+)-(.+)$/

/** The start time goes into a name, and on macOS it has spaces and colons. */
const ownMark = (): string => `${PREFIX}${process.pid}-${encodeURIComponent(startTimeOf(process.pid) ?? '')}`

export async function markUsed(dir: string): Promise<void> {
  await writeFile(join(dir, ownMark()), '').catch(() => {}) // gone in the meantime: then nobody can need it
}

export const unmarkUsed = (dir: string): Promise<void> => rm(join(dir, ownMark()), { force: true })

/** Does any living agent of this machine need the folder, this one included? */
export const isUsed = async (dir: string): Promise<boolean> =>
  (await readdir(dir).catch((): string[] => [])).includes(ownMark()) || isUsedByOthers(dir)

/** Does another living process need the folder? Marks of the dead are removed. */
export async function isUsedByOthers(dir: string): Promise<boolean> {
  let used = false
  for (const name of await readdir(dir).catch((): string[] => [])) {
    const [, pid, startTime = ''] = pattern.exec(name) ?? []
    if (pid === undefined || Number(pid) === process.pid) continue
    if (isAlive(Number(pid), decodeURIComponent(startTime))) used = true
    else await rm(join(dir, name), { force: true })
  }
  return used
}
