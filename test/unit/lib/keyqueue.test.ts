import { expect, test } from 'vitest'
import type { Clock } from '../../../src/lib/clock.ts'
import { KeyQueue } from '../../../src/lib/keyqueue.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const backoff = { firstMs: 100, maxMs: 1000, factor: 2, jitter: 0 }
const random = { next: () => 0, uuid: () => '' }
const queueOf = (clock: Clock, work: (key: string) => Promise<number | undefined>, failed: string[] = []) =>
  new KeyQueue({ clock, random, backoff, work, onError: (key, _, failures) => failed.push(`${key}${failures}`) })

test('a queued key is queued once; one that is worked on comes again afterwards', async () => {
  const worked: string[] = []
  let finish = () => {}
  const queue = queueOf(new VirtualClock(), async (key) => {
    worked.push(key)
    if (worked.length === 1) await new Promise<void>((resolve) => (finish = resolve))
    return undefined
  })
  queue.add('a')
  queue.add('b')
  queue.add('b')
  queue.add('a')
  expect(worked).toEqual(['a'])
  finish()
  await queue.idle()
  expect(worked).toEqual(['a', 'b', 'a'])
})

test('a failure comes back after backoff that doubles, a success forgets it', async () => {
  const clock = new VirtualClock()
  const failed: string[] = []
  let tries = 0
  const queue = queueOf(
    clock,
    async () => {
      tries++
      if (tries < 3) throw new Error('no')
      return undefined
    },
    failed,
  )
  queue.add('a')
  await clock.advance(99)
  expect(tries).toBe(1)
  await clock.advance(1)
  expect(tries).toBe(2)
  await clock.advance(199)
  expect(tries).toBe(2)
  await clock.advance(1)
  expect([tries, failed]).toEqual([3, ['a1', 'a2']])
})

test('another look later is no failure; the earliest appointment counts', async () => {
  const clock = new VirtualClock()
  let tries = 0
  const queue = queueOf(clock, async () => (++tries === 1 ? 500 : undefined))
  queue.add('a')
  await queue.idle()
  queue.addAfter('a', 5000)
  await clock.advance(500)
  expect(tries).toBe(2)
})

test('a stopped queue works no more', async () => {
  const clock = new VirtualClock()
  let tries = 0
  const queue = queueOf(clock, async () => (tries++, undefined))
  queue.addAfter('a', 10)
  queue.stop()
  queue.add('b')
  await clock.advance(100)
  expect(tries).toBe(0)
})
