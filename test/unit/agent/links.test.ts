/** Measuring over real sockets of this machine, and who is turned away. */
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { OpenDoor } from '../../../agent/doorserver.ts'
import { peerDoors } from '../../../agent/fetch/hub.ts'
import { openMeasuringDoor } from '../../../agent/links/door.ts'
import type { Admission } from '../../../agent/links/door.ts'
import { Members } from '../../../agent/members.ts'
import { measureLink } from '../../../agent/links/measure.ts'
import { lowerQuartile, rateOf } from '../../../agent/links/rate.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'

describe('the rate', () => {
  test('is of what arrived after the start, which is slow or comes in a burst', () => {
    const steady = Array.from({ length: 11 }, (_, i) => ({ atMs: i * 100, bytes: i * 1000 }))
    expect(rateOf(steady)).toBeCloseTo(10_000)
    expect(rateOf(steady.map(({ atMs, bytes }) => ({ atMs, bytes: bytes + 1e6 })))).toBeCloseTo(10_000)
    const slowStart = steady.map(({ atMs, bytes }) => ({ atMs, bytes: atMs < 250 ? bytes / 10 : bytes }))
    expect(rateOf(slowStart)).toBeCloseTo(10_000)
  })
  test.each([
    [[]],
    [[{ atMs: 1, bytes: 5 }]],
    [
      [
        { atMs: 1, bytes: 5 },
        { atMs: 1, bytes: 9 },
      ],
    ],
  ])('%j says nothing', (arrivals) => expect(rateOf(arrivals)).toBeUndefined())
  test('pauses of a process do not move the quartile', () => {
    expect(lowerQuartile([3, 1, 900, 2, 800, 2, 4, 700])).toBe(2)
    expect(lowerQuartile([])).toBeUndefined()
  })
})

const doors: OpenDoor[] = []
afterEach(async () => {
  await Promise.all(doors.splice(0).map((door) => door.close()))
})
async function openDoor(isServing = false): Promise<number> {
  const door = await openMeasuringDoor({
    members: new Members(),
    isServing: () => isServing,
    ownAddresses: () => ['127.0.0.1'],
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
  })
  doors.push(door)
  return door.port
}
const measuring = { ask: peerDoors().ask, isServing: () => false, platform: 'linux', clock: systemClock } as const
const order = (port: number, peerAddress = '127.0.0.1') => ({ peer: 'b', address: '127.0.0.1', peerAddress, port })
const ask = (port: number, path: string, headers: Record<string, string> = {}) =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers })

describe('a measurement', () => {
  test('has a rate and a time there and back, and leaves nothing open', async () => {
    const port = await openDoor()
    const found = await measureLink(measuring, order(port))
    expect(found).toEqual({
      kind: 'Measured',
      bytesPerSecond: expect.any(Number) as number,
      latencyMicros: expect.any(Number) as number,
    })
    if (found.kind !== 'Measured') return
    expect(found.bytesPerSecond).toBeGreaterThan(1e6)
    expect(found.latencyMicros).toBeGreaterThan(0)
    // The door is free for the next one.
    expect((await ask(port, '/v1/measure/echo?address=127.0.0.1')).status).toBe(200)
  })
  test('is not done while engines run at either end', async () => {
    const port = await openDoor(true)
    expect(await measureLink(measuring, order(port))).toEqual({
      kind: 'NotDone',
      message: 'the agent of b does not measure now: engines run here',
    })
    expect((await measureLink({ ...measuring, isServing: () => true }, order(port))).kind).toBe('NotDone')
  })
  test('that reaches nobody is a failure', async () => {
    const port = await openDoor()
    await doors.pop()?.close()
    expect(await measureLink(measuring, order(port))).toMatchObject({
      kind: 'Failed',
      message: expect.stringContaining('ECONNREFUSED') as string,
    })
  })
})

describe('the door', () => {
  test('knows its own addresses and nothing else, and no browser', async () => {
    const port = await openDoor()
    const status = async (path: string, headers = {}) => (await ask(port, path, headers)).status
    expect(await status('/v1/measure/echo?address=10.1.2.3')).toBe(400)
    expect(await status('/v1/measure/echo?address=0.0.0.0')).toBe(400)
    expect(await status('/v1/measure/other?address=127.0.0.1')).toBe(404)
    expect(await status('/v1/measure/echo?address=127.0.0.1', { origin: 'http://evil' })).toBe(403)
  })
  test('measures one link at a time, and serves nobody without the ticket', async () => {
    const door = await openDoor()
    const admission = (await (await ask(door, '/v1/measure/source?address=127.0.0.1')).json()) as Admission
    expect((await ask(door, '/v1/measure/source?address=127.0.0.1')).status).toBe(409)
    expect(await came(admission.port, 'x'.repeat(36))).toBe(0)
    expect(await came(admission.port, `${admission.ticket}x`)).toBe(0)
    // The listener still waits for who has the ticket, once.
    expect(await came(admission.port, admission.ticket)).toBeGreaterThan(0)
    await expect(came(admission.port, admission.ticket)).rejects.toThrow('ECONNREFUSED')
  })
})

/** Bytes that come until the first hundred thousand, or until the other side hangs up. */
function came(port: number, ticket: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let bytes = 0
    const socket = connect({ host: '127.0.0.1', port })
    socket.write(ticket)
    socket.on('error', reject)
    socket.on('close', () => resolve(bytes))
    socket.on('data', (chunk) => {
      bytes += chunk.byteLength
      if (bytes > 100_000) socket.destroy()
    })
  })
}
