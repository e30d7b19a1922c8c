/** Measuring over real sockets of this machine, and who is turned away. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { OpenDoor } from '../../../agent/doorserver.ts'
import { peerDoors } from '../../../agent/fetch/hub.ts'
import { LinkBench, readFigures } from '../../../agent/links/bench.ts'
import { openMeasuringDoor } from '../../../agent/links/door.ts'
import type { Admission } from '../../../agent/links/door.ts'
import { Members } from '../../../agent/members.ts'
import { measureLink } from '../../../agent/links/measure.ts'
import { lowerQuartile, rateOf } from '../../../agent/links/rate.ts'
import { PortPool } from '../../../agent/ports.ts'
import type { LinkBenchInput } from '../../../agent/runtimes/runtime.ts'
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
const folders: string[] = []
afterEach(async () => {
  await Promise.all(doors.splice(0).map((door) => door.close()))
  // The other end of a measurement may still put its files away.
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
})
async function openDoor(isServing = false, bench?: LinkBench): Promise<number> {
  const door = await openMeasuringDoor({
    members: new Members(),
    isServing: () => isServing,
    bench,
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

/** A bench whose ranks run `script` in the place of an engine; what each was told. */
function played(script: string, firstPort: number) {
  const dataDir = mkdtempSync(join(tmpdir(), 'mctl-bench-'))
  folders.push(dataDir)
  const told: LinkBenchInput[] = []
  const bench = new LinkBench({
    launch: (input) => {
      told.push(input)
      return { engine: { argv: [process.execPath, '-e', script], env: {}, cwd: input.dir }, files: [] }
    },
    ports: new PortPool({ range: { first: firstPort, last: firstPort + 9 }, dataDir, clock: systemClock }),
    dataDir,
    isServing: () => false,
    clock: systemClock,
  })
  return { bench, told, left: () => readdirSync(join(dataDir, 'links')) }
}
const says = (figures: object) => `console.log(${JSON.stringify(JSON.stringify(figures))})`
const figures = { allReduceMicros: 400, hopMicros: 900, vectorBytes: 8192 }

describe('through the engine', () => {
  const asked = (port: number) => ({ ...order(port), engine: true })
  const engineOf = async (bench: LinkBench | undefined, port: number) => {
    const found = await measureLink({ ...measuring, bench }, asked(port))
    return found.kind === 'Measured' ? found.engine : found
  }
  test('a rank at each end, told the same ring; what the bytes take is not counted twice', async () => {
    const [own, peer] = [played(says(figures), 21_800), played('', 21_810)]
    const found = await engineOf(own.bench, await openDoor(false, peer.bench))
    expect(found).toMatchObject({ kind: 'Measured', hopMicros: 900 })
    expect(found?.kind === 'Measured' && 'allReduceMicros' in found && found.allReduceMicros).toBeLessThan(400)
    expect([own.told[0]?.rank, peer.told[0]?.rank]).toEqual([0, 1])
    expect(own.told[0]?.hosts).toEqual(peer.told[0]?.hosts)
    expect([own.left(), own.told.length, peer.told.length]).toEqual([[], 1, 1])
    expect(await own.bench.take('127.0.0.1')).toBeGreaterThan(0)
  })
  test('is not done where a shard is wanted, at either end', async () => {
    const [own, peer] = [played(says(figures), 21_820), played('', 21_830)]
    peer.bench.setWanted(true)
    const message = 'the agent of b does not measure now: a shard is wanted here'
    expect(await engineOf(own.bench, await openDoor(false, peer.bench))).toEqual({ kind: 'NotDone', message })
    own.bench.setWanted(true)
    expect(await engineOf(own.bench, await openDoor(false, peer.bench))).toEqual({
      kind: 'NotDone',
      message: 'a shard is wanted here',
    })
    expect([own.told, peer.told]).toEqual([[], []])
  })
  test.each([
    ['process.stderr.write("Traceback\\nRuntimeError: bad\\n"); process.exit(70)', 'Failed', 'RuntimeError: bad'],
    [
      'process.stderr.write("[ring] connection to a peer was lost"); process.exit(70)',
      'NotDone',
      'the rank on b ended',
    ],
    ['console.log("hello")', 'Failed', 'said no figures: hello'],
    ['process.kill(process.pid, "SIGALRM")', 'Failed', 'it was not done after 20 s'],
  ])('a rank that ends with %s: %s', async (script, kind, message) => {
    const [own, peer] = [played(script, 21_840), played('', 21_850)]
    expect(await engineOf(own.bench, await openDoor(false, peer.bench))).toEqual({
      kind,
      message: expect.stringContaining(message) as string,
    })
  })
  test('needs an engine at both ends, and the bytes are measured all the same', async () => {
    const port = await openDoor()
    expect(await engineOf(undefined, port)).toEqual({ kind: 'Failed', message: 'no engine here measures links' })
    expect(await engineOf(played('', 21_860).bench, port)).toMatchObject({
      message: "the engine's rank ended: the agent of b started none: no engine here measures links",
    })
  })
  test('nobody sends our rank to somebody else', async () => {
    const peer = played('', 21_870)
    const port = await openDoor(false, peer.bench)
    const rank = '/v1/measure/rank?address=127.0.0.1'
    expect((await ask(port, `${rank}&peerAddress=10.1.2.3&peerPort=22`)).status).toBe(400)
    expect((await ask(port, `${rank}&peerAddress=127.0.0.1&peerPort=0`)).status).toBe(400)
    expect(peer.told).toEqual([])
  })
  test.each(['', '[]', '{}', '{"allReduceMicros":-1,"hopMicros":1,"vectorBytes":1}'])('%j is no figure', (text) =>
    expect(readFigures(text, 1e9)).toBeUndefined(),
  )
  test('a vector of 8 KiB at 0.1 GB/s took 82 of the 400 µs', () =>
    expect(readFigures(JSON.stringify(figures), 0.1e9)?.allReduceMicros).toBeCloseTo(400 - 81.92))
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
