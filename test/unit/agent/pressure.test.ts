import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Pressure } from '../../../agent/observe/facts.ts'
import type { NodeObservation } from '../../../agent/plan.ts'
import { planNode } from '../../../agent/plan.ts'
import type { PressureHistory } from '../../../agent/pressure.ts'
import { afterReading, CRITICAL_MS, criticalForMs, isPressed, startOver } from '../../../agent/pressure.ts'
import { sharedTurn } from '../../../agent/pressureturn.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { CLUSTER, localShard, wantedShard } from '../../support/agentworld.ts'
import { aFolder } from '../../support/stores.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

/** A reading every 5 s, the last one at the end. */
const readings = (...list: readonly Pressure[]): PressureHistory | undefined =>
  list.reduce<PressureHistory | undefined>(
    (history, pressure, i) => afterReading(history, pressure, i * 5_000),
    undefined,
  )
const forMs = (history: PressureHistory | undefined) => (history === undefined ? 0 : criticalForMs(history))

describe('readings', () => {
  test.each([
    [['Critical'], 0],
    [['Critical', 'Critical', 'Critical'], 10_000],
    [['Critical', 'Warn', 'Critical'], 0],
    [['Normal', 'Critical', 'Critical'], 5_000],
  ] as const)('%j are %d ms of critically short memory', (list, ms) => {
    expect(forMs(readings(...list))).toBe(ms)
  })

  test('that lie far apart say nothing of the time between them', () => {
    expect(forMs(afterReading(readings('Critical'), 'Critical', 3_600_000))).toBe(0)
  })

  test('count anew once a group is being stopped', () => {
    const history = startOver(afterReading(readings('Critical', 'Critical'), 'Critical', 10_000), 10_000)
    expect(criticalForMs(afterReading(history, 'Critical', 15_000))).toBe(5_000)
  })

  test('a node stays pressed for a minute after a warning, five after memory was critical', () => {
    expect(isPressed(readings('Normal'), 0)).toBe(false)
    expect([59_999, 60_000].map((ms) => isPressed(readings('Warn'), ms))).toEqual([true, false])
    const critical = afterReading(readings('Critical'), 'Normal', 5_000)
    expect([299_999, 300_000].map((ms) => isPressed(critical, ms))).toEqual([true, false])
  })
})

describe('memory that has been critical for ten seconds', () => {
  const shard = (group: string, priority: number, createdAt = '2026-01-01T00:00:00Z'): Shard => {
    const made = wantedShard({ group, uid: `uid-${group}`, status: { phase: 'Ready' } })
    return { ...made, metadata: { ...made.metadata, creationTimestamp: createdAt }, spec: { ...made.spec, priority } }
  }
  const vip = shard('vip-0', 10)
  const old = shard('old-0', 0)
  const young = shard('young-0', 0, '2026-01-02T00:00:00Z')
  const stopped = (criticalMs: number, shards: readonly Shard[], changes: Partial<NodeObservation> = {}) =>
    planNode(
      shards,
      {
        clusterUid: CLUSTER,
        local: shards.map((s) => localShard(s, 'Ready')),
        models: [],
        serverNowMs: 1,
        failures: new Map(),
        stopsAsked: new Map(),
        started: new Set(),
        busy: new Set(),
        criticalForMs: criticalMs,
        ...changes,
      },
      1,
    ).actions.flatMap((a) => (a.kind === 'failShard' ? [`${a.shardName} ${a.exit.reason}`] : []))

  test.each([
    ['a group of the lowest priority', [vip, old], ['old-0-e1-0 MemoryPressure']],
    ['of equals the youngest', [old, young, vip], ['young-0-e1-0 MemoryPressure']],
    ['the last one, however important', [vip], ['vip-0-e1-0 MemoryPressure']],
  ])('costs %s its place', (_, shards, expected) => {
    expect(stopped(10_000, shards)).toEqual(expected)
    expect(stopped(9_999, shards)).toEqual([])
  })

  test('costs no second group while the first one still stops', () => {
    const local = [localShard(old, 'Stopping'), localShard(vip, 'Ready')]
    expect(stopped(60_000, [old, vip], { local })).toEqual([])
  })
})

describe('several agents of one machine', () => {
  const clock = new VirtualClock()
  const agents = (folder: string, count: number) =>
    Array.from({ length: count }, (_, i) => sharedTurn(folder, clock, `agent-${i}`))

  test('take turns: of all that ask in ten seconds one may act, and may ask again', async () => {
    const folder = join(aFolder(), 'pressure')
    const [first, ...others] = agents(folder, 3)
    for (let round = 0; round < 40; round++) {
      const now = [first, ...others].map((turn) => turn?.take())
      expect(now.filter((may) => may).length).toBeLessThanOrEqual(1)
      if (round % 4 === 0) expect(first?.take()).toBe(now[0])
      await clock.advance(700)
    }
    expect(readdirSync(folder).length).toBeLessThanOrEqual(2)
  })

  test('the next one waits ten seconds, also over the edge of a span; a dead one is not waited for longer', async () => {
    const [one, two] = agents(aFolder(), 2)
    await clock.advance(CRITICAL_MS - (clock.nowMs() % CRITICAL_MS) - 1)
    expect([one?.take(), two?.take()]).toEqual([true, false])
    await clock.advance(CRITICAL_MS - 1)
    expect(two?.take()).toBe(false)
    await clock.advance(1)
    expect([two?.take(), one?.take()]).toEqual([true, false])
  })

  test('a folder that cannot be used makes each of them act alone', () => {
    const file = join(aFolder(), 'file')
    writeFileSync(file, '')
    expect(agents(join(file, 'in-a-file'), 2).map((turn) => turn.take())).toEqual([true, true])
  })
})
