/**
 * Identity of processes. A pid alone names nothing for long: pid + start time is a process. Start times are opaque
 * strings to compare, as the OS tells them.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Start time of a living process; undefined when there is none, or only its zombie. */
export function startTimeOf(pid: number): string | undefined {
  return process.platform === 'linux' ? linuxStartTime(pid) : psStartTime(pid)
}

/** Is it still the same process? */
export const isAlive = (pid: number, startTime: string): boolean => startTimeOf(pid) === startTime

/**
 * Sends a signal to exactly this process, or with `group` to the process group that it leads. False when it is gone:
 * another process that has its pid now is never signalled.
 */
export function signalProcess(
  pid: number,
  startTime: string,
  signal: NodeJS.Signals,
  options: { group?: boolean } = {},
): boolean {
  if (!isAlive(pid, startTime)) return false
  return sendSignal(options.group === true ? -pid : pid, signal)
}

/** Kills what a process that just ended left behind in the group it led. */
export const killGroup = (pid: number): boolean => sendSignal(-pid, 'SIGKILL')

function sendSignal(target: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(target, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    // macOS answers EPERM for a group of zombies only.
    if ((error as NodeJS.ErrnoException).code === 'EPERM' && target < 0) return false
    throw error
  }
}

/** Field 22 of /proc/PID/stat: clock ticks since boot. The command (field 2) may hold spaces and brackets. */
function linuxStartTime(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  return parseProcStat(stat)
}

/** Start time out of a /proc/PID/stat line; undefined for a zombie or a dead process. */
export function parseProcStat(stat: string): string | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  return state === 'Z' || state === 'X' || state === 'x' ? undefined : fields[19]
}

function psStartTime(pid: number): string | undefined {
  try {
    // The locale and zone are fixed, for the text must be the same whoever asks.
    const text = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { PATH: '/bin:/usr/bin', LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return parsePs(text)
  } catch {
    return undefined
  }
}

/** Start time out of `ps -o stat=,lstart=`; undefined for a zombie. */
export function parsePs(text: string): string | undefined {
  const match = /^\s*(\S+)\s+(\S.*\S)\s*$/.exec(text)
  const [, state = 'Z', startTime] = match ?? []
  return state.startsWith('Z') ? undefined : startTime
}
