/** What is live: heartbeats and traffic, from memory alone. */
import { expect, test } from 'vitest'
import type { MctlObject } from '../../../src/api/meta.ts'
import { GATEWAY_USER } from '../../../src/api/trust.ts'
import { aDeployment, aGroup, aNode, aShard, member } from '../../support/cluster.ts'
import { settle } from '../../support/virtualclock.ts'
import { aServer, codeOf, hello, session } from './fixture.ts'

const group = aGroup({ strategy: 'Pipeline', members: [member(0, 'mini-1'), member(1, 'mini-2')] })
const leader = aShard(group, 0, 'Ready')
const load = (inFlight: number, tokensPerSecond: number) => ({
  ...{ shardUid: leader.metadata.uid, inFlight, tokensPerSecond },
})

async function aServingServer() {
  const server = await aServer()
  const world: readonly MctlObject[] = [aNode('mini-1'), aNode('mini-2'), aDeployment(), group, leader]
  await server.store.transact((tx) => world.forEach((object) => tx.put(object)))
  const gateway = server.person(GATEWAY_USER)
  const tell = (id: string, replicas: readonly ReturnType<typeof load>[], waiting = 0) =>
    gateway.observe({
      speeds: [],
      traffic: { gateway: id, replicas, queues: [{ servedName: aDeployment().spec.servedName, waiting }] },
    })
  return { ...server, gateway, tell, live: () => server.person().live({}) }
}

test('the last heartbeat of a session is told with its age, and touches no object', async () => {
  const { agent, clock, live, store } = await aServingServer()
  const { revision } = store.snapshot()
  const mini = session(agent('mini-1'), hello('mini-1'))
  await settle()
  mini.say({ type: 'Heartbeat', freeBytes: 5, wiredBytes: 7, usedBytes: 9, gpuBusy: 0.25, pressure: 'Warn' })
  await settle()
  await clock.advance(3_000)
  expect((await live()).nodes).toEqual([
    {
      name: 'mini-1',
      connected: true,
      heardAgoMs: 3_000,
      reading: { freeBytes: 5, wiredBytes: 7, usedBytes: 9, gpuBusy: 0.25, pressure: 'Warn' },
    },
    { name: 'mini-2', connected: false },
  ])
  mini.say({ type: 'Heartbeat', wiredBytes: -1, usedBytes: NaN, gpuBusy: 0.5 })
  await settle()
  expect((await live()).nodes[0]?.reading).toEqual({ gpuBusy: 0.5 })
  mini.leave()
  await settle()
  expect((await live()).nodes[0]).toEqual({ name: 'mini-1', connected: false, heardAgoMs: 0 })
  expect(store.snapshot().revision).toBe(revision)
})

test('the traffic of all gateways together; a silent one is forgotten', async () => {
  const { clock, tell, live } = await aServingServer()
  expect(await live()).toMatchObject({ gateways: 0, groups: [], queues: [] })
  await tell('one', [load(1, 20)], 2)
  await clock.advance(4_000)
  await tell('two', [load(2, 15.5), { ...load(9, 9), shardUid: 'gone' }], 1)
  const { namespace } = group.metadata
  expect(await live()).toMatchObject({
    gateways: 2,
    groups: [{ namespace, name: group.metadata.name, nodes: ['mini-1', 'mini-2'], inFlight: 3, tokensPerSecond: 35.5 }],
    queues: [{ namespace, deployment: aDeployment().metadata.name, waiting: 3 }],
  })
  await clock.advance(4_000)
  expect(await live()).toMatchObject({ gateways: 1, groups: [{ inFlight: 2 }] })
  await tell('two', [load(-5, Infinity)], NaN)
  expect(await live()).toMatchObject({ groups: [{ inFlight: 0, tokensPerSecond: 0 }], queues: [{ waiting: 0 }] })
})

test('people see it, agents and gateways do not; nobody but a gateway tells of traffic', async () => {
  const { agent, gateway, person } = await aServingServer()
  expect(await codeOf(agent('mini-1').live({}))).toBe('Forbidden')
  const traffic = { gateway: 'x', replicas: [load(1, 1)], queues: [] }
  expect(await codeOf(person().observe({ speeds: [], traffic }))).toBe('Forbidden')
  expect(await codeOf(gateway.observe({ speeds: [], traffic }))).toBe('ok')
})
