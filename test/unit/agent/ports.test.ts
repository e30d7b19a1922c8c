// Ports of shards: the agent's own range, tested by binding, rested after use.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PORT_REST_MS, PortPool, checkPortRange, ephemeralRange, parsePortRange } from '../../../agent/ports.ts'
import type { Clock } from '../../../src/lib/clock.ts'

let dataDir: string
let nowMs = 1_000_000
const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => {} }) }
const range = { first: 23_000, last: 23_005 }
const aPool = () => new PortPool({ range, dataDir, clock })

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'mctl-ports-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

test('two shards never get the same port, though both ask at once', async () => {
  const pool = aPool()
  const [a, b] = await Promise.all([pool.take(3, '127.0.0.1'), pool.take(3, '127.0.0.1')])
  expect(new Set([...a, ...b]).size).toBe(6)
})

test('a port on which somebody listens is passed over', async () => {
  for (const host of ['127.0.0.1', '0.0.0.0']) {
    const other = createServer().listen(23_001, host)
    await once(other, 'listening')
    expect(await aPool().take(3, '127.0.0.1')).toEqual([23_000, 23_002, 23_003])
    other.close()
    await once(other, 'close')
  }
})

test('a port that was given back rests ten minutes, over a restart of the agent, too', async () => {
  const pool = aPool()
  pool.release(await pool.take(4, '127.0.0.1'))
  await expect(pool.take(3, '127.0.0.1')).rejects.toMatchObject({ code: 'Unavailable' })
  await expect(aPool().take(3, '127.0.0.1')).rejects.toThrow('4 of them rest for up to 10 minutes')
  nowMs += PORT_REST_MS
  expect(await aPool().take(6, '127.0.0.1')).toHaveLength(6)
})

test('when the range has no more, nothing stays taken', async () => {
  const pool = aPool()
  await expect(pool.take(7, '127.0.0.1')).rejects.toThrow('none are free in 23000-23005')
  expect(await pool.take(6, '127.0.0.1')).toHaveLength(6)
})

test('ports of adopted shards are taken', async () => {
  const pool = aPool()
  pool.adopt([23_000, 23_002])
  expect(await pool.take(2, '127.0.0.1')).toEqual([23_001, 23_003])
})

test.each(['', '1-2', '20000', '20010-20000', '20000-70000', '20000-20001x'])('%j is no port range', (text) => {
  expect(() => parsePortRange(text)).toThrow('must be A-B with 1024 <= A <= B <= 65535')
})

test('a range from which the OS serves outgoing connections is refused', () => {
  const linux = ephemeralRange('linux', '32768\t60999\n')
  expect(linux).toEqual({ first: 32_768, last: 60_999 })
  expect(ephemeralRange('darwin', undefined)).toEqual({ first: 49_152, last: 65_535 })
  expect(() => checkPortRange(parsePortRange('32000-33000'), linux)).toThrow('overlaps 32768-60999')
  expect(() => checkPortRange(parsePortRange('61000-61100'), linux)).not.toThrow()
})
