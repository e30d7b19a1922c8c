/** Taking a Mac out of service, with the whole loop on the virtual clock. The drain is state on the Node: nobody need watch. */
import { afterEach, describe, expect, test } from 'vitest'
import { findCondition } from '../../src/api/conditions.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { tinyShape } from '../support/cluster.ts'
import { SimCluster } from '../support/simcluster.ts'
import type { Service } from '../support/watchservice.ts'
import { routed, watchService } from '../support/watchservice.ts'

const GIB = 2 ** 30
let cluster: SimCluster
let service: Service

async function begin(nodes: readonly string[], spec: object, weightBytes = 100 * 2 ** 20): Promise<void> {
  cluster = await SimCluster.start({ seed: 5, nodes })
  await cluster.apply('Model', 'm', { shape: { ...tinyShape, weightBytes } })
  await cluster.clock.advance(20_000)
  const base = { model: { name: 'm' }, engine: { name: 'fake' }, serving: { contextTokens: 128, concurrency: 1 } }
  await cluster.apply('ModelDeployment', 'chat', { ...base, parallelism: { strategy: 'Data' }, ...spec })
  const { replicas = 1 } = spec as { replicas?: number }
  await cluster.clock.advanceUntil(() => routed(cluster.store, 'chat') === replicas, 120_000, 'every replica')
  service = watchService(cluster.store, 'chat')
}
afterEach(async () => {
  expect(service.findings).toEqual([])
  await cluster.stop()
})

const drain = (name: string, force = false) => cluster.apply('Node', name, { unschedulable: true, drain: { force } })
const groups = (): readonly ShardGroup[] => cluster.store.snapshot().list('ShardGroup')
const nodesOf = (group: ShardGroup | undefined) => group?.spec.members.map((m) => m.node) ?? []
const drained = (name: string) =>
  findCondition(cluster.store.snapshot().get('Node', '', name)?.status?.conditions, 'Drained')
const untilDrained = (name: string) =>
  cluster.clock.advanceUntil(() => drained(name)?.status === 'True', 5 * 60_000, `the drain of ${name}`)

describe('a group that must leave', () => {
  test('starts elsewhere first where there is memory for both, and never stops answering', async () => {
    await begin(['mini-1', 'mini-2', 'mini-3'], { replicas: 2 })
    const [node = ''] = nodesOf(groups()[0])
    await drain(node)
    await untilDrained(node)
    expect(service.least()).toBe(2)
    expect(groups().flatMap(nodesOf)).not.toContain(node)
    expect(cluster.machines.get(node)?.processes()).toEqual([])
  })

  test('moves as a whole gang, with a gap where its ranks need bytes that it holds itself', async () => {
    const nodes = ['mini-1', 'mini-2', 'mini-3']
    await begin(nodes, { parallelism: { strategy: 'Tensor', degree: 2 } }, 14 * GIB)
    const [node = ''] = nodesOf(groups()[0])
    await drain(node)
    await untilDrained(node)
    await cluster.clock.advanceUntil(() => routed(cluster.store, 'chat') === 1, 120_000, 'the gang')
    expect(nodesOf(groups()[0]).toSorted()).toEqual(nodes.filter((name) => name !== node))
    expect(groups()[0]?.spec.epoch).toBe(2)
    expect(service.least()).toBe(0)
  })

  test('with a gap only as far as maxUnavailable allows', async () => {
    const update = { maxUnavailable: 0, maxSurge: 1 }
    const nodes = ['mini-1', 'mini-2', 'mini-3']
    await begin(nodes, { parallelism: { strategy: 'Tensor', degree: 2 }, update }, 14 * GIB)
    const [node = ''] = nodesOf(groups()[0])
    await drain(node)
    await cluster.clock.advance(120_000)
    expect(service.least()).toBe(1)
    expect(drained(node)).toMatchObject({ status: 'False', reason: 'Blocked' })
    expect(drained(node)?.message).toContain('1 must stay so (update.maxUnavailable: 0)')
    await drain(node, true)
    await untilDrained(node)
  })

  test('stays where it fits nowhere else and says so in bytes, until the drain may cost it', async () => {
    await begin(['mini-1', 'mini-2'], { replicas: 2 }, 7 * GIB)
    await drain('mini-1')
    await cluster.clock.advance(120_000)
    expect(service.least()).toBe(2)
    expect(drained('mini-1')?.message).toMatch(
      /it fits on no other node: .*mini-2: insufficient memory: needs .* bytes/,
    )
    const { revision } = cluster.store.stats()
    await cluster.clock.advance(60_000)
    expect(cluster.store.stats().revision).toBe(revision)

    await drain('mini-1', true)
    await untilDrained('mini-1')
    expect(routed(cluster.store, 'chat')).toBe(1)
    await cluster.clock.advance(5_000)
    const settled = cluster.store.stats().revision
    await cluster.clock.advance(60_000)
    expect(cluster.store.stats().revision).toBe(settled)

    await cluster.apply('Node', 'mini-1', { unschedulable: false })
    await cluster.clock.advanceUntil(() => routed(cluster.store, 'chat') === 2, 120_000, 'the second replica')
  })
})

test('a drain goes on while the server restarts, and without whoever asked for it', async () => {
  await begin(['mini-1', 'mini-2', 'mini-3'], { replicas: 2 })
  cluster.ring.slowness = 10
  const [node = ''] = nodesOf(groups()[0])
  await drain(node)
  await cluster.clock.advance(500)
  await cluster.killServer()
  await cluster.clock.advance(30_000)
  await cluster.startServer()
  await untilDrained(node)
  expect(service.least()).toBeGreaterThanOrEqual(1)
})
