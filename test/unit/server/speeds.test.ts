/** What gateways saw becomes Model.status.observed: at most every ten seconds, and only for news. */
import { expect, test } from 'vitest'
import type { MctlObject } from '../../../src/api/meta.ts'
import { GATEWAY_USER } from '../../../src/api/trust.ts'
import { aDeployment, aGroup, aModel, aNode, aRevision, aShard, member } from '../../support/cluster.ts'
import { aServer, codeOf } from './fixture.ts'

const group = aGroup({ strategy: 'Single', members: [member(0, 'mini-1')] })
const leader = aShard(group, 0, 'Ready')
const speed = { shardUid: leader.metadata.uid, answers: 1, tokens: 100, seconds: 2, contextTokens: 64 }

async function aServingServer(changes: readonly MctlObject[] = []) {
  const server = await aServer()
  const world = [aNode('mini-1'), aModel(), aDeployment(), aRevision(aDeployment()), group, leader, ...changes]
  await server.store.transact((tx) => world.forEach((object) => tx.put(object)))
  const gateway = server.person(GATEWAY_USER)
  const model = () => server.store.snapshot().get('Model', '', 'tiny')
  return { ...server, gateway, model, observed: () => model()?.status?.observed ?? [] }
}

test('the first answer of a group is kept at once, beside what is predicted of it', async () => {
  const { gateway, observed, lines } = await aServingServer()
  await gateway.observe({ speeds: [speed] })
  expect(observed()).toMatchObject([
    { strategy: 'Single', degree: 1, engine: 'fake', linkClass: 'none', tokensPerSecond: 50, samples: 1 },
  ])
  expect(observed()[0]?.predictedTokensPerSecond).toBeGreaterThan(100)
  expect(lines.filter((l) => l.message === 'audit' && l.facts['verb'] === 'observe')).toMatchObject([
    { facts: { kind: 'Model', name: 'tiny', user: GATEWAY_USER, decision: 'allowed' } },
  ])
})

test('a model is written at most every ten seconds; nothing that came meanwhile is lost', async () => {
  const { gateway, observed, clock } = await aServingServer()
  for (let i = 0; i < 5; i += 1) await gateway.observe({ speeds: [speed] })
  expect(observed()).toMatchObject([{ samples: 1 }])
  await clock.advance(10_000)
  await gateway.observe({ speeds: [{ ...speed, answers: 5 }] })
  expect(observed()).toMatchObject([{ tokensPerSecond: 50, samples: 10 }])
})

test('more of the same is no news, another speed is', async () => {
  const { gateway, model, observed, clock } = await aServingServer()
  await gateway.observe({ speeds: [{ ...speed, answers: 20 }] })
  const { resourceVersion } = model()?.metadata ?? {}
  await clock.advance(10_000)
  await gateway.observe({ speeds: [speed] })
  expect(model()?.metadata.resourceVersion).toBe(resourceVersion)
  await clock.advance(10_000)
  await gateway.observe({ speeds: [{ ...speed, answers: 10, seconds: 1 }] })
  expect(observed()[0]?.tokensPerSecond).toBeGreaterThan(60)
  expect(observed()[0]?.samples).toBe(31)
})

test('who is gone, of another epoch, or makes no sense is passed over, and the rest is kept', async () => {
  const old = aShard(group, 0, 'Ready', { epoch: 7 })
  const { gateway, observed } = await aServingServer([old])
  const bad = { answers: 1, tokens: 1, seconds: 0, contextTokens: 0, shardUid: leader.metadata.uid }
  await gateway.observe({
    speeds: [{ ...speed, shardUid: 'gone' }, { ...speed, shardUid: old.metadata.uid }, bad, speed],
  })
  expect(observed()).toMatchObject([{ samples: 1 }])
})

test('of a chip that nobody knows the speed is kept without a prediction', async () => {
  const strange = aNode('mini-1', { status: { nodeInfo: { chip: 'AMD EPYC' } } })
  const { gateway, observed } = await aServingServer([strange])
  await gateway.observe({ speeds: [speed] })
  expect(observed()).toEqual([
    { strategy: 'Single', degree: 1, engine: 'fake', linkClass: 'none', tokensPerSecond: 50, samples: 1 },
  ])
})

test('only gateways report speeds', async () => {
  const { person, agent } = await aServingServer()
  expect(await codeOf(person().observe({ speeds: [speed] }))).toBe('Forbidden')
  expect(await codeOf(agent('mini-1').observe({ speeds: [speed] }))).toBe('Forbidden')
})
