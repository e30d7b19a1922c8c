/** Changes of a deployment with the whole loop on the virtual clock: what stops, what serves on, and what never restarts. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import type { ModelDeploymentSpec } from '../../src/api/modeldeployment.ts'
import type { Revision } from '../../src/api/records.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { tinyShape } from '../support/cluster.ts'
import { SimCluster } from '../support/simcluster.ts'
import type { Service } from '../support/watchservice.ts'
import { deploymentIn, watchService } from '../support/watchservice.ts'

const nodes = ['mini-1', 'mini-2', 'mini-3']
let cluster: SimCluster
let service: Service

const base = {
  model: { name: 'tiny' },
  engine: { name: 'fake' },
  parallelism: { strategy: 'Data' },
  serving: { contextTokens: 128, concurrency: 1 },
}
type Wish = Partial<Record<keyof ModelDeploymentSpec, unknown>>
const apply = (spec: Wish) => cluster.apply('ModelDeployment', 'chat', { ...base, ...spec })
const other = { serving: { contextTokens: 256, concurrency: 1 } }

const groups = (): readonly ShardGroup[] => cluster.store.snapshot().list('ShardGroup')
const revisions = (): readonly Revision[] => cluster.store.snapshot().list('Revision')
const reasons = () =>
  cluster.store
    .snapshot()
    .list('Event')
    .map((event) => event.reason)
const epochs = () => groups().map((g) => g.spec.epoch)
const condition = (type: string) => findCondition(deploymentIn(cluster.store, 'chat')?.status?.conditions, type)

/** Every replica is Ready on the newest revision. */
function isRolledOut(): boolean {
  const newest = revisions().at(-1)?.spec.revision
  return (
    isTrue(deploymentIn(cluster.store, 'chat')?.status?.conditions, 'Ready') &&
    groups().every((g) => g.spec.revision === newest && g.spec.next === null)
  )
}
const rolledOut = async () => {
  await cluster.clock.advance(2_000)
  await cluster.clock.advanceUntil(isRolledOut, 20 * 60_000, 'the rollout')
}

async function begin(memory = '16Gi', wish: Wish = {}): Promise<void> {
  cluster = await SimCluster.start({ seed: 3, nodes, memory })
  await cluster.apply('Model', 'tiny', { shape: tinyShape })
  await cluster.clock.advance(20_000)
  await apply({ replicas: 3, ...wish })
  await rolledOut()
  service = watchService(cluster.store, 'chat')
}

afterEach(async () => {
  expect(service.findings).toEqual([])
  await cluster.stop()
})

describe('a rolling update', () => {
  test('never has fewer replicas answering than maxUnavailable allows', async () => {
    await begin()
    await apply({ replicas: 3, ...other })
    await rolledOut()
    expect(service.least()).toBe(2)
    service.from()
    await apply({ replicas: 3, update: { maxUnavailable: 2 } })
    await rolledOut()
    expect(service.least()).toBe(1)
    expect(epochs()).toEqual([3, 3, 3])
  })

  test('keeps that bound when a rank dies in the middle of it', async () => {
    await begin()
    await apply({ replicas: 3, ...other })
    await cluster.clock.advanceUntil(() => groups().some((g) => g.spec.revision === 2), 60_000, 'the first move', 50)
    const untouched = groups().find((g) => g.spec.next === null && g.spec.revision === 1)?.metadata.name
    const processes = [...cluster.machines.values()].flatMap((m) => m.processes())
    const victim = processes.find((p) => p.shard.spec.group === untouched)
    victim?.machine.kill(victim)
    await rolledOut()
    // One was away for the update, and the death of another one took one more: no third was stopped.
    expect(service.least()).toBe(1)
  })

  test('with maxSurge and room starts each new group beside the old one, and never misses a replica', async () => {
    await begin('16Gi', { replicas: 1 })
    const before = groups()[0]?.spec.members[0]?.node
    await apply({ replicas: 1, ...other, update: { maxUnavailable: 0, maxSurge: 1 } })
    await rolledOut()
    expect(service.least()).toBe(1)
    expect(groups()[0]?.spec.members[0]?.node).not.toBe(before)
  })

  test('without room for a surge each new group takes the bytes of its old one, as far as one may be away', async () => {
    await begin('16Gi', { placement: { spread: 'Require' } })
    const rolling = { placement: { spread: 'Require' }, update: { maxUnavailable: 1, maxSurge: 1 } }
    await apply({ replicas: 3, ...other, ...rolling })
    await rolledOut()
    expect(service.least()).toBe(2)
    expect(epochs()).toEqual([2, 2, 2])
  })

  test('without room for a surge and nothing that may be away, the old ones serve on, and it says what is missing', async () => {
    await begin('16Gi', { placement: { spread: 'Require' } })
    const wide = { placement: { spread: 'Require' }, update: { maxUnavailable: 0, maxSurge: 1 } }
    await apply({ replicas: 3, ...other, ...wide })
    await cluster.clock.advance(11 * 60_000)
    expect(service.least()).toBe(3)
    expect(epochs()).toEqual([1, 1, 1])
    expect(condition('Scheduled')?.message).toContain('update.maxUnavailable is 0, and no group fits beside')
    expect(condition('Progressing')).toMatchObject({ status: 'False', reason: 'ProgressDeadlineExceeded' })
  })

  test('Recreate never runs two revisions at a time', async () => {
    await begin()
    let mixed = 0
    cluster.ring.onStart = () => {
      const running = [...cluster.machines.values()].flatMap((m) => m.processes())
      if (new Set(running.map((p) => p.shard.spec.revision)).size > 1) mixed += 1
    }
    await apply({ replicas: 3, ...other, update: { strategy: 'Recreate' } })
    await rolledOut()
    expect(mixed).toBe(0)
    expect(service.least()).toBe(0)
    expect(epochs()).toEqual([2, 2, 2])
  })

  test('Recreate gives up the places of all old groups where no new one fits beside them', async () => {
    await begin('16Gi', { replicas: 0 })
    for (const [name, gib] of Object.entries({ old: 7, wide: 7.5 }))
      await cluster.apply('Model', name, { shape: { ...tinyShape, weightBytes: gib * 2 ** 30 } })
    const update = { strategy: 'Recreate' }
    const placement = { nodes: ['mini-1', 'mini-2'] }
    await apply({ replicas: 2, model: { name: 'old' }, placement, update })
    await rolledOut()
    service.from()
    // Two of its ranks fill a node: beside an old group there is no room for even one.
    const wide = { model: { name: 'wide' }, parallelism: { strategy: 'Pipeline', degree: 2 } }
    await apply({ replicas: 2, ...wide, placement, update })
    await cluster.clock.advanceUntil(() => service.least() === 0, 120_000, 'the old ones stop')
    expect(reasons()).toContain('Recreating')
    await rolledOut()
    expect(groups().map((g) => g.spec.members.length)).toEqual([2, 2])
  })

  test('Recreate stops nothing for what would not fit even then', async () => {
    await begin()
    await cluster.apply('Model', 'huge', { shape: { ...tinyShape, weightBytes: 200 * 2 ** 30 } })
    await apply({ replicas: 3, model: { name: 'huge' }, update: { strategy: 'Recreate' } })
    await cluster.clock.advance(120_000)
    expect(service.least()).toBe(3)
    expect(epochs()).toEqual([1, 1, 1])
    expect(condition('Scheduled')).toMatchObject({ status: 'False', reason: 'Unschedulable' })
  })
})

describe('nothing restarts', () => {
  beforeEach(() => begin())

  test('when a later release knows a default that the stored revision was written without', async () => {
    await cluster.store.transact((tx) => {
      const revision = tx.get('Revision', 'default', 'chat-r1')
      if (revision === undefined) throw new Error('there is no revision')
      const { spread: _, ...placement } = revision.spec.template.placement
      const { objective: __, ...parallelism } = revision.spec.template.parallelism
      const template = { ...revision.spec.template, placement, parallelism }
      tx.put({ ...revision, spec: { ...revision.spec, template } } as unknown as Revision)
    })
    await cluster.killServer()
    await cluster.startServer()
    await apply({ replicas: 3 })
    await cluster.clock.advance(60_000)
    expect(revisions()).toHaveLength(1)
    expect(epochs()).toEqual([1, 1, 1])
    expect(service.least()).toBe(3)
  })

  test('when keys are written in another order, or a count changes', async () => {
    const { model, engine, parallelism, serving } = base
    await cluster.apply('ModelDeployment', 'chat', { serving, parallelism, engine, replicas: 3, model })
    await cluster.scale('chat', 2)
    await cluster.clock.advance(120_000)
    expect(revisions()).toHaveLength(1)
    expect(epochs()).toEqual([1, 1])
    expect(condition('Progressing')?.reason).toBe('NewRevisionAvailable')
  })

  test('among groups that an update has not reached when it is undone', async () => {
    await apply({ replicas: 3, ...other })
    await cluster.clock.advanceUntil(() => groups().some((g) => g.spec.revision === 2), 60_000, 'the first move', 50)
    await apply({ replicas: 3 })
    await rolledOut()
    expect([...epochs()].sort()).toEqual([1, 1, 3])
    expect(revisions().map((r) => r.spec.revision)).toEqual([2, 3])
  })
})

describe('pausing', () => {
  beforeEach(() => begin())

  test('a paused update goes no further, and goes on when it is resumed', async () => {
    await apply({ replicas: 3, ...other })
    await cluster.clock.advanceUntil(() => groups().some((g) => g.spec.revision === 2), 60_000, 'the first move', 50)
    await apply({ replicas: 3, ...other, paused: true })
    await cluster.clock.advance(20 * 60_000)
    expect(groups().map((g) => g.spec.revision)).toEqual([2, 1, 1])
    expect(condition('Progressing')?.reason).toBe('DeploymentPaused')
    await apply({ replicas: 3, ...other })
    await rolledOut()
  })

  test('another restart time restarts every group once, within the bound', async () => {
    await apply({ replicas: 3, restartedAt: '2026-01-01T00:05:00Z' })
    await rolledOut()
    expect(epochs()).toEqual([2, 2, 2])
    expect(service.least()).toBe(2)
    await apply({ replicas: 3, restartedAt: '2026-01-01T00:05:00Z' })
    await cluster.clock.advance(60_000)
    expect(epochs()).toEqual([2, 2, 2])
  })
})

describe('an update that cannot work', () => {
  test('costs one replica, says so at its deadline, and is undone', async () => {
    await begin('16Gi', { progressDeadlineSeconds: 120 })
    cluster.ring.hangChance = 1
    await apply({ replicas: 3, ...other, progressDeadlineSeconds: 120 })
    await cluster.clock.advance(15 * 60_000)
    expect(service.least()).toBe(2)
    expect(condition('Progressing')).toMatchObject({ status: 'False', reason: 'ProgressDeadlineExceeded' })
    cluster.ring.hangChance = 0
    await apply({ replicas: 3, progressDeadlineSeconds: 120 })
    await rolledOut()
    expect(service.least()).toBe(2)
  })
})
