/** The model of a new revision is fetched before the old group stops; agents here are played, so that fetches can be slow. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import { ControlPlane } from '../support/controlplane.ts'
import type { Service } from '../support/watchservice.ts'
import { watchService } from '../support/watchservice.ts'

let plane: ControlPlane
let service: Service
const changed = { serving: { contextTokens: 64, concurrency: 1, maxOutputTokens: 32 } }

beforeEach(async () => {
  plane = await ControlPlane.start()
  for (const node of ['mini-1', 'mini-2']) await plane.addNode(node)
  await plane.addModel()
  await plane.deploy('chat')
  await plane.obey()
  for (const [i, shard] of plane.names('Shard').entries())
    await plane.sayOfShard(shard, { address: '127.0.0.1', port: 6000 + i })
  service = watchService(plane.store, 'chat')
})
afterEach(async () => {
  expect(service.findings).toEqual([])
  await plane.stop()
})

const group = () => plane.get('ShardGroup', 'chat-0')
const progressing = () => findCondition(plane.get('ModelDeployment', 'chat')?.status?.conditions, 'Progressing')
const fetching = (doneBytes: number) =>
  plane.sayOfShard('chat-0-e2-0', { phase: 'Fetching', progress: { doneBytes, totalBytes: 1000 } })

test('the old group answers until every byte of its successor is there, then the new one starts', async () => {
  await plane.change('chat', changed)
  expect(plane.names('Shard')).toEqual(['chat-0-e1-0', 'chat-0-e2-0'])
  await fetching(100)
  expect(isTrue(group()?.status?.conditions, 'Ready')).toBe(true)
  expect(progressing()?.message).toContain('chat-0: epoch 2 (revision 2): rank 0 on mini-1: Fetching')
  expect(service.least()).toBe(1)

  await plane.sayOfShard('chat-0-e2-0', { phase: 'Prepared', ringAddress: '127.0.0.1:7000' })
  expect(group()?.spec).toMatchObject({ epoch: 2, revision: 2, next: null })
  expect(plane.get('Shard', 'chat-0-e1-0')?.metadata.deletionTimestamp).toBeDefined()
  expect(plane.get('Shard', 'chat-0-e2-0')?.spec.rendezvous).toBeNull()
  await plane.obey()
  expect(plane.names('Shard')).toEqual(['chat-0-e2-0'])
  expect(isTrue(group()?.status?.conditions, 'Ready')).toBe(true)
})

test('a fetch of hours is progress as long as bytes come, and none once they stop', async () => {
  await plane.change('chat', { ...changed, progressDeadlineSeconds: 600 })
  for (let i = 1; i <= 12; i++) {
    await fetching(i * 50)
    await plane.clock.advance(9 * 60_000)
    await plane.idle()
    expect(progressing()?.reason).toBe('ReplicasUpdating')
  }
  await plane.clock.advance(2 * 60_000)
  await plane.idle()
  expect(progressing()?.reason).toBe('ProgressDeadlineExceeded')
  expect(service.least()).toBe(1)
})

test('a successor that fails is tried again as yet another epoch, and costs nothing', async () => {
  await plane.change('chat', changed)
  const exit = { reason: 'ModelFetchFailed', message: 'the hub says 404', atMs: plane.clock.nowMs() }
  await plane.sayOfShard('chat-0-e2-0', { phase: 'Failed', exit })
  expect(group()?.spec).toMatchObject({ epoch: 1, next: { epoch: 3 } })
  expect(progressing()?.message).toContain('the hub says 404')
  // A shard is released only when its agent says that nothing of it is left.
  await plane.sayOfShard('chat-0-e2-0', { phase: 'Stopped', exit })
  await plane.clock.advance(11_000)
  await plane.idle()
  expect(plane.names('Shard')).toEqual(['chat-0-e1-0', 'chat-0-e3-0'])
  expect(service.least()).toBe(1)
  await plane.obey()
  expect(group()?.spec).toMatchObject({ epoch: 3, revision: 2, next: null })
  expect(group()?.status?.setback).toBeUndefined()
})

test('an undo while the successor is fetched takes it back, and the group never stopped', async () => {
  const { serving } = plane.get('ModelDeployment', 'chat')?.spec ?? {}
  await plane.change('chat', changed)
  await fetching(100)
  await plane.change('chat', { serving })
  await plane.obey()
  expect(plane.names('Shard')).toEqual(['chat-0-e1-0'])
  expect(group()?.spec).toMatchObject({ epoch: 1, next: null })
  expect(service.least()).toBe(1)
})

test('a group that dies meanwhile does not wait: what is there of its successor goes on', async () => {
  await plane.change('chat', changed)
  await fetching(100)
  const exit = { reason: 'EngineCrashed', message: 'boom', atMs: plane.clock.nowMs() }
  await plane.sayOfShard('chat-0-e1-0', { phase: 'Failed', exit })
  expect(group()?.spec).toMatchObject({ epoch: 2, next: null })
  expect(plane.get('Shard', 'chat-0-e2-0')?.status?.phase).toBe('Fetching')
})

test('a scaled down group goes with its successor', async () => {
  await plane.change('chat', changed)
  await plane.change('chat', { replicas: 0 })
  await plane.obey()
  expect(plane.names('Shard')).toEqual([])
})
