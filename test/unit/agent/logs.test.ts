// Engine logs: bounded, read whole and followed over a rotation, three epochs per rank.
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LastLines, LineSplitter } from '../../../agent/shardhost/lines.ts'
import { LogFile } from '../../../agent/shardhost/logfile.ts'
import { findLog, logPath, logsDir, pruneLogs, readLogLines } from '../../../agent/shardhost/logs.ts'
import type { LogLine } from '../../../agent/shardhost/stamps.ts'
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

async function all(lines: AsyncIterable<LogLine>): Promise<readonly string[]> {
  const read: string[] = []
  for await (const { text } of lines) read.push(text)
  return read
}

test('a log never grows beyond two files of its bound, and the newest lines stay', async () => {
  const path = join(dataDir, 'a.log')
  const log = new LogFile(path, () => 0, 1000)
  for (let i = 0; i < 500; i += 1) log.write(`line ${i}\n`)
  log.close()
  expect(statSync(path).size).toBeLessThanOrEqual(1035)
  expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(1035)
  const lines = await all(reading(path))
  expect(lines.at(-1)).toBe('line 499')
  expect(lines.length).toBeGreaterThan(30)
  expect(await all(reading(path, { tail: 2 }))).toEqual(['line 498', 'line 499'])
  expect(await all(reading(path, { tail: 0 }))).toEqual([])
})

test('a follower misses no line when the log is rotated under it', async () => {
  const path = join(dataDir, 'a.log')
  const log = new LogFile(path, () => 0, 500)
  let written = 0
  let over = false
  const write = (count: number) => {
    for (let i = 0; i < count; i += 1) log.write(`line ${(written += 1)}\n`)
  }
  write(3)
  const read: string[] = []
  for await (const { text } of reading(path, { follow: true, ended: () => over })) {
    read.push(text)
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
    for await (const { text } of reading(path, options)) {
      read.push(text)
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

test('each line has the time of its first byte, in the file too, and keeps it when another writer goes on', async () => {
  const path = join(dataDir, 'a.log')
  let nowMs = Date.UTC(2026, 0, 1)
  const first = new LogFile(path, () => nowMs)
  first.write('one\ntw')
  nowMs += 5_000
  first.write('o\n\n')
  first.write('2026-01-01T00:00:09.000Z said the engine\nunfin')
  first.close()
  nowMs += 5_000
  const second = new LogFile(path, () => nowMs)
  second.write(Buffer.from('three\n'))
  second.close()
  expect(readFileSync(path, 'utf8')).toBe(
    [
      '2026-01-01T00:00:00.000Z one',
      '2026-01-01T00:00:00.000Z two',
      '2026-01-01T00:00:05.000Z ',
      '2026-01-01T00:00:05.000Z 2026-01-01T00:00:09.000Z said the engine',
      '2026-01-01T00:00:05.000Z unfin',
      '2026-01-01T00:00:10.000Z three\n',
    ].join('\n'),
  )
  const texts = ['one', 'two', '', '2026-01-01T00:00:09.000Z said the engine', 'unfin', 'three']
  expect(await all(reading(path))).toEqual(texts)
  expect(await all(reading(path, { sinceMs: nowMs - 5_000 }))).toEqual(texts.slice(2))
  expect(await all(reading(path, { sinceMs: nowMs - 5_000, tail: 2 }))).toEqual(['unfin', 'three'])
  expect(await all(reading(path, { sinceMs: nowMs + 1 }))).toEqual([])
})

test('lines of before there were times stay as they are; a piece of a long line has the time of its line', async () => {
  const path = join(dataDir, 'a.log')
  writeFileSync(path, 'old\n2026-01-01T00:00:00.000Z new\n')
  const long = new LogFile(path, () => Date.UTC(2026, 0, 2))
  long.write('x'.repeat(20_000))
  long.close()
  const lines: LogLine[] = []
  for await (const line of reading(path, { sinceMs: Date.UTC(2026, 0, 1, 12) })) lines.push(line)
  const atMs = Date.UTC(2026, 0, 2)
  expect(lines.map(({ text, atMs: at }) => [text.length, at])).toEqual([
    [3, undefined],
    [16_384 - 25, atMs],
    [20_000 - 16_384 + 25, atMs],
  ])
})

test('a file is rotated between two lines, unless one does not end', () => {
  const path = join(dataDir, 'a.log')
  const log = new LogFile(path, () => 0, 100)
  log.write('y'.repeat(200))
  log.write('end of the line\n')
  expect(existsSync(`${path}.1`)).toBe(false)
  log.write('next\n')
  expect(readFileSync(path, 'utf8')).toBe('1970-01-01T00:00:00.000Z next\n')
  log.write('z'.repeat(70_000))
  log.write('z'.repeat(70_000))
  expect(readFileSync(`${path}.1`, 'utf8')).toHaveLength('1970-01-01T00:00:00.000Z '.length * 2 + 5 + 70_000)
  log.close()
})
