import { expect, test } from 'vitest'
import { AwakeTime } from '../../../src/lib/awake.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

test('time that passes between looks counts, also when they come a little late', async () => {
  const clock = new VirtualClock()
  const awake = new AwakeTime(clock, 1_000)
  await clock.advance(9_000)
  expect(awake.look()).toBe(0)
  expect(awake.nowMs()).toBe(9_000)
})

test('what a sleep took is told once and does not count', () => {
  const clock = new VirtualClock()
  const awake = new AwakeTime(clock, 1_000)
  clock.sleep(3_600_000)
  expect(awake.look()).toBe(3_599_000)
  expect(awake.look()).toBe(0)
  expect(awake.nowMs()).toBe(1_000)
})
