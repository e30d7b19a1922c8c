// Engine logs: bounded, read whole and followed over a rotation, three epochs per rank.
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LastLines, LineSplitter } from '../../../agent/shardhost/lines.ts'
import { LogFile } from '../../../agent/shardhost/logfile.ts'
import { findLog, logPath, logsDir, pruneLogs, readLogLines } from '../../../agent/shardhost/logs.ts'
import { systemClock } from '../../../src/lib/clock.ts'

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'mctl-logs-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

const reading = (path: string, more: object = {}) =>
  readLogLines({
    path,
    follow: false,
    signal: new AbortController().signal,
    clock: systemClock,
    ended: () => true,
    ...more,
  })

async function all(lines: AsyncIterable<string>): Promise<readonly string[]> {
  const read: string[] = []
  for await (const line of lines) read.push(line)
  return read
}

test('a log never grows beyond two files of its bound, and the newest lines stay', async () => {
  const path = join(dataDir, 'a.log')
  const log = new LogFile(path, 1000)
  for (let i = 0; i < 500; i += 1) log.write(`line ${i}\n`)
  log.close()
  expect(statSync(path).size).toBeLessThanOrEqual(1010)
  expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(1010)
  const lines = await all(reading(path))
  expect(lines.at(-1)).toBe('line 499')
  expect(lines.length).toBeGreaterThan(100)
  expect(await all(reading(path, { tail: 2 }))).toEqual(['line 498', 'line 499'])
  expect(await all(reading(path, { tail: 0 }))).toEqual([])
})

test('a follower misses no line when the log is rotated under it', async () => {
  const path = join(dataDir, 'a.log')
  const log = new LogFile(path, 200)
  let written = 0
  let over = false
  const write = (count: number) => {
    for (let i = 0; i < count; i += 1) log.write(`line ${(written += 1)}\n`)
  }
  write(3)
  const read: string[] = []
  for await (const line of reading(path, { follow: true, ended: () => over })) {
    read.push(line)
    // Each look sees at most one rotation, as with any log that turns over more slowly than it is read.
    if (read.length === written && written < 60) write(15)
    over = written >= 60
  }
  log.close()
  expect(read).toEqual(Array.from({ length: written }, (_, i) => `line ${i + 1}`))
})

test('a follower of a log that is not there yet waits for it, and ends when it is told to', async () => {
  const path = join(dataDir, 'late.log')
  const abort = new AbortController()
  const read: string[] = []
  const following = (async () => {
    const options = { follow: true, signal: abort.signal, ended: () => false }
    for await (const line of reading(path, options)) {
      read.push(line)
      abort.abort()
    }
  })()
  writeFileSync(path, 'hello\n')
  await following
  expect(read).toEqual(['hello'])
})

test('of each rank the last three epochs are kept, other ranks and running shards are left alone', () => {
  const aLog = (name: string, ageSeconds: number) => {
    const path = logPath(dataDir, 'default', name, `uid-${name}`)
    writeFileSync(path, '')
    utimesSync(path, 1_000_000 - ageSeconds, 1_000_000 - ageSeconds)
    return path
  }
  pruneLogs(dataDir, logPath(dataDir, 'default', 'chat-0-e1-0', 'x'), new Set())
  const oldest = aLog('chat-0-e1-0', 50)
  for (const [name, age] of [
    ['chat-0-e2-0', 40],
    ['chat-0-e3-0', 30],
    ['chat-0-e4-0', 20],
    ['chat-0-e1-1', 60],
  ] as const)
    aLog(name, age)
  pruneLogs(dataDir, logPath(dataDir, 'default', 'chat-0-e5-0', 'x'), new Set([oldest]))
  const names = readdirSync(logsDir(dataDir)).map((file) => file.split('_')[1])
  expect(names.toSorted()).toEqual(['chat-0-e1-0', 'chat-0-e1-1', 'chat-0-e3-0', 'chat-0-e4-0'])
})

test('a log is found by shard name and uid', () => {
  const path = logPath(dataDir, 'default', 'chat-0-e1-0', 'u1')
  pruneLogs(dataDir, path, new Set())
  writeFileSync(path, '')
  expect(findLog(dataDir, 'chat-0-e1-0', 'u1')).toBe(path)
  expect(findLog(dataDir, 'chat-0-e1-0', 'u2')).toBeUndefined()
})

test('the log of a shard that is gone is found by its name alone, the newest first', () => {
  const write = (name: string, uid: string, atSeconds: number) => {
    const path = logPath(dataDir, 'default', name, uid)
    pruneLogs(dataDir, path, new Set())
    writeFileSync(path, '')
    utimesSync(path, atSeconds, atSeconds)
    return path
  }
  const newer = write('chat-0-e1-0', 'u1', 2000)
  write('chat-0-e1-0', 'u9', 1000)
  write('other-chat-0-e1-0', 'u3', 3000)
  expect(findLog(dataDir, 'chat-0-e1-0', '')).toBe(newer)
  expect(findLog(dataDir, 'chat-0-e2-0', '')).toBeUndefined()
})

test('lines are whole whatever the chunks, also inside a character', () => {
  const lines: string[] = []
  const splitter = new LineSplitter((line) => lines.push(line))
  for (const byte of Buffer.from('äb\r\nc\n\nd€')) splitter.push(Buffer.of(byte))
  splitter.finish()
  expect(lines).toEqual(['äb', 'c', '', 'd€'])
})

test('the last lines are the last, without empty ones', () => {
  const last = new LastLines(2)
  for (const line of ['a', 'b', ' ', 'c']) last.push(line)
  expect(last.lines()).toEqual(['b', 'c'])
})
