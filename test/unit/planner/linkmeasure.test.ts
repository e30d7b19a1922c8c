/** Who measures which link when, and what is written of it. */
import { describe, expect, test } from 'vitest'
import type { LinkMeasurement } from '../../../src/api/links.ts'
import type { Node, NodeLink } from '../../../src/api/node.ts'
import type { Shard, ShardPhase } from '../../../src/api/shard.ts'
import type { ShardGroup } from '../../../src/api/shardgroup.ts'
import type { LinkEnds, MeasureScene, Tried } from '../../../src/planner/links/measure.ts'
import {
  MEASURE_EVERY_MS,
  afterMeasurement,
  endsKey,
  planMeasurements,
  triedKey,
} from '../../../src/planner/links/measure.ts'
import { recordActions } from '../../../src/planner/links/record.ts'
import { aMac } from './objects.ts'

const NOW_MS = Date.parse('2026-11-26T12:00:00Z')
const MINUTE_MS = 60_000
const address = (name: string) => `10.0.0.${name.charCodeAt(0)}`
const link = (from: string, peer: string, more: Partial<NodeLink> = {}): NodeLink => ({
  peer,
  type: 'Ethernet1G',
  transport: 'TCP',
  address: address(from),
  peerAddress: address(peer),
  ...more,
})
/** Ready, with a measuring door, linked to the others. */
function node(
  name: string,
  peers: readonly string[],
  more: Partial<NodeLink> = {},
  wish: { door?: boolean; ready?: boolean } = {},
): Node {
  const mac = aMac(name, { links: peers.filter((peer) => peer !== name).map((peer) => link(name, peer, more)) })
  const { door = true, ready = true } = wish
  const condition = {
    type: 'Ready',
    status: ready ? 'True' : 'Unknown',
    reason: 'X',
    message: '',
    lastTransitionTime: '',
  } as const
  return {
    ...mac,
    status: {
      ...mac.status,
      addresses: [
        { type: 'Internal', address: address(name) },
        ...(door ? [{ type: 'Links', address: address(name), port: 7 } as const] : []),
      ],
      conditions: [condition],
    },
  }
}
const names = ['a', 'b', 'c', 'd']
const cluster = (more: Partial<NodeLink> = {}) => names.map((name) => node(name, names, more))
const shardOn = (nodeName: string, phase: ShardPhase): Shard =>
  ({ spec: { nodeName }, status: { phase } }) as unknown as Shard
const scene = (more: Partial<MeasureScene> = {}): MeasureScene => ({
  nodes: cluster(),
  shards: [],
  groups: [],
  running: [],
  tried: new Map(),
  nowMs: NOW_MS,
  ...more,
})
const pairs = (wish: Partial<MeasureScene>) =>
  planMeasurements(scene(wish)).start.map(({ from, to }) => `${from} ${to}`)
const ends = (from: string, to: string): LinkEnds => ({ from, to, address: address(from), peerAddress: address(to) })

describe('who measures whom', () => {
  test('each link once, a node in one measurement at a time', () => {
    expect(pairs({})).toEqual(['a b', 'c d'])
    expect(pairs({ running: [ends('a', 'b')] })).toEqual(['c d'])
    const rounds: string[] = []
    const tried = new Map<string, Tried>()
    for (let round = 0; round < 3; round += 1)
      for (const found of planMeasurements(scene({ tried })).start) {
        rounds.push(`${found.from} ${found.to}`)
        tried.set(endsKey(found), { atMs: NOW_MS, failures: 0 })
      }
    expect(rounds.sort()).toEqual(['a b', 'a c', 'a d', 'b c', 'b d', 'c d'])
    expect(planMeasurements(scene({ tried }))).toEqual({ start: [], waitMs: MEASURE_EVERY_MS })
  })
  test.each(['Fetching', 'Prepared', 'Starting', 'Loading', 'Ready', 'Stopping'] as const)(
    'not where an engine is %s',
    (phase) => expect(pairs({ shards: [shardOn('a', phase)] })).toEqual(['b c']),
  )
  test.each(['Stopped', 'Failed', 'Pending'] as const)('one that is %s disturbs nobody', (phase) =>
    expect(pairs({ shards: [shardOn('a', phase)] })).toEqual(['a b', 'c d']),
  )
  test('not to or from nodes that are silent, or whose agent has no measuring door', () => {
    expect(
      pairs({
        nodes: [
          node('a', names, {}, { ready: false }),
          node('b', names, {}, { door: false }),
          node('c', names),
          node('d', names),
        ],
      }),
    ).toEqual(['c d'])
  })
  test('not links that carry RDMA or nothing at all, or whose addresses are not known', () => {
    expect(pairs({ nodes: cluster({ address: 'fe80::1%en5', peerAddress: 'fe80::2%en5' }) })).toEqual([])
    expect(pairs({ nodes: cluster({ transport: 'RDMA' }) })).toEqual([])
    expect(
      pairs({ nodes: names.map((name) => aMac(name, { links: [{ peer: 'b', type: 'WiFi', transport: 'TCP' }] })) }),
    ).toEqual([])
  })
})

describe('when', () => {
  test('a node that has just come is left alone for a moment', () => {
    const fresh = cluster().map((n) => {
      const conditions = n.status?.conditions?.map((c) => ({ ...c, lastTransitionTime: '2026-11-26T11:59:58Z' })) ?? []
      return n.metadata.name === 'b' ? { ...n, status: { ...n.status, conditions } } : n
    })
    expect(planMeasurements(scene({ nodes: fresh }))).toMatchObject({
      start: [{ from: 'a', to: 'c' }],
      waitMs: 3_000,
    })
  })
  const measured = (ago: number) => cluster({ measuredAt: new Date(NOW_MS - ago).toISOString(), bandwidthGBps: 1 })
  test('what was measured today is left, also after the server started anew; the rest waits for its time', () => {
    expect(planMeasurements(scene({ nodes: measured(MINUTE_MS) }))).toEqual({
      start: [],
      waitMs: MEASURE_EVERY_MS - MINUTE_MS,
    })
    expect(pairs({ nodes: measured(MEASURE_EVERY_MS) })).toEqual(['a b', 'c d'])
  })
  test('never measured before measured long ago', () => {
    const nodes = measured(2 * MEASURE_EVERY_MS).map((n) => (n.metadata.name === 'a' ? node('a', ['d']) : n))
    expect(pairs({ nodes })[0]).toBe('a d')
  })
  test('a failure is tried again after half a minute, then after longer, at most ten minutes', () => {
    const waits = [1, 2, 3, 20].map((failures) => {
      const tried = new Map(
        names.flatMap((from) => names.map((to) => [endsKey(ends(from, to)), { atMs: NOW_MS, failures }] as const)),
      )
      return planMeasurements(scene({ tried })).waitMs
    })
    expect(waits).toEqual([30_000, 60_000, 120_000, 600_000])
  })
  test('being busy is waited out, and is no failure of the link', () => {
    const busy: LinkMeasurement = { kind: 'NotDone', message: 'busy' }
    const failed: LinkMeasurement = { kind: 'Failed', message: 'no answer' }
    const one = afterMeasurement(undefined, busy, 1)
    expect(one).toEqual({ atMs: 1, failures: 1 })
    expect(afterMeasurement(one, busy, 2)).toEqual({ atMs: 2, failures: 1 })
    expect(afterMeasurement(afterMeasurement(undefined, failed, 1), failed, 2)).toEqual({ atMs: 2, failures: 2 })
    expect(
      afterMeasurement({ atMs: 1, failures: 5 }, { kind: 'Measured', bytesPerSecond: 1, latencyMicros: 1 }, 2),
    ).toEqual({ atMs: 2, failures: 0 })
  })
})

describe('through the engine', () => {
  const mlx = { name: 'mlx', version: '0.32.4', build: 'one', transports: ['Ring'] } as const
  const with2 = (own: Partial<typeof mlx> | null = {}, more: Partial<NodeLink> = {}) =>
    [node('a', ['b'], more), node('b', ['a'], more)].map((n, i) => {
      const engines = i === 0 ? [mlx] : own === null ? [] : [{ ...mlx, ...own }]
      return { ...n, status: { ...n.status, engines } }
    })
  const engineOf = (wish: Partial<MeasureScene>) =>
    planMeasurements(scene({ nodes: with2(), ...wish })).start[0]?.engine
  const groupOn = (name: string) => ({ spec: { members: [{ node: name }], next: null } }) as unknown as ShardGroup

  test('where both have the same build and hold nothing', () => {
    expect(engineOf({})).toEqual({ kind: 'Wanted' })
    expect(engineOf({ shards: [shardOn('b', 'Stopped')] })).toEqual({ kind: 'Wanted' })
  })
  test.each([
    ['a shard that has not begun', { shards: [shardOn('b', 'Pending')] }],
    ['a group that comes back', { groups: [groupOn('a')] }],
  ])('not beside %s, though bytes are measured', (_, wish) => expect(engineOf(wish)).toEqual({ kind: 'Later' }))
  test.each([
    [null, 'no mlx with a ring on b'],
    [{ transports: [] as never }, 'no mlx with a ring on b'],
    [{ build: 'two' as never }, 'a and b have different builds of mlx'],
  ])('not with %j', (own, message) => expect(engineOf({ nodes: with2(own) })).toEqual({ kind: 'Impossible', message }))
  test('a link that was measured without it is due at once, and then like any other', () => {
    const measured = { measuredAt: new Date(NOW_MS).toISOString(), bandwidthGBps: 1, latencyMicros: 300 }
    const nodes = with2({}, measured)
    expect(pairs({ nodes })).toEqual(['a b'])
    const key = triedKey({ ...ends('a', 'b'), engine: { kind: 'Wanted' } })
    expect(pairs({ nodes, tried: new Map([[key, { atMs: NOW_MS, failures: 0 }]]) })).toEqual([])
    expect(pairs({ nodes: with2({}, { ...measured, allReduceMicros: 400 }) })).toEqual([])
    // Without it, it was tried: that says nothing of the engine.
    expect(pairs({ nodes, tried: new Map([[endsKey(ends('a', 'b')), { atMs: NOW_MS, failures: 0 }]]) })).toEqual([
      'a b',
    ])
  })
  test('one that had to yield is tried again, one that fails three times not before its day', () => {
    const wire = { kind: 'Measured', bytesPerSecond: 1, latencyMicros: 1 } as const
    const yielded: LinkMeasurement = { ...wire, engine: { kind: 'NotDone', message: 'a shard is wanted here' } }
    const failed: LinkMeasurement = { ...wire, engine: { kind: 'Failed', message: 'x' } }
    const after = (found: LinkMeasurement, times: number) => {
      let tried: Tried | undefined
      for (let i = 0; i < times; i += 1) tried = afterMeasurement(tried, found, NOW_MS)
      return tried?.failures
    }
    expect([1, 2, 7].map((times) => after(yielded, times))).toEqual([1, 2, 7])
    expect([1, 2, 3].map((times) => after(failed, times))).toEqual([1, 2, 0])
    expect(after({ ...wire, engine: { kind: 'Measured', allReduceMicros: 1, hopMicros: 1 } }, 4)).toBe(0)
  })
})

describe('what is written', () => {
  const measuredAt = '2026-11-26T12:00:00Z'
  const fast: LinkMeasurement = { kind: 'Measured', bytesPerSecond: 117.4e6, latencyMicros: 311.2 }
  const record = (found: LinkMeasurement, more: Partial<NodeLink> = {}, failures = 0) =>
    recordActions([node('a', ['b'], more), node('b', ['a'], more)], {
      ends: ends('a', 'b'),
      found,
      tried: { atMs: 0, failures },
      measuredAt,
    })
  const links = (actions: ReturnType<typeof record>) =>
    actions.flatMap((a) => (a.action === 'setStatus' ? ((a.status as NonNullable<Node['status']>).links ?? []) : []))
  const events = (actions: ReturnType<typeof record>) =>
    actions.flatMap((a) =>
      a.action === 'recordEvent' ? [`${a.about.metadata.name} ${a.type} ${a.reason}: ${a.message}`] : [],
    )

  test('the figures, into both ends, with their time', () => {
    const figures = { bandwidthGBps: 0.117, latencyMicros: 311, measuredAt }
    expect(links(record(fast))).toEqual([link('a', 'b', figures), link('b', 'a', figures)])
    expect(events(record(fast))).toEqual([
      'a Normal LinkMeasured: Ethernet1G to b (10.0.0.97 – 10.0.0.98): 0.117 GB/s, 311 µs',
      'b Normal LinkMeasured: Ethernet1G to a (10.0.0.98 – 10.0.0.97): 0.117 GB/s, 311 µs',
    ])
  })
  test.each([
    [0.117, 311, false],
    [0.105, 400, false],
    [0.09, 311, true],
    [0.2, 311, true],
    [0.117, 900, true],
  ])('%d GB/s and %d µs before: news %j', (bandwidthGBps, latencyMicros, news) =>
    expect(record(fast, { bandwidthGBps, latencyMicros, measuredAt: 'old' }).length > 0).toBe(news),
  )
  test('a link that became another one is told as changed', () => {
    expect(events(record(fast, { bandwidthGBps: 1.1, latencyMicros: 200, measuredAt: 'old' }))[0]).toBe(
      'a Normal LinkChanged: Ethernet1G to b (10.0.0.97 – 10.0.0.98): 0.117 GB/s, 311 µs, was 1.1 GB/s, 200 µs',
    )
  })
  test('one failure may be an agent that starts anew; the second one in a row takes the link out, once', () => {
    const failed: LinkMeasurement = { kind: 'Failed', message: 'connect EHOSTUNREACH' }
    expect(record(failed, {}, 1)).toEqual([])
    expect(links(record(failed, {}, 2)).map(({ failure }) => failure)).toEqual([
      'connect EHOSTUNREACH',
      'connect EHOSTUNREACH',
    ])
    expect(events(record(failed, {}, 2))[0]).toBe(
      'a Warning LinkFailed: Ethernet1G to b (10.0.0.97 – 10.0.0.98) is not used: connect EHOSTUNREACH',
    )
    expect(record(failed, { failure: 'connect EHOSTUNREACH' }, 3)).toEqual([])
    expect(links(record(fast, { failure: 'x' }))[0]).toEqual(
      link('a', 'b', { bandwidthGBps: 0.117, latencyMicros: 311, measuredAt }),
    )
  })
  const engine = (allReduceMicros: number, hopMicros: number): LinkMeasurement => ({
    ...fast,
    engine: { kind: 'Measured', allReduceMicros, hopMicros },
  })
  const known = { bandwidthGBps: 0.117, latencyMicros: 311, measuredAt: 'old' }
  test('what the engine waits for, beside the rest', () => {
    expect(links(record(engine(402.4, 911.8)))[1]).toEqual(
      link('b', 'a', { ...known, measuredAt, allReduceMicros: 402, hopMicros: 912 }),
    )
    expect(events(record(engine(402, 912), { ...known, allReduceMicros: 1200, hopMicros: 900 }))[0]).toBe(
      'a Normal LinkChanged: Ethernet1G to b (10.0.0.97 – 10.0.0.98): 0.117 GB/s, 311 µs, all-reduce 402 µs, hop 912 µs, ' +
        'was 0.117 GB/s, 311 µs, all-reduce 1200 µs, hop 900 µs',
    )
  })
  test.each([
    [402, 912, false],
    [480, 1300, false],
    [600, 912, true],
    [402, 1500, true],
  ])('all-reduce %d µs and hop %d µs before: news %j', (allReduceMicros, hopMicros, news) =>
    expect(record(engine(402, 912), { ...known, allReduceMicros, hopMicros }).length > 0).toBe(news),
  )
  test('why it was not measured, until it is; a figure that stands is not lost by a failure', () => {
    const failed: LinkMeasurement = { ...fast, engine: { kind: 'Failed', message: 'no mlx with a ring on b' } }
    const yielded: LinkMeasurement = { ...fast, engine: { kind: 'NotDone', message: 'a shard is wanted here' } }
    expect(events(record(failed, known))[0]).toBe(
      'a Normal LinkNotMeasured: Ethernet1G to b (10.0.0.97 – 10.0.0.98): 0.117 GB/s, 311 µs, ' +
        'all-reduce and hop not measured: no mlx with a ring on b',
    )
    const noted = { ...known, notMeasured: 'no mlx with a ring on b' }
    expect(links(record(failed, known))[0]).toEqual(link('a', 'b', noted))
    expect([record(failed, noted), record(yielded, noted)]).toEqual([[], []])
    expect(links(record(yielded, known))[0]?.notMeasured).toBe('a shard is wanted here')
    expect(record(failed, { ...known, allReduceMicros: 400, hopMicros: 900 })).toEqual([])
    expect(links(record(engine(402, 912), noted))[0]).toEqual(
      link('a', 'b', { ...known, measuredAt, allReduceMicros: 402, hopMicros: 912 }),
    )
  })
  test('being busy writes nothing, nor does a link that has other addresses by now', () => {
    expect(record({ kind: 'NotDone', message: 'busy' }, {}, 9)).toEqual([])
    expect(record(fast, { peerAddress: '10.9.9.9' })).toEqual([])
  })
})
