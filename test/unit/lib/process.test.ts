// A process is a pid and its start time.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import { isAlive, parseProcStat, parsePs, signalProcess, startTimeOf } from '../../../src/lib/process.ts'
import { userDataDir } from '../../../src/lib/userdata.ts'

const children: ReturnType<typeof spawn>[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

async function aSleeper(): Promise<{ pid: number; startTime: string; ended: Promise<unknown> }> {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' })
  children.push(child)
  await once(child, 'spawn')
  const pid = child.pid ?? 0
  return { pid, startTime: startTimeOf(pid) ?? '', ended: once(child, 'exit') }
}

test('a living process has a start time that stays', async () => {
  const { pid, startTime } = await aSleeper()
  expect(startTime).not.toBe('')
  expect(isAlive(pid, startTime)).toBe(true)
})

test('another process under the same pid is not the same, and gets no signal', async () => {
  const { pid, startTime } = await aSleeper()
  expect(isAlive(pid, `${startTime}0`)).toBe(false)
  expect(signalProcess(pid, `${startTime}0`, 'SIGKILL')).toBe(false)
  expect(isAlive(pid, startTime)).toBe(true)
})

test('a process that was killed is gone', async () => {
  const { pid, startTime, ended } = await aSleeper()
  expect(signalProcess(pid, startTime, 'SIGKILL')).toBe(true)
  await ended
  expect(startTimeOf(pid)).toBeUndefined()
  expect(signalProcess(pid, startTime, 'SIGKILL')).toBe(false)
})

test('the start time is found behind a command of any name, and a zombie has none', () => {
  const stat = (state: string) => `12 (a (b) c) ${state} 1 12 12 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 209493 1 2`
  expect(parseProcStat(stat('S'))).toBe('209493')
  expect(parseProcStat(stat('Z'))).toBeUndefined()
  expect(parsePs('Ss   Tue Nov 25 22:23:36 2025\n')).toBe('Tue Nov 25 22:23:36 2025')
  expect(parsePs('Z    Tue Nov 25 22:23:36 2025\n')).toBeUndefined()
  expect(parsePs('')).toBeUndefined()
})

test("the user's data folder follows MCTL_HOME, then the platform", () => {
  expect(userDataDir({ HOME: '/h', MCTL_HOME: '/m' }, 'darwin')).toBe('/m')
  expect(userDataDir({ HOME: '/h' }, 'darwin')).toBe('/h/Library/Application Support/mctl')
  expect(userDataDir({ HOME: '/h' }, 'linux')).toBe('/h/.local/share/mctl')
  expect(userDataDir({ HOME: '/h', XDG_DATA_HOME: '/x' }, 'linux')).toBe('/x/mctl')
})
