import { describe, expect, test } from 'vitest'
import type { ShardExit } from '../../../src/api/shard.ts'
import type { FirstCause, ShardGroupStatus } from '../../../src/api/shardgroup.ts'
import { planShardEnd } from '../../../src/planner/shardend.ts'
import { planShardGroup } from '../../../src/planner/shardgroup.ts'
import { remedyOf } from '../../../src/planner/remedy.ts'
import { actionsOf, aGroup, aNode, aShard, aWorld, NOW_MS } from '../../support/cluster.ts'

const killed: ShardExit = { signal: 'SIGKILL', reason: 'EngineCrashed', message: 'ended by SIGKILL', atMs: NOW_MS }
const left: ShardExit = {
  code: 70,
  reason: 'EngineExited',
  message: 'RuntimeError: [ring] connection to a peer was lost',
  atMs: NOW_MS - 3_000,
}
const stalled: ShardExit = { reason: 'EngineStalled', message: 'no step for 61 s', atMs: NOW_MS - 3_000 }
const aborted: ShardExit = { signal: 'SIGABRT', reason: 'EngineCrashed', message: 'ended', atMs: NOW_MS - 3_000 }
const deleted = { metadata: { deletionTimestamp: '2026-01-01T12:00:00Z' } }

describe('the first cause', () => {
  test.each([
    ['lost its peer', left, []],
    ['waited for its peer', stalled, []],
    ['aborted over its lost worker', aborted, ['ggml: Remote RPC server crashed or returned malformed response']],
  ])('is the rank that died on its own, though the clock of the one that %s is behind', (_, exit, lastLogLines) => {
    const group = aGroup({}, { status: { phase: 'Ready' } })
    const shards = [
      aShard(group, 0, 'Failed', { status: { exit, lastLogLines } }),
      aShard(group, 1, 'Failed', { status: { exit: killed, lastLogLines: ['the end'] } }),
    ]
    const plan = planShardGroup(aWorld({ groups: [group], shards }), group, NOW_MS)
    const { firstCause } = actionsOf(plan, 'setStatus').at(-1)?.status as ShardGroupStatus
    expect(firstCause).toMatchObject({ rank: 1, signal: 'SIGKILL', lastLogLines: ['the end'] })
  })

  const known: FirstCause = { shard: 'chat-0-e1-0', node: 'mini-1', rank: 0, epoch: 1, ...left }
  const reformed = aGroup({ epoch: 2 }, { status: { phase: 'Backoff', firstCause: known } })
  const released = (exit: ShardExit, firstCause = known) => {
    const group = { ...reformed, status: { ...reformed.status, firstCause } }
    const shard = aShard(reformed, 1, 'Stopped', { epoch: 1, status: { exit }, ...deleted })
    const status = actionsOf(planShardEnd(shard, aNode('mini-2'), group), 'setStatus')[0]?.status
    return (status as ShardGroupStatus | undefined)?.firstCause
  }

  test('that is told last goes into the group before its shard is released', () => {
    expect(released(killed)).toMatchObject({ rank: 1, signal: 'SIGKILL', epoch: 1 })
  })

  test.each([
    ['a rank that was only asked to stop', { ...killed, reason: 'Stopped', atMs: 1 }, known],
    ['what happened to an older epoch', killed, { ...known, epoch: 2 }],
  ])('is not %s', (_, exit, firstCause) => {
    expect(released(exit, firstCause)).toBeUndefined()
  })
})

describe('what to do', () => {
  const cause: FirstCause = { shard: 's', node: 'n', rank: 0, epoch: 1, reason: 'EngineExited', message: '', atMs: 1 }
  test.each([
    [{ message: 'cannot allocate 12 bytes' }, 'lower serving.contextTokens'],
    [{ lastLogLines: ['ValueError: The model does not support pipelining'] }, 'choose another parallelism.strategy'],
    [{ reason: 'EngineCrashed', signal: 'SIGKILL' }, 'something killed the engine'],
    [{ reason: 'ModelInvalid' }, 'fetched again'],
    [{ reason: 'NeverHeardOf' }, 'mctl logs s'],
  ])('is told for %j', (changes, remedy) => {
    expect(remedyOf({ ...cause, ...changes })).toContain(remedy)
  })
})

describe('a rank that was stopped for want of memory', () => {
  const exit: ShardExit = { reason: 'MemoryPressure', message: 'critically short', atMs: NOW_MS }

  test('costs its group the place: it would only take the memory again', () => {
    const group = aGroup({}, { status: { phase: 'Ready', readySinceMs: NOW_MS - 1 } })
    const shards = [aShard(group, 0, 'Failed', { status: { exit } }), aShard(group, 1, 'Ready')]
    const plan = planShardGroup(aWorld({ groups: [group], shards }), group, NOW_MS)
    expect(actionsOf(plan, 'setSpec')[0]?.spec).toMatchObject({ epoch: 2, members: [], next: null })
    const status = actionsOf(plan, 'setStatus').at(-1)?.status as ShardGroupStatus
    expect(status).toMatchObject({ phase: 'Pending', firstCause: { rank: 0, reason: 'MemoryPressure' } })

    const evicted = { ...aGroup({ epoch: 2, members: [] }), status }
    const stopping = shards.map((s) => ({ ...s, spec: { ...s.spec, epoch: 1 } }))
    const next = planShardGroup(aWorld({ groups: [evicted], shards: stopping }), evicted, NOW_MS)
    expect(actionsOf(next, 'delete').map((a) => a.stopReason)).toEqual(['GroupFailed', 'GroupFailed'])
    const { conditions } = actionsOf(next, 'setStatus').at(-1)?.status as ShardGroupStatus
    expect(conditions?.find((c) => c.type === 'Ready')).toMatchObject({ status: 'False', reason: 'MemoryPressure' })
  })

  test('takes an epoch that no Shard ever had: one of a successor that was given up may stand on a silent node', () => {
    const group = aGroup({}, { status: { phase: 'Ready', readySinceMs: NOW_MS - 1 } })
    const current = [aShard(group, 0, 'Failed', { status: { exit } }), aShard(group, 1, 'Ready')]
    const leftover = current.map((s) => ({
      ...s,
      metadata: { ...s.metadata, name: `${s.metadata.name}-left`, uid: `${s.metadata.uid}-left` },
      spec: { ...s.spec, epoch: 2 },
    }))
    const world = aWorld({ groups: [group], shards: [...current, ...leftover] })
    const plan = planShardGroup(world, group, NOW_MS)
    expect(actionsOf(plan, 'setSpec')[0]?.spec).toMatchObject({ epoch: 3, members: [] })

    const status = actionsOf(plan, 'setStatus').at(-1)?.status as ShardGroupStatus
    const evicted = { ...aGroup({ epoch: 3, members: [] }), status }
    const next = planShardGroup({ ...world, groups: [evicted] }, evicted, NOW_MS)
    const { conditions } = actionsOf(next, 'setStatus').at(-1)?.status as ShardGroupStatus
    expect(conditions?.find((c) => c.type === 'Ready')).toMatchObject({ status: 'False', reason: 'MemoryPressure' })
  })
})
