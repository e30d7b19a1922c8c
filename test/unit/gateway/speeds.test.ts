/** When and how a gateway tells what it saw. */
import { expect, test } from 'vitest'
import type { ObservedSpeed } from '../../../src/api/speed.ts'
import { Balancer } from '../../../src/gateway/balancer.ts'
import { Speeds } from '../../../src/gateway/speeds.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const pace = (seconds: number) => ({ tokens: 100, seconds, contextTokens: 50 * seconds })

function aTeller() {
  const clock = new VirtualClock()
  const told: (readonly ObservedSpeed[])[] = []
  const server = { isAway: false }
  const speeds = new Speeds({
    clock,
    log: silentLogger,
    tell: (all) => {
      if (server.isAway) return Promise.reject(new Error('away'))
      told.push(all)
      return Promise.resolve()
    },
  })
  return { clock, told, server, speeds }
}

test('the first answer is told after a second, later ones together every ten', async () => {
  const { clock, told, speeds } = aTeller()
  speeds.add('a', pace(1))
  await clock.advance(1_000)
  expect(told).toEqual([[{ shardUid: 'a', answers: 1, tokens: 100, seconds: 1, contextTokens: 50 }]])
  speeds.add('a', pace(1))
  speeds.add('b', pace(4))
  speeds.add('a', pace(3))
  await clock.advance(9_999)
  expect(told).toHaveLength(1)
  await clock.advance(1)
  expect(told[1]).toEqual([
    { shardUid: 'a', answers: 2, tokens: 200, seconds: 4, contextTokens: 100 },
    { shardUid: 'b', answers: 1, tokens: 100, seconds: 4, contextTokens: 200 },
  ])
  await clock.advance(60_000)
  expect(told).toHaveLength(2)
})

test('what the server did not hear is told with the next', async () => {
  const { clock, told, server, speeds } = aTeller()
  server.isAway = true
  speeds.add('a', pace(1))
  await clock.advance(5_000)
  speeds.add('a', pace(1))
  server.isAway = false
  await clock.advance(10_000)
  expect(told).toMatchObject([[{ shardUid: 'a', answers: 2, tokens: 200, seconds: 2 }]])
})

test('the end tells what there is, and nothing after it', async () => {
  const { clock, told, speeds } = aTeller()
  speeds.add('a', pace(1))
  await speeds.stop()
  speeds.add('a', pace(1))
  await clock.advance(60_000)
  expect(told).toHaveLength(1)
})

test('a request is alone when no other one was at its replica from its start to its end', async () => {
  const balancer = new Balancer({ clock: new VirtualClock(), queueMax: 1, suspectMs: 1 })
  const replica = { shardUid: 'u', group: 'g', node: 'mini-1', address: '127.0.0.1', port: 1, concurrency: 2 }
  balancer.setTable(new Map([['m', [replica]]]))
  const lease = async () => {
    const answer = await balancer.acquire('m', new Set(), new AbortController().signal)
    if (answer.kind !== 'Lease') throw new Error(answer.kind)
    return answer
  }
  const first = await lease()
  expect(first.isAlone()).toBe(true)
  const second = await lease()
  expect([first.isAlone(), second.isAlone()]).toEqual([false, false])
  second.release()
  expect(first.isAlone()).toBe(false)
  first.release()
  const third = await lease()
  expect(third.isAlone()).toBe(true)
})
