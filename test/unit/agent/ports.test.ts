// Ports of shards: the agent's own range, tested by binding, rested after use.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { PORT_REST_MS, PortPool, checkPortRange, ephemeralRange, parsePortRange } from '../../../agent/ports.ts'
import type { Clock } from '../../../src/lib/clock.ts'

let dataDir: string
let nowMs = 1_000_000
const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => {} }) }
/** The first of six ports in a row that nobody else on this machine has. */
let first = 0
const aPool = () => new PortPool({ range: { first, last: first + 5 }, dataDir, clock })

beforeAll(async () => {
  // Below the ranges of `mctl dev`'s agents, so that no cluster beside this test takes one meanwhile.
  for (first = 7_000 + (process.pid % 400) * 6; !(await areFree(first)); first += 6);
})

const areFree = async (from: number): Promise<boolean> =>
  (await Promise.all([0, 1, 2, 3, 4, 5].map((n) => isFree(from + n)))).every(Boolean)

async function isFree(port: number): Promise<boolean> {
  const probe = createServer().listen(port, '0.0.0.0')
  const outcome = await Promise.race([
    once(probe, 'listening').then(() => true),
    once(probe, 'error').then(() => false),
  ])
  if (outcome) await new Promise((done) => probe.close(done))
  return outcome
}

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
    const other = createServer().listen(first + 1, host)
    await once(other, 'listening')
    expect(await aPool().take(3, '127.0.0.1')).toEqual([first, first + 2, first + 3])
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
  await expect(pool.take(7, '127.0.0.1')).rejects.toThrow(`none are free in ${first}-${first + 5}`)
  expect(await pool.take(6, '127.0.0.1')).toHaveLength(6)
})

test('ports of adopted shards are taken', async () => {
  const pool = aPool()
  pool.adopt([first, first + 2])
  expect(await pool.take(2, '127.0.0.1')).toEqual([first + 1, first + 3])
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
