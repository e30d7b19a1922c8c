import { expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import type { ShardExit } from '../../../src/api/shard.ts'
import type { ShardGroup, ShardGroupSpec, ShardGroupStatus } from '../../../src/api/shardgroup.ts'
import { planDeployment } from '../../../src/planner/deployment.ts'
import { planShardGroup } from '../../../src/planner/shardgroup.ts'
import type { ModelDeploymentStatus } from '../../../src/api/modeldeployment.ts'
import {
  actionsOf,
  aDeployment,
  aGroup,
  aRevision,
  aShard,
  aWorld,
  member,
  NOW_MS,
  reasonsOf,
} from '../../support/cluster.ts'

const deployment = aDeployment()
const revisions = [aRevision(deployment)]
const noMemory: Omit<ShardExit, 'atMs'> = {
  code: 70,
  reason: 'EngineExited',
  message: 'the engine ended with code 70 while Loading: cannot allocate 123456 bytes',
}

/** Lets the group fail to load with each of these exits, one epoch after the other; its last pass. */
function failing(exits: readonly Partial<ShardExit>[], wasReady: readonly number[] = []) {
  let nowMs = NOW_MS
  let group = aGroup({ members: [member(0, 'mini-1')], strategy: 'Single' }, { status: { phase: 'Starting' } })
  let plan = planShardGroup(aWorld(), group, nowMs)
  exits.forEach((exit, i) => {
    if (wasReady.includes(i)) group = { ...group, status: { ...group.status, phase: 'Ready', readySinceMs: nowMs } }
    const failed = aShard(group, 0, 'Failed', { status: { exit: { ...noMemory, ...exit, atMs: nowMs } } })
    plan = planShardGroup(aWorld({ groups: [group], shards: [failed], revisions }), group, nowMs)
    const reforming = written(plan, group)
    const promoted = written(planShardGroup(aWorld({ groups: [reforming] }), reforming, nowMs), reforming)
    group = promoted
    nowMs += 3_600_000
  })
  return { plan, group, nowMs: nowMs - 3_600_000 }
}

function written(plan: ReturnType<typeof planShardGroup>, group: ShardGroup): ShardGroup {
  const spec = actionsOf(plan, 'setSpec').at(-1)?.spec as ShardGroupSpec | undefined
  const status = actionsOf(plan, 'setStatus').at(-1)?.status as ShardGroupStatus
  return { ...group, spec: spec ?? group.spec, status }
}

test('three identical load failures make a group Failed, with the remedy, and it is tried every five minutes', () => {
  const twice = failing([{}, {}])
  expect(twice.group.status).toMatchObject({ phase: 'Backoff', loadFailures: 2 })
  const { plan, group, nowMs } = failing([{}, {}, {}])
  expect(reasonsOf(plan)).toEqual(['RankFailed', 'LoadFailed'])
  expect(group.status).toMatchObject({ phase: 'Failed', loadFailures: 3, backoffUntilMs: nowMs + 300_000 })
  const ready = findCondition(group.status?.conditions, 'Ready')
  expect(ready).toMatchObject({ status: 'False', reason: 'LoadFailed' })
  expect(ready?.message).toContain('what to do: the engine got no memory: lower serving.contextTokens')
  expect(ready?.message).toContain('next try after')
  const world = aWorld({ groups: [group], revisions })
  const waiting = planShardGroup(world, group, nowMs + 1_000)
  expect(written(waiting, group).status?.phase).toBe('Failed')
  expect(waiting.waitMs).toBe(299_000)
  expect(actionsOf(planShardGroup(world, group, nowMs + 300_000), 'create')).toHaveLength(1)
})

test('its deployment says so, and what to do', () => {
  const { group, nowMs } = failing([{}, {}, {}])
  const plan = planDeployment(aWorld({ groups: [group], revisions, deployments: [deployment] }), deployment, nowMs)
  const { conditions } = actionsOf(plan, 'setStatus').at(-1)?.status as ModelDeploymentStatus
  expect(findCondition(conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'LoadFailed' })
  expect(findCondition(conditions, 'Ready')?.message).toContain('what to do:')
})

test.each([
  [
    'numbers in the message do not make a failure another one',
    [{}, { message: noMemory.message.replace('3', '9') }, {}],
    3,
  ],
  ['another cause starts the count over', [{}, {}, { message: 'no such file: model.safetensors' }], 1],
  ['another exit code starts the count over', [{}, {}, { code: 65 }], 1],
  ['what a neighbour left behind does not count', [{}, {}, { message: '[ring] connection to a peer was lost' }], 0],
  ['a start that came too late does not count', [{}, {}, { reason: 'StartWindowMissed' }], 0],
])('%s', (_, exits, count) => {
  expect(failing(exits).group.status?.loadFailures).toBe(count)
})

test('a group that was Ready in between did load', () => {
  const { group } = failing([{}, {}, {}], [2])
  expect(group.status).toMatchObject({ phase: 'Backoff', loadFailures: 0 })
})

test('a Failed group that gets Ready after all has nothing on its record', () => {
  const { group, nowMs } = failing([{}, {}, {}])
  const rendezvous = { startByMs: nowMs, hosts: [['127.0.0.1:7000']] }
  const started = { ...group, status: { ...group.status, phase: 'Starting' as const } }
  const shards = [aShard(started, 0, 'Ready', { rendezvous })]
  const plan = planShardGroup(aWorld({ groups: [started], shards, revisions }), started, nowMs + 310_000)
  expect(written(plan, started).status).toMatchObject({ phase: 'Ready', loadFailures: 0 })
})

test('a backoff that ends further off than any backoff lasts is of a clock that was set back: it counts for nothing', () => {
  const status: ShardGroupStatus = { phase: 'Backoff', restarts: 3, backoffUntilMs: NOW_MS + 86_400_000 }
  const group = aGroup({ epoch: 2 }, { status })
  expect(actionsOf(planShardGroup(aWorld({ groups: [group], revisions }), group, NOW_MS), 'create')).toHaveLength(2)
})
