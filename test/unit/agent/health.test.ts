import { describe, expect, test } from 'vitest'
import { HealthWatch, defaultLiveness, unwellOf } from '../../../agent/shardhost/health.ts'
import type { EngineView } from '../../../agent/shardhost/phase.ts'
import { onEvent, startingView } from '../../../agent/shardhost/phase.ts'
import type { EngineEvent } from '../../../agent/shardhost/protocol.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const liveness = { ...defaultLiveness, beatSeconds: 30 }
const beat = (changes: Partial<Extract<EngineEvent, { ev: 'hb' }>> = {}): EngineEvent => ({
  ev: 'hb',
  phase: 'ready',
  busy: false,
  active: 0,
  queued: 0,
  steps: 7,
  polls: 9,
  ptok: 0,
  gtok: 0,
  age: 0,
  mem: 0,
  ...changes,
})
const ready: EngineView = { ...onEvent(startingView, { ev: 'ready', s: 1 }, 0), phase: 'Ready' }
/** The engine's beats, each at its second. */
const after = (...beats: readonly (readonly [number, EngineEvent])[]): EngineView =>
  beats.reduce((view, [second, event]) => onEvent(view, event, second * 1000), ready)
const reasonAt = (view: EngineView, second: number, failures = 0) =>
  unwellOf(view, liveness, { failures, problem: 'HTTP 500' }, second * 1000)?.reason

describe('a Ready engine', () => {
  test.each([
    ['beats and moves', after([100, beat()]), 101, undefined],
    ['beats no more: frozen', after([100, beat()]), 131, 'EngineFrozen'],
    ['has beaten half a minute ago', after([100, beat()]), 130, undefined],
    ['beats and makes no step: stalled', after([100, beat({ age: 60.5 })]), 101, 'EngineStalled'],
    ['works, token after token', after([0, beat({ busy: true })], [70, beat({ busy: true, gtok: 3 })]), 71, undefined],
    [
      'has requests and makes no token: stuck',
      after([0, beat({ busy: true })], [61, beat({ busy: true })]),
      61,
      'EngineStuck',
    ],
    [
      'lets requests wait and takes none: stuck',
      after([0, beat({ queued: 1 })], [61, beat({ queued: 1 })]),
      61,
      'EngineStuck',
    ],
    ['was idle for long', after([0, beat()], [600, beat()]), 601, undefined],
    ['has just got its first request after long', after([0, beat()], [600, beat({ busy: true })]), 601, undefined],
  ])('that %s', (_, view, second, reason) => {
    expect(reasonAt(view, second)).toBe(reason)
  })

  test('that fails one canary has another try, and after two it is of no use', () => {
    const view = after([100, beat()])
    expect(reasonAt(view, 101, 1)).toBeUndefined()
    expect(reasonAt(view, 101, 2)).toBe('CanaryFailed')
  })
})

test('an engine that loads makes no progress, and that says nothing', () => {
  expect(reasonAt({ ...ready, phase: 'Loading' }, 1000)).toBeUndefined()
})

describe('the watch', () => {
  /** A leader that beats every second and answers canaries as `answer` says. */
  function watching(answer: () => Promise<string | undefined>) {
    const clock = new VirtualClock()
    const over = new AbortController()
    const world = { view: ready, taken: 0, inFlight: 0, asked: 0, told: [] as (string | undefined)[] }
    const watch: HealthWatch = new HealthWatch({
      clock,
      liveness,
      view: () => world.view,
      leader: {
        taken: () => world.taken,
        inFlight: () => world.inFlight,
        ask: () => {
          world.asked += 1
          return answer()
        },
      },
      tell: () => world.told.push(watch.unwell()?.reason),
      note: () => {},
    })
    watch.start(over.signal)
    const run = async (seconds: number, event: EngineEvent | 'Silent' = beat()) => {
      for (let i = 0; i < seconds; i += 1) {
        await clock.advance(1000)
        if (event !== 'Silent') world.view = onEvent(world.view, event, watch.nowMs())
      }
    }
    return { clock, world, watch, run, stop: () => over.abort() }
  }

  test('asks an idle leader for a token every two minutes, and no more while it answers', async () => {
    const { world, run, stop } = watching(() => Promise.resolve(undefined))
    await run(400)
    expect(world.asked).toBe(3)
    expect(world.told).toEqual([])
    stop()
  })

  test('asks none of a leader that has requests', async () => {
    const { world, run, stop } = watching(() => Promise.resolve(undefined))
    world.inFlight = 1
    await run(300)
    expect(world.asked).toBe(0)
    stop()
  })

  test('tells of an idle engine that fails its canary twice, within seconds of the first', async () => {
    const { world, run, stop } = watching(() => Promise.resolve('HTTP 500'))
    await run(130)
    expect(world.told).toEqual(['CanaryFailed'])
    stop()
  })

  test('does not hold a canary against an engine that a request came to meanwhile', async () => {
    const { world, run, stop } = watching(() => {
      world.taken += 1
      return Promise.resolve('no answer within 30 s')
    })
    await run(200)
    expect(world.told).toEqual([])
    stop()
  })

  test('does not count the time that the machine slept', async () => {
    const { clock, world, watch, run, stop } = watching(() => Promise.resolve(undefined))
    await run(5)
    clock.sleep(3_600_000)
    await run(1, 'Silent')
    expect(watch.unwell()).toBeUndefined()
    await run(31, 'Silent')
    expect(watch.unwell()?.reason).toBe('EngineFrozen')
    expect(world.asked).toBe(0)
    stop()
  })
})
