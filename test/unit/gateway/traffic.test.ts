/** What a gateway tells of this moment, and what the server makes of it. */
import { expect, test } from 'vitest'
import type { Traffic } from '../../../src/api/live.ts'
import { Balancer } from '../../../src/gateway/balancer.ts'
import { TrafficTeller } from '../../../src/gateway/traffic.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const replica = (shardUid: string) => ({
  ...{ shardUid, group: 'g', node: 'mini-1', address: '127.0.0.1', port: 1, concurrency: 1 },
})

function aTeller() {
  const clock = new VirtualClock()
  const balancer = new Balancer({ clock, queueMax: 5, suspectMs: 1 })
  const told: Omit<Traffic, 'gateway'>[] = []
  const server = { isAway: false }
  const teller = new TrafficTeller({
    clock,
    balancer,
    tell: (traffic) => (server.isAway ? Promise.reject(new Error('away')) : Promise.resolve(told.push(traffic))),
  })
  const never = new AbortController().signal
  return { clock, balancer, told, server, teller, lease: () => balancer.acquire('m', new Set(), never) }
}

test('requests in flight and waiting are told every two seconds, and their end', async () => {
  const { clock, balancer, told, teller, lease } = aTeller()
  balancer.setTable(new Map([['m', [replica('a')]]]))
  const first = await lease()
  void lease()
  void lease()
  await clock.advance(2_000)
  expect(told).toEqual([
    {
      replicas: [{ shardUid: 'a', inFlight: 1, tokensPerSecond: 0 }],
      queues: [{ servedName: 'm', waiting: 2 }],
    },
  ])
  if (first.kind === 'Lease') first.release()
  await clock.advance(2_000)
  expect(told[1]).toMatchObject({ replicas: [{ inFlight: 1 }], queues: [{ waiting: 1 }] })
  teller.stop()
  await clock.advance(10_000)
  expect(told).toHaveLength(2)
})

test('tokens are those of the last ten seconds', async () => {
  const { clock, balancer, told, teller } = aTeller()
  balancer.setTable(new Map([['m', [replica('a'), replica('b')]]]))
  for (let second = 0; second < 10; second += 1) {
    teller.count('a', 30)
    await clock.advance(1_000)
  }
  teller.count('b', 5)
  const rates = () => told.at(-1)?.replicas.map(({ tokensPerSecond }) => tokensPerSecond)
  await clock.advance(2_000)
  // Two of the ten seconds have gone by without a token.
  expect(rates()).toEqual([24, 0.5])
  await clock.advance(6_000)
  expect(rates()).toEqual([6, 0.5])
  await clock.advance(10_000)
  expect(rates()).toEqual([0, 0])
})

test('a server that is away hears the newest when it is back, and replicas that are gone are not told of', async () => {
  const { clock, balancer, told, server, teller } = aTeller()
  balancer.setTable(new Map([['m', [replica('a')]]]))
  server.isAway = true
  teller.count('a', 100)
  await clock.advance(6_000)
  expect(told).toEqual([])
  server.isAway = false
  balancer.setTable(new Map([['m', [replica('b')]]]))
  await clock.advance(2_000)
  expect(told).toEqual([
    {
      replicas: [{ shardUid: 'b', inFlight: 0, tokensPerSecond: 0 }],
      queues: [{ servedName: 'm', waiting: 0 }],
    },
  ])
})
