import { describe, expect, test } from 'vitest'
import type { Shard } from '../../../src/api/shard.ts'
import type { ShardGroup, ShardGroupSpec, ShardGroupStatus } from '../../../src/api/shardgroup.ts'
import { findCondition } from '../../../src/api/conditions.ts'
import { planShardGroup } from '../../../src/planner/shardgroup.ts'
import type { Plan } from '../../../src/planner/actions.ts'
import type { World } from '../../../src/planner/world.ts'
import {
  aBinding,
  actionsOf,
  aDeployment,
  aGroup,
  aNode,
  aRevision,
  aShard,
  aWorld,
  condition,
  member,
  NOW_MS,
  reasonsOf,
} from '../../support/cluster.ts'

const deployment = aDeployment()
const revisions = [aRevision(deployment)]
const plan = (group: ShardGroup, shards: readonly Shard[], world: Partial<World> = {}, nowMs = NOW_MS): Plan =>
  planShardGroup(aWorld({ groups: [group], shards, revisions, deployments: [deployment], ...world }), group, nowMs)
const statusIn = (p: Plan) => actionsOf(p, 'setStatus').at(-1)?.status as ShardGroupStatus
const specIn = (p: Plan) => actionsOf(p, 'setSpec').at(0)?.spec as ShardGroupSpec
const readyIn = (p: Plan) => findCondition(statusIn(p).conditions, 'Ready')
const stopped = { code: 1, reason: 'EngineExited', message: 'boom', atMs: NOW_MS - 500 }
const preparing = { phase: 'Preparing' } as const
const rendezvous = { startByMs: NOW_MS + 5_000, hosts: [['127.0.0.1:7000'], ['127.0.0.1:7001']] }
const ready = (group: ShardGroup) => [
  aShard(group, 0, 'Ready', { rendezvous }),
  aShard(group, 1, 'Ready', { rendezvous }),
]

describe('forming', () => {
  test('a bound group gets one shard per member, which it owns and agents hold', () => {
    const p = plan(aGroup(), [])
    const shards = actionsOf(p, 'create').map((a) => a.object)
    expect(shards.map((s) => s.metadata.name)).toEqual(['chat-0-e1-0', 'chat-0-e1-1'])
    expect(shards[1]).toMatchObject({
      metadata: { finalizers: ['mctl.dev/agent'], ownerReferences: [{ uid: 'uid-chat-0' }] },
      spec: { nodeName: 'mini-2', rank: 1, worldSize: 2, epoch: 1, rendezvous: null, model: { layers: 4 } },
    })
    expect(statusIn(p).phase).toBe('Preparing')
  })

  test('an unbound group waits and keeps no shards', () => {
    const group = aGroup({ members: [], epoch: 2 })
    const p = plan(group, [aShard(group, 0, 'Ready', { epoch: 1 })])
    expect(actionsOf(p, 'create')).toEqual([])
    expect(actionsOf(p, 'delete')).toHaveLength(1)
    expect(statusIn(p).phase).toBe('Pending')
  })

  test('the next epoch waits for shards of the older one on a reachable node', () => {
    const group = aGroup({ epoch: 2 })
    const p = plan(group, [aShard(group, 1, 'Stopping', { epoch: 1 })])
    expect(actionsOf(p, 'create')).toEqual([])
    expect(readyIn(p)).toMatchObject({ status: 'False', reason: 'WaitingForOldEpoch' })
  })

  test('shards of the older epoch on a silent node delay nothing', () => {
    const group = aGroup({ epoch: 2, members: [member(0, 'mini-1')] })
    const nodes = [aNode('mini-1'), aNode('mini-2', { silentForMs: 200_000 })]
    const p = plan(group, [aShard(group, 1, 'Ready', { epoch: 1 })], { nodes })
    expect(actionsOf(p, 'create')).toHaveLength(1)
  })

  test('no epoch starts before the backoff has passed, and the time to wait is told', () => {
    const status: ShardGroupStatus = { phase: 'Backoff', restarts: 2, backoffUntilMs: NOW_MS + 4_000 }
    const group = aGroup({ epoch: 2 }, { status })
    const waiting = plan(group, [])
    expect(actionsOf(waiting, 'create')).toEqual([])
    expect(waiting.waitMs).toBe(4_000)
    expect(actionsOf(plan(group, [], {}, NOW_MS + 4_000), 'create')).toHaveLength(2)
  })

  test('a pipeline is cut in model order whatever rank holds a stage', () => {
    const members = [
      { ...member(0, 'mini-1'), stage: [3, 4] as const },
      { ...member(1, 'mini-2'), stage: [0, 3] as const },
    ]
    const p = plan(aGroup({ strategy: 'Pipeline', members }), [])
    expect(actionsOf(p, 'create').map((a) => a.object['spec'])).toMatchObject([
      { stage: [3, 4], split: [3, 1] },
      { stage: [0, 3], split: [3, 1] },
    ])
  })
})

describe('starting', () => {
  const group = aGroup({}, { status: preparing })

  test('when every rank is prepared all learn in one step who meets whom, and by when', () => {
    const p = plan(group, [aShard(group, 0, 'Prepared'), aShard(group, 1, 'Prepared')])
    const specs = actionsOf(p, 'setSpec').map((a) => a.spec)
    expect(specs).toHaveLength(2)
    for (const spec of specs)
      expect(spec).toMatchObject({
        rendezvous: { startByMs: NOW_MS + 12_000, hosts: [['127.0.0.1:7000'], ['127.0.0.1:7001']] },
      })
    expect(statusIn(p).phase).toBe('Starting')
  })

  test('one rank that is not prepared holds all back', () => {
    const p = plan(group, [aShard(group, 0, 'Prepared'), aShard(group, 1, 'Fetching')])
    expect(actionsOf(p, 'setSpec')).toEqual([])
    expect(statusIn(p).phase).toBe('Fetching')
  })

  test('no rendezvous while an older epoch came back to a reachable node', () => {
    const second = aGroup({ epoch: 2 }, { status: preparing })
    const prepared = [aShard(second, 0, 'Prepared'), aShard(second, 1, 'Prepared')]
    const p = plan(second, [...prepared, aShard(second, 1, 'Stopping', { epoch: 1 })])
    expect(actionsOf(p, 'setSpec')).toEqual([])
  })

  test('no rendezvous while an older epoch may live beside a prepared rank whose node is not Ready yet', () => {
    const second = aGroup({ epoch: 2 }, { status: preparing })
    const nodes = [aNode('mini-1'), aNode('mini-2', { silentForMs: 30_000 })]
    const prepared = [aShard(second, 0, 'Prepared'), aShard(second, 1, 'Prepared')]
    const p = plan(second, [...prepared, aShard(second, 1, 'Ready', { epoch: 1 })], { nodes })
    expect(actionsOf(p, 'setSpec')).toEqual([])
  })

  test('a group is Ready when every rank of its epoch is', () => {
    const half = plan(group, [aShard(group, 0, 'Ready', { rendezvous }), aShard(group, 1, 'Loading', { rendezvous })])
    expect(readyIn(half)?.status).toBe('False')
    const whole = plan(group, ready(group))
    expect(readyIn(whole)).toMatchObject({ status: 'True', reason: 'AllRanksReady' })
    expect(statusIn(whole)).toMatchObject({ phase: 'Ready', readySinceMs: NOW_MS })
    expect(reasonsOf(whole)).toContain('Ready')
  })

  test('a ready group says so once', () => {
    const status: ShardGroupStatus = { phase: 'Ready', readySinceMs: NOW_MS - 1000, conditions: [] }
    const first = aGroup({}, { status })
    const after = statusIn(plan(first, ready(first)))
    const again = plan(aGroup({}, { status: after }), ready(first), {}, NOW_MS + 60_000)
    expect(reasonsOf(again)).toEqual([])
    expect(statusIn(again)).toEqual(after)
  })

  test('a rank that missed the start window fails its group', () => {
    const late = { startByMs: NOW_MS - 8_000, hosts: rendezvous.hosts }
    const p = plan(group, [
      aShard(group, 0, 'Loading', { rendezvous: late }),
      aShard(group, 1, 'Prepared', { rendezvous: late }),
    ])
    expect(statusIn(p).firstCause).toMatchObject({ rank: 1, reason: 'StartWindowMissed' })
  })

  test('a rank that never becomes ready fails its group after the startup deadline', () => {
    const shards = [aShard(group, 0, 'Ready', { rendezvous }), aShard(group, 1, 'Loading', { rendezvous })]
    const p = plan(group, shards)
    const waitMs = p.waitMs ?? 0
    expect(waitMs).toBeGreaterThan(120_000)
    expect(statusIn(plan(group, shards, {}, NOW_MS + waitMs - 1)).firstCause).toBeUndefined()
    expect(statusIn(plan(group, shards, {}, NOW_MS + waitMs)).firstCause).toMatchObject({
      reason: 'StartDeadline',
      rank: 1,
    })
  })
})

describe('failing', () => {
  const status: ShardGroupStatus = { phase: 'Ready', readySinceMs: NOW_MS - 60_000 }
  const group = aGroup({}, { status })

  test('a rank that ends while it is wanted makes its group go on as the next epoch in the same bytes', () => {
    const shards = [
      aShard(group, 0, 'Ready', { rendezvous }),
      aShard(group, 1, 'Failed', { status: { exit: stopped } }),
    ]
    const p = plan(group, shards)
    expect(specIn(p).next).toMatchObject({ epoch: 2, revision: 1, members: group.spec.members })
    expect(statusIn(p)).toMatchObject({
      phase: 'Backoff',
      restarts: 1,
      backoffUntilMs: NOW_MS + 2_000,
      firstCause: { rank: 1, node: 'mini-2', code: 1, message: 'boom' },
    })
    expect(readyIn(p)).toMatchObject({ status: 'False', reason: 'RankFailed' })
    expect(reasonsOf(p)).toEqual(['RankFailed', 'BackOff'])
  })

  test('a single group takes the same path', () => {
    const single = aGroup({ strategy: 'Single', members: [member(0, 'mini-1')] }, { status })
    const p = plan(single, [aShard(single, 0, 'Failed', { status: { exit: stopped } })])
    expect(specIn(p).next?.epoch).toBe(2)
  })

  test('of two failed ranks the one that ended first is the cause', () => {
    const late = { signal: 'SIGABRT', reason: 'EngineCrashed', message: 'lost a peer', atMs: NOW_MS - 100 }
    const shards = [
      aShard(group, 0, 'Failed', { status: { exit: late } }),
      aShard(group, 1, 'Failed', { status: { exit: { ...stopped, signal: 'SIGKILL' }, lastLogLines: ['bye'] } }),
    ]
    expect(statusIn(plan(group, shards)).firstCause).toMatchObject({
      rank: 1,
      signal: 'SIGKILL',
      lastLogLines: ['bye'],
    })
  })

  test('what survivors say later is secondary; an earlier exit that was reported late is not', () => {
    const firstCause = {
      shard: 'x',
      node: 'mini-2',
      rank: 1,
      epoch: 1,
      reason: 'EngineExited',
      message: 'boom',
      atMs: NOW_MS,
    }
    const second = aGroup({ epoch: 2 }, { status: { phase: 'Backoff', firstCause, backoffUntilMs: NOW_MS + 1 } })
    const reportedAt = (atMs: number) => {
      const exit = { ...stopped, message: 'the other', atMs }
      return statusIn(plan(second, [aShard(second, 0, 'Failed', { epoch: 1, status: { exit } })])).firstCause?.message
    }
    expect(reportedAt(NOW_MS + 50)).toBe('boom')
    expect(reportedAt(NOW_MS - 50)).toBe('the other')
  })

  test('a shard that somebody deleted counts as a lost rank', () => {
    const deleted = aShard(group, 1, 'Ready', { metadata: { deletionTimestamp: '2026-01-01T12:00:00Z' } })
    expect(statusIn(plan(group, [aShard(group, 0, 'Ready'), deleted])).firstCause).toMatchObject({
      reason: 'ShardDeleted',
    })
    expect(statusIn(plan(group, [])).firstCause).toMatchObject({ reason: 'ShardGone' })
  })

  test('the backoff doubles up to five minutes and starts over after ten good minutes', () => {
    const failingAfter = (restarts: number, goodMs: number) => {
      const failing = aGroup({}, { status: { phase: 'Ready', restarts, readySinceMs: NOW_MS - goodMs } })
      const { backoffUntilMs = 0 } = statusIn(
        plan(failing, [aShard(failing, 0, 'Failed'), aShard(failing, 1, 'Ready')]),
      )
      return backoffUntilMs - NOW_MS
    }
    expect(failingAfter(2, 1_000)).toBe(8_000)
    expect(failingAfter(20, 1_000)).toBe(300_000)
    expect(failingAfter(20, 600_000)).toBe(2_000)
  })

  test('the successor becomes current in one step that deletes every older shard', () => {
    const next = { ...aBinding, epoch: 2, revision: 1 }
    const firstCause = { shard: 'x', node: 'mini-2', rank: 1, epoch: 1, reason: 'E', message: 'm', atMs: NOW_MS }
    const failed = aGroup(
      { next },
      { status: { phase: 'Backoff', restarts: 1, backoffUntilMs: NOW_MS + 2_000, firstCause } },
    )
    const p = plan(failed, ready(failed))
    expect(specIn(p)).toMatchObject({ epoch: 2, next: null })
    expect(actionsOf(p, 'delete').map((a) => a.stopReason)).toEqual(['GroupFailed', 'GroupFailed'])
    expect(statusIn(p)).toMatchObject({ phase: 'Backoff', restarts: 1, firstCause })
  })

  test('a new revision starts without the backoff of the old one', () => {
    const next = { ...aBinding, epoch: 2, revision: 2 }
    const crashing = aGroup({ next }, { status: { phase: 'Backoff', restarts: 7, backoffUntilMs: NOW_MS + 200_000 } })
    expect(statusIn(plan(crashing, [])).backoffUntilMs).toBeUndefined()
  })
})

describe('losing contact', () => {
  const status: ShardGroupStatus = {
    phase: 'Ready',
    readySinceMs: NOW_MS - 60_000,
    conditions: [condition('Ready', 'True')],
  }
  const group = aGroup({}, { status })

  test('a group with a silent node is not routed and left running', () => {
    const nodes = [aNode('mini-1'), aNode('mini-2', { silentForMs: 30_000 })]
    const p = plan(group, ready(group), { nodes })
    expect(readyIn(p)).toMatchObject({ status: 'False', reason: 'NodeNotReady' })
    expect(p.actions.map((a) => a.action)).toEqual(['setStatus', 'recordEvent'])
    expect(reasonsOf(p)).toEqual(['NodeNotReady'])
  })

  test('a group whose node was removed waits for a new plan instead of restarting into nothing', () => {
    const p = plan(group, [aShard(group, 0, 'Ready')], { nodes: [aNode('mini-1')] })
    expect(readyIn(p)).toMatchObject({ reason: 'NodeGone' })
    expect(actionsOf(p, 'setSpec')).toEqual([])
  })
})

describe('deleting', () => {
  const metadata = { deletionTimestamp: '2026-01-01T12:00:00Z' }

  test('shards go first', () => {
    const group = aGroup({}, { metadata, status: { phase: 'Ready' } })
    const p = plan(group, ready(group))
    expect(actionsOf(p, 'delete')).toHaveLength(2)
    expect(actionsOf(p, 'removeFinalizer')).toEqual([])
    expect(statusIn(p).phase).toBe('Stopping')
  })

  test('a group without shards vanishes', () => {
    expect(actionsOf(plan(aGroup({}, { metadata }), []), 'removeFinalizer')).toMatchObject([
      { finalizer: 'mctl.dev/children' },
    ])
  })
})
