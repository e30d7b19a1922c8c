/** The one way by which addresses of Thunderbolt links change this machine. Needs root. Not verified on hardware. */
import { execFile } from 'node:child_process'
import type { ThunderboltDoors } from './configure.ts'

const SYSTEM_PATH = '/usr/bin:/bin:/usr/sbin:/sbin'

/** A command that hangs is given up after 10 s; one that cannot be started has the exit code 127. */
export const changeDoor =
  (searchPath = SYSTEM_PATH): ThunderboltDoors['change'] =>
  ([command = '', ...args]) =>
    new Promise((resolve) => {
      const options = { encoding: 'utf8', timeout: 10_000, env: { PATH: searchPath, LC_ALL: 'C' } } as const
      execFile(command, args, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 127
        const output = `${stdout}${stderr}`
        resolve({ code, output: code !== 0 && output.trim() === '' ? (error?.message ?? '') : output })
      })
    })
