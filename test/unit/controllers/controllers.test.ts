import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import { tinyShape } from '../../support/cluster.ts'
import { ControlPlane } from '../../support/controlplane.ts'

const GIB = 2 ** 30
let plane: ControlPlane
beforeEach(async () => {
  plane = await ControlPlane.start()
  await plane.addNode('mini-1')
  await plane.addNode('mini-2')
  await plane.addModel()
})
afterEach(() => plane.stop())

const ready = (kind: 'ModelDeployment' | 'ShardGroup' | 'Node', name: string) =>
  findCondition(plane.get(kind, name)?.status?.conditions, 'Ready')
const scheduled = (name: string) => findCondition(plane.get('ModelDeployment', name)?.status?.conditions, 'Scheduled')
const twoRanks = { parallelism: { strategy: 'Tensor', degree: 2 } }

describe('the way from a spec to serving', () => {
  test('a deployment becomes revision, groups, shards, rendezvous, Ready', async () => {
    await plane.deploy('chat', { ...twoRanks })
    expect(plane.names('Revision')).toEqual(['chat-r1'])
    expect(plane.names('Shard')).toEqual(['chat-0-e1-0', 'chat-0-e1-1'])
    await plane.obey()
    expect(plane.get('Shard', 'chat-0-e1-1')?.spec.rendezvous?.hosts).toHaveLength(2)
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
    expect(plane.get('ModelDeployment', 'chat')?.status).toMatchObject({
      readyReplicas: 1,
      endpoint: 'http://127.0.0.1:6481',
      plan: { strategy: 'Tensor', degree: 2 },
    })
    expect(plane.reasons()).toEqual(expect.arrayContaining(['Scheduled', 'ShardsCreated', 'Starting', 'Ready']))
  })

  test('what is bound stands on the node, and is free again after delete, when the processes are gone', async () => {
    await plane.deploy('chat')
    const node = plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node ?? ''
    expect(plane.get('Node', node)?.status?.bound?.memory).not.toBe('0')
    await plane.obey()
    await plane.delete('ModelDeployment', 'chat')
    expect(plane.names('ModelDeployment')).toEqual(['chat'])
    await plane.obey()
    for (const kind of ['ModelDeployment', 'ShardGroup', 'Shard', 'Revision'] as const)
      expect(plane.names(kind)).toEqual([])
    expect(plane.get('Node', node)?.status?.bound?.memory).toBe('0')
  })

  test('a settled cluster is left alone: further passes write nothing', async () => {
    await plane.deploy('chat', { replicas: 2 })
    await plane.obey()
    const { revision } = plane.store.stats()
    await plane.clock.advance(20 * 60_000)
    expect(plane.store.stats().revision).toBe(revision)
  })
})

describe('what does not fit', () => {
  test('the second of two that fit only one by one waits with the bytes missing, and is placed when the first goes', async () => {
    await plane.addModel('big', { ...tinyShape, weightBytes: 8 * GIB })
    const big = { model: { name: 'big' }, replicas: 2 }
    await plane.deploy('first', big)
    await plane.obey()
    expect(ready('ModelDeployment', 'first')?.status).toBe('True')
    await plane.deploy('second', { ...big, replicas: 1 })
    expect(scheduled('second')).toMatchObject({ status: 'False', reason: 'Unschedulable' })
    expect(scheduled('second')?.message).toMatch(/2 Insufficient memory \(need 8\.\dGi, best free/)
    await plane.delete('ModelDeployment', 'first')
    await plane.obey()
    expect(ready('ModelDeployment', 'second')?.status).toBe('True')
  })

  test('a deployment without a shape is placed when its model appears', async () => {
    await plane.deploy('chat', { model: { name: 'later' } })
    expect(scheduled('chat')?.reason).toBe('ModelShapePending')
    await plane.addModel('later')
    await plane.obey()
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
  })

  test('a served name can be used again when its older owner is deleted', async () => {
    await plane.deploy('one', { servedName: 'x' })
    await plane.obey()
    await plane.clock.advance(1_000)
    await plane.deploy('two', { servedName: 'x' })
    expect(findCondition(plane.get('ModelDeployment', 'two')?.status?.conditions, 'Valid')?.reason).toBe(
      'ServedNameConflict',
    )
    await plane.delete('ModelDeployment', 'one')
    await plane.obey()
    expect(ready('ModelDeployment', 'two')?.status).toBe('True')
  })
})

describe('failing and healing', () => {
  test('a dead rank takes its whole group to the next epoch, and no shard of the old one is left', async () => {
    await plane.deploy('chat', twoRanks)
    await plane.obey()
    const exit = { signal: 'SIGKILL', reason: 'EngineCrashed', message: 'killed', atMs: plane.clock.nowMs() }
    await plane.sayOfShard('chat-0-e1-1', { phase: 'Failed', exit })
    expect(ready('ShardGroup', 'chat-0')?.status).toBe('False')
    await plane.obey()
    expect(plane.names('Shard')).toEqual([])
    expect(plane.get('ShardGroup', 'chat-0')?.status).toMatchObject({ phase: 'Backoff', restarts: 1 })
    await plane.clock.advance(2_000)
    await plane.obey()
    expect(plane.names('Shard')).toEqual(['chat-0-e2-0', 'chat-0-e2-1'])
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
    expect(plane.get('ShardGroup', 'chat-0')?.status?.firstCause).toMatchObject({
      rank: 1,
      signal: 'SIGKILL',
      epoch: 1,
    })
    expect(plane.reasons()).toEqual(expect.arrayContaining(['RankFailed', 'BackOff', 'Reforming']))
  })

  test('a silent node stops routing at 20 s and moves the group after nodeLossSeconds, without its old shards', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.clock.advance(60_000)
    const node = plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node ?? ''
    plane.sessions.silence(node)
    await plane.clock.advance(21_000)
    expect(ready('Node', node)?.status).toBe('Unknown')
    expect(ready('ShardGroup', 'chat-0')).toMatchObject({ status: 'False', reason: 'NodeNotReady' })
    expect(plane.get('ShardGroup', 'chat-0')?.spec.epoch).toBe(1)
    await plane.clock.advance(121_000)
    await plane.obey()
    expect(plane.get('ShardGroup', 'chat-0')?.spec.epoch).toBe(2)
    expect(plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node).not.toBe(node)
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
    expect(plane.names('Shard')).toContain('chat-0-e1-0')
    plane.sessions.connect(node)
    await plane.obey()
    expect(plane.names('Shard')).toEqual(['chat-0-e2-0'])
    expect(ready('Node', node)?.status).toBe('True')
  })

  test.each([3_600_000, -3_600_000])(
    'a wall clock that jumps by %d ms neither hurries nor holds that',
    async (byMs) => {
      await plane.deploy('chat')
      await plane.obey()
      await plane.clock.advance(60_000)
      const node = plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node ?? ''
      plane.sessions.silence(node)
      await plane.clock.advance(21_000)
      plane.clock.jumpWall(byMs)
      // Any change makes the loop look again.
      await plane.change('chat', { priority: 1 })
      await plane.clock.advance(100_000)
      expect(plane.get('ShardGroup', 'chat-0')?.spec.epoch).toBe(1)
      await plane.clock.advance(21_000)
      await plane.obey()
      expect(plane.get('ShardGroup', 'chat-0')?.spec.epoch).toBe(2)
    },
  )

  test('a node that comes back in time finds everything as it was', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.clock.advance(60_000)
    const node = plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node ?? ''
    plane.sessions.silence(node)
    await plane.clock.advance(60_000)
    plane.sessions.connect(node)
    await plane.obey()
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
    expect(plane.names('Shard')).toEqual(['chat-0-e1-0'])
  })

  test('deleting a dead node releases its shards and moves its group', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.clock.advance(60_000)
    const node = plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node ?? ''
    plane.sessions.silence(node)
    await plane.clock.advance(25_000)
    await plane.delete('Node', node)
    await plane.obey()
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
    expect(plane.get('ShardGroup', 'chat-0')?.spec.members[0]?.node).not.toBe(node)
  })
})

describe('changing', () => {
  test('a rolling update takes one replica at a time to the new revision', async () => {
    await plane.deploy('chat', { replicas: 2 })
    await plane.obey()
    await plane.change('chat', { serving: { contextTokens: 64, concurrency: 1, maxOutputTokens: 32 } })
    expect(plane.names('Revision')).toEqual(['chat-r1', 'chat-r2'])
    const specs = () => ['chat-0', 'chat-1'].map((g) => plane.get('ShardGroup', g)?.spec)
    const revisions = () => specs().map((spec) => spec?.revision)
    expect(specs().map((spec) => spec?.next?.revision)).toEqual([2, undefined])
    expect(revisions()).toEqual([1, 1])
    await plane.obey()
    expect(revisions()).toEqual([2, 2])
    expect(plane.get('ModelDeployment', 'chat')?.status).toMatchObject({ updatedReplicas: 2, readyReplicas: 2 })
  })

  test('scaling down stops the highest replicas, scaling up adds them again', async () => {
    await plane.deploy('chat', { replicas: 3 })
    await plane.obey()
    await plane.change('chat', { replicas: 1 })
    await plane.obey()
    expect(plane.names('ShardGroup')).toEqual(['chat-0'])
    await plane.change('chat', { replicas: 2 })
    await plane.obey()
    expect(plane.names('ShardGroup')).toEqual(['chat-0', 'chat-1'])
    expect(ready('ModelDeployment', 'chat')?.status).toBe('True')
  })

  test('orphaned groups go on running without their deployment', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.delete('ModelDeployment', 'chat', 'Orphan')
    await plane.obey()
    expect(plane.names('ModelDeployment')).toEqual([])
    expect(ready('ShardGroup', 'chat-0')?.status).toBe('True')
    expect(plane.get('ShardGroup', 'chat-0')?.metadata.ownerReferences).toBeUndefined()
  })

  test('a foreground delete keeps the owner until its dependents are gone', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.delete('ModelDeployment', 'chat', 'Foreground')
    expect(plane.names('Revision')).toEqual([])
    expect(plane.names('ModelDeployment')).toEqual(['chat'])
    await plane.obey()
    for (const kind of ['ModelDeployment', 'ShardGroup', 'Shard'] as const) expect(plane.names(kind)).toEqual([])
  })

  test('a cordoned node is not lost, and takes nothing new until it is uncordoned', async () => {
    await plane.deploy('chat', { replicas: 2, placement: { spread: 'Require' } })
    await plane.obey()
    await plane.delete('ModelDeployment', 'chat')
    await plane.obey()
    for (const node of ['mini-1', 'mini-2']) await plane.cordon(node, true)
    await plane.deploy('later')
    expect(scheduled('later')?.reason).toBe('Unschedulable')
    await plane.cordon('mini-2', false)
    await plane.obey()
    expect(ready('ModelDeployment', 'later')?.status).toBe('True')
  })

  test('paused keeps the old template until it is resumed', async () => {
    await plane.deploy('chat')
    await plane.obey()
    await plane.change('chat', { paused: true, serving: { contextTokens: 64, concurrency: 1, maxOutputTokens: 32 } })
    await plane.obey()
    expect(plane.names('Revision')).toEqual(['chat-r1'])
    await plane.change('chat', { paused: false })
    await plane.obey()
    expect(plane.get('ShardGroup', 'chat-0')?.spec.revision).toBe(2)
  })
})
