/** The real doors of an observer: files, short-lived commands, volumes. A command that hangs is given up after 10 s. */
import { execFile } from 'node:child_process'
import { readFile, statfs } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { MachineDoors } from './facts.ts'

const run = promisify(execFile)

/** Runs commands that are found on the search path. */
export const textDoor =
  (searchPath: string): MachineDoors['runText'] =>
  async (command, args) => {
    // The same words whatever the user's language is.
    const env = { PATH: searchPath, LC_ALL: 'C' }
    try {
      return (await run(command, args, { encoding: 'utf8', timeout: 10_000, maxBuffer: 2 ** 24, env })).stdout
    } catch {
      return undefined
    }
  }

export const machineDoors: MachineDoors = {
  async readText(path) {
    try {
      return await readFile(path, 'utf8')
    } catch {
      return undefined
    }
  },
  runText: textDoor('/usr/bin:/bin:/usr/sbin:/sbin'),
  async volume(path) {
    try {
      const { bavail, blocks, bsize } = await statfs(path)
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
    } catch {
      return undefined
    }
  },
}
