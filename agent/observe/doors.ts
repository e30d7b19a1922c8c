/** The real doors of an observer: files, short-lived commands, volumes. A command that hangs is given up after 10 s. */
import { execFile } from 'node:child_process'
import { readFile, statfs } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { MachineDoors } from './facts.ts'

const run = promisify(execFile)

export const machineDoors: MachineDoors = {
  async readText(path) {
    try {
      return await readFile(path, 'utf8')
    } catch {
      return undefined
    }
  },
  async runText(command, args) {
    try {
      const options = { encoding: 'utf8', timeout: 10_000, maxBuffer: 2 ** 24, env: commandEnv } as const
      return (await run(command, args, options)).stdout
    } catch {
      return undefined
    }
  },
  async volume(path) {
    try {
      const { bavail, blocks, bsize } = await statfs(path)
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
    } catch {
      return undefined
    }
  },
}

/** The same words whatever the user's language is. */
const commandEnv = { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C' }
