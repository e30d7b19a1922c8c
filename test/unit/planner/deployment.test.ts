import { describe, expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import type { ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus } from '../../../src/api/modeldeployment.ts'
import { templateOf } from '../../../src/api/template.ts'
import type { ShardPhase } from '../../../src/api/shard.ts'
import type { ShardGroup, ShardGroupSpec, ShardGroupStatus } from '../../../src/api/shardgroup.ts'
import { unboundOf } from '../../../src/api/shardgroup.ts'
import type { Plan } from '../../../src/planner/actions.ts'
import { planDeployment } from '../../../src/planner/deployment.ts'
import type { World } from '../../../src/planner/world.ts'
import {
  aBinding,
  actionsOf,
  aDeployment,
  aGroup,
  aModel,
  aNode,
  aRevision,
  aShard,
  aWorld,
  condition,
  member,
  NOW_MS,
  reasonsOf,
  tinyShape,
} from '../../support/cluster.ts'

const GIB = 2 ** 30
const plan = (deployment: ModelDeployment, world: Partial<World> = {}, nowMs = NOW_MS): Plan =>
  planDeployment(
    aWorld({ deployments: [deployment], revisions: [aRevision(deployment)], ...world }),
    deployment,
    nowMs,
    'http://127.0.0.1:6481',
  )
const statusIn = (p: Plan, kind = 'ModelDeployment') =>
  actionsOf(p, 'setStatus').find((a) => a.object.kind === kind)?.status as ModelDeploymentStatus & ShardGroupStatus
const conditionIn = (p: Plan, type: string) => findCondition(statusIn(p).conditions, type)
const specIn = (p: Plan) => actionsOf(p, 'setSpec')[0]?.spec as ShardGroupSpec
const created = (p: Plan, kind: string) =>
  actionsOf(p, 'create')
    .filter((a) => a.object.kind === kind)
    .map((a) => a.object)

const single = (replica: number, changes: Partial<ShardGroupSpec> = {}, ready = true): ShardGroup =>
  aGroup(
    { replica, strategy: 'Single', members: [member(0, `mini-${replica + 1}`)], ...changes },
    { status: { phase: 'Ready', conditions: [condition('Ready', ready ? 'True' : 'False')] } },
  )
const unbound = (replica: number): ShardGroup => {
  const group = single(replica, {}, false)
  return { ...group, spec: unboundOf(group.spec) }
}
const huge = aModel('tiny', { ...tinyShape, weightBytes: 40 * GIB })

describe('making', () => {
  test('a new deployment gets its first revision and its groups, bound to nothing yet', () => {
    const deployment = aDeployment({ replicas: 2 })
    const p = plan(deployment, { revisions: [] })
    expect(created(p, 'Revision')).toMatchObject([{ metadata: { name: 'chat-r1' }, spec: { revision: 1 } }])
    expect(created(p, 'ShardGroup').map((g) => g.metadata.name)).toEqual(['chat-0', 'chat-1'])
    expect(created(p, 'ShardGroup')[0]).toMatchObject({
      metadata: { finalizers: ['mctl.dev/children'], ownerReferences: [{ uid: 'uid-chat' }] },
      spec: { revision: 1, epoch: 1, members: [] },
    })
    // What no plan has chosen yet is not written.
    for (const { spec } of created(p, 'ShardGroup'))
      expect(Object.keys(spec as object)).toEqual(['deployment', 'replica', 'revision', 'epoch', 'members', 'next'])
    expect(conditionIn(p, 'Valid')?.status).toBe('True')
  })

  test('the same template with its keys in another order makes no revision', () => {
    const deployment = aDeployment()
    const { placement, engine, ...rest } = templateOf(deployment.spec)
    const revision = aRevision(deployment, 1, { placement, engine, ...rest })
    expect(created(plan(deployment, { revisions: [revision] }), 'Revision')).toEqual([])
  })

  test('the younger of two deployments with one served name is invalid, and says which one is older', () => {
    const older = aDeployment(
      { servedName: 'x' },
      { name: 'older', metadata: { creationTimestamp: '2020-01-01T00:00:00Z' } },
    )
    const younger = aDeployment({ servedName: 'x' })
    const world = { deployments: [older, younger], revisions: [] }
    const p = plan(younger, world)
    expect(conditionIn(p, 'Valid')).toMatchObject({ status: 'False', reason: 'ServedNameConflict' })
    expect(conditionIn(p, 'Valid')?.message).toContain('default/older')
    expect(actionsOf(p, 'create')).toEqual([])
    expect(conditionIn(plan(older, world), 'Valid')?.status).toBe('True')
  })

  test('a deployment that begins paused makes nothing', () => {
    const p = plan(aDeployment({ paused: true }), { revisions: [] })
    expect(actionsOf(p, 'create')).toEqual([])
    expect(conditionIn(p, 'Progressing')).toMatchObject({ status: 'Unknown', reason: 'DeploymentPaused' })
  })
})

describe('binding', () => {
  test('one unbound group is bound per transaction', () => {
    const p = plan(aDeployment({ replicas: 2 }), { groups: [unbound(0), unbound(1)] })
    expect(actionsOf(p, 'setSpec')).toHaveLength(1)
    expect(specIn(p)).toMatchObject({ replica: 0, strategy: 'Single', engine: 'fake', epoch: 1 })
    expect(specIn(p).members).toHaveLength(1)
    expect(statusIn(p).plan).toMatchObject({ strategy: 'Single', degree: 1 })
    expect(reasonsOf(p)).toContain('Scheduled')
  })

  test('what does not fit is refused in bytes, on the deployment and on its groups', () => {
    const p = plan(aDeployment(), { groups: [unbound(0)], models: [huge] })
    expect(actionsOf(p, 'setSpec')).toEqual([])
    expect(conditionIn(p, 'Scheduled')).toMatchObject({ status: 'False', reason: 'Unschedulable' })
    expect(conditionIn(p, 'Scheduled')?.message).toMatch(/^0\/2 nodes are available: 2 Insufficient memory \(need 4\d/)
    expect(findCondition(statusIn(p, 'ShardGroup').conditions, 'Scheduled')).toMatchObject({ reason: 'Unschedulable' })
    expect(reasonsOf(p)).toEqual(['Unschedulable'])
  })

  test('a refusal that is known already is not told again', () => {
    const patient = { progressDeadlineSeconds: 36_000 }
    const deployment = aDeployment(patient)
    const first = plan(deployment, { groups: [unbound(0)], models: [huge] })
    const again = plan(aDeployment(patient, { status: statusIn(first) }), { groups: [unbound(0)], models: [huge] })
    expect(reasonsOf(again)).toEqual([])
    expect(statusIn(again)).toEqual(statusIn(first))
  })

  test('without a shape scheduling is unknown, not refused', () => {
    const p = plan(aDeployment(), { groups: [unbound(0)], models: [] })
    expect(conditionIn(p, 'Scheduled')).toMatchObject({ status: 'Unknown', reason: 'ModelShapePending' })
  })
})

describe('scaling and rolling up', () => {
  test('a deployment is Ready when all its replicas are, and only then has an endpoint', () => {
    const deployment = aDeployment({ replicas: 2 })
    const whole = plan(deployment, { groups: [single(0), single(1)] })
    expect(statusIn(whole)).toMatchObject({ replicas: 2, readyReplicas: 2, updatedReplicas: 2, currentRevision: 1 })
    expect(conditionIn(whole, 'Ready')?.status).toBe('True')
    expect(statusIn(whole).endpoint).toBe('http://127.0.0.1:6481')
    const none = plan(deployment, { groups: [single(0, {}, false), single(1, {}, false)] })
    expect(conditionIn(none, 'Available')?.status).toBe('False')
    expect(statusIn(none).endpoint).toBeUndefined()
  })

  test('surplus groups go, the highest first', () => {
    const p = plan(aDeployment({ replicas: 1 }), { groups: [single(0), single(1), single(2)] })
    expect(actionsOf(p, 'delete').map((a) => a.object.metadata.name)).toEqual(['chat-2', 'chat-1'])
  })

  test('no progress within the deadline is said, and the moment is known beforehand', () => {
    const deployment = aDeployment({ progressDeadlineSeconds: 60 })
    const groups = [single(0, {}, false)]
    const p = plan(deployment, { groups }, Date.parse(deployment.metadata.creationTimestamp) + 10_000)
    expect(conditionIn(p, 'Progressing')?.status).toBe('True')
    expect(p.waitMs).toBe(50_000)
    expect(conditionIn(plan(deployment, { groups }), 'Progressing')).toMatchObject({
      reason: 'ProgressDeadlineExceeded',
    })
  })

  test('a failing group is why its deployment is not ready', () => {
    const firstCause = {
      shard: 's',
      node: 'mini-1',
      rank: 0,
      epoch: 3,
      reason: 'EngineExited',
      message: 'boom',
      code: 7,
      atMs: 0,
    }
    const group = aGroup({ members: [member(0, 'mini-1')] }, { status: { phase: 'Backoff', restarts: 1, firstCause } })
    expect(conditionIn(plan(aDeployment(), { groups: [group] }), 'Ready')?.message).toContain(
      'chat-0: rank 0 on mini-1, epoch 3: EngineExited (exit code 7): boom',
    )
  })
})

describe('updating', () => {
  const before = aDeployment({ replicas: 2 })
  const changed = (changes: Partial<ModelDeploymentSpec> = {}) =>
    aDeployment({ replicas: 2, serving: { contextTokens: 64, concurrency: 1, maxOutputTokens: 64 }, ...changes })
  const old = aRevision(before)

  test('a changed template moves one ready group at a time, as its next epoch in its own bytes', () => {
    const deployment = changed()
    const p = plan(deployment, { revisions: [old], groups: [single(0), single(1)] })
    expect(created(p, 'Revision')).toMatchObject([{ spec: { revision: 2 } }])
    expect(actionsOf(p, 'setSpec')).toHaveLength(1)
    expect(specIn(p)).toMatchObject({ epoch: 1, next: { epoch: 2, revision: 2 } })

    const newer = aRevision(deployment, 2)
    const moving = { revisions: [old, newer], groups: [single(0, { revision: 2 }, false), single(1)] }
    expect(actionsOf(plan(deployment, moving), 'setSpec')).toEqual([])
    const moved = { revisions: [old, newer], groups: [single(0, { revision: 2 }), single(1)] }
    expect(specIn(plan(deployment, moved))).toMatchObject({ replica: 1, next: { revision: 2 } })
  })

  test('Recreate asks nobody whether the others are ready', () => {
    const deployment = changed({ update: { strategy: 'Recreate', maxUnavailable: 1, maxSurge: 0 } })
    const revisions = [old, aRevision(deployment, 2)]
    const p = plan(deployment, { revisions, groups: [single(0, { revision: 2 }, false), single(1)] })
    expect(specIn(p)).toMatchObject({ replica: 1, next: { revision: 2 } })
  })

  test('Recreate stops an old group that has no place in the new revision, once the others are prepared', () => {
    const deployment = changed({ update: { strategy: 'Recreate', maxUnavailable: 1, maxSurge: 0 } })
    const revisions = [old, aRevision(deployment, 2)]
    const groups = [single(0, { revision: 2, members: [member(0, 'mini-1', 9 * GIB)] }, false), single(1)]
    // mini-2 has room for the old model only.
    const nodes = [aNode('mini-1'), aNode('mini-2', { memory: '8Gi' })]
    const models = [aModel('tiny', { ...tinyShape, weightBytes: 8 * GIB })]
    const planned = (phase: ShardPhase) =>
      plan(deployment, { revisions, groups, nodes, models, shards: [aShard(groups[0] as ShardGroup, 0, phase)] })

    expect(actionsOf(planned('Fetching'), 'setSpec')).toEqual([])
    expect(specIn(planned('Prepared'))).toMatchObject({ replica: 1, members: [] })
    expect(reasonsOf(planned('Prepared'))).toContain('Recreating')
  })

  test('a successor that would wait for ever in its own bytes is planned anew beside the old one', () => {
    const deployment = changed({ update: { strategy: 'RollingUpdate', maxUnavailable: 0, maxSurge: 1 } })
    const revisions = [old, aRevision(deployment, 2)]
    const next = { ...aBinding, strategy: 'Single' as const, members: [member(0, 'mini-2')], epoch: 2, revision: 2 }
    const groups = [single(0, { revision: 2 }), single(1, { next })]
    const nodes = [aNode('mini-1'), aNode('mini-2'), aNode('mini-3')]
    const back = plan(deployment, { revisions, groups, nodes })
    expect(specIn(back)).toMatchObject({ replica: 1, next: null })
    expect(reasonsOf(back)).toContain('SuccessorDropped')
    const beside = plan(deployment, { revisions, groups: [groups[0] as ShardGroup, single(1)], nodes })
    expect(specIn(beside)).toMatchObject({ replica: 1, next: { startFirst: true, members: [{ node: 'mini-3' }] } })
    // Without room beside it, that is what its deployment says.
    expect(specIn(plan(deployment, { revisions, groups, nodes, models: [huge] }))).toMatchObject({ next: null })
    const waiting = plan(deployment, { revisions, groups: [groups[0] as ShardGroup, single(1)], nodes, models: [huge] })
    expect(conditionIn(waiting, 'Scheduled')?.message).toMatch(/maxUnavailable is 0, and no group fits beside/)
  })

  test.each(['RollingUpdate', 'Recreate'] as const)(
    '%s: so is a move off a node that is drained no more',
    (strategy) => {
      const deployment = aDeployment({ replicas: 1, update: { strategy, maxUnavailable: 0, maxSurge: 1 } })
      const next = { ...aBinding, strategy: 'Single' as const, members: [member(0, 'mini-2')], epoch: 2, revision: 1 }
      const groups = [single(0, { next })]
      const node = aNode('mini-1')
      const drained = [{ ...node, spec: { ...node.spec, drain: { force: true } } }, aNode('mini-2')]
      expect(actionsOf(plan(deployment, { revisions: [old], groups, nodes: drained }), 'setSpec')).toEqual([])
      const back = plan(deployment, { revisions: [old], groups })
      expect(specIn(back)).toMatchObject({ epoch: 1, next: null })
      expect(reasonsOf(back)).toContain('SuccessorDropped')
    },
  )

  test('a template that fits nowhere leaves the old replicas serving, and says why', () => {
    const p = plan(changed(), { revisions: [old], groups: [single(0), single(1)], models: [huge] })
    expect(actionsOf(p, 'setSpec')).toEqual([])
    expect(conditionIn(p, 'Scheduled')?.message).toMatch(/^revision 2: 0\/2 nodes/)
    expect(statusIn(p).readyReplicas).toBe(2)
  })

  test('paused keeps every group on its template', () => {
    const p = plan(changed({ paused: true }), { revisions: [old], groups: [single(0), single(1)] })
    expect(p.actions.map((a) => a.action)).toEqual(['setStatus'])
  })

  test('old revisions beyond the limit go, but never one that still runs', () => {
    const tokens = (n: number) => ({ serving: { contextTokens: 32 * n, concurrency: 1, maxOutputTokens: 32 } })
    const deployment = aDeployment({ revisionHistoryLimit: 1, ...tokens(4) })
    const revisions = [1, 2, 3, 4].map((n) => aRevision(aDeployment(tokens(n)), n))
    const p = plan(deployment, { revisions, groups: [single(0, { revision: 1 }, false)] })
    expect(actionsOf(p, 'delete').map((a) => a.object.metadata.name)).toEqual(['chat-r2'])
  })
})

describe('losing nodes', () => {
  const nodes = (silentForMs: number) => [aNode('mini-1', { silentForMs }), aNode('mini-2'), aNode('mini-3')]
  const groups = [single(0, {}, false)]

  test('before nodeLossSeconds a group waits for its node', () => {
    const p = plan(aDeployment(), { nodes: nodes(50_000), groups })
    expect(actionsOf(p, 'setSpec')).toEqual([])
    expect(p.waitMs).toBeLessThanOrEqual(70_000)
  })

  test('after it the group goes on elsewhere as its next epoch', () => {
    const p = plan(aDeployment(), { nodes: nodes(120_000), groups })
    expect(specIn(p).next?.epoch).toBe(2)
    expect(specIn(p).next?.members[0]?.node).not.toBe('mini-1')
    expect(reasonsOf(p)).toContain('Replanned')
  })

  test('what this process has seen of the silence counts, not the time of day in the condition', () => {
    const seen = (ms: number, conditionMs: number) =>
      plan(aDeployment(), { nodes: nodes(conditionMs), groups, silentForMs: new Map([['mini-1', ms]]) })
    expect(actionsOf(seen(119_000, 86_400_000), 'setSpec')).toEqual([])
    expect(seen(119_000, 86_400_000).waitMs).toBe(1_000)
    expect(specIn(seen(120_000, -3_600_000)).next?.epoch).toBe(2)
  })

  test('recovery Wait, and more than half of the nodes silent, move nothing', () => {
    const waiting = aDeployment({ recovery: { nodeLossSeconds: 120, action: 'Wait' } })
    expect(actionsOf(plan(waiting, { nodes: nodes(500_000), groups }), 'setSpec')).toEqual([])
    const partitioned = [...nodes(500_000).slice(0, 2), aNode('mini-3', { silentForMs: 500_000 })]
    const p = plan(aDeployment(), { nodes: partitioned, groups })
    expect(actionsOf(p, 'setSpec')).toEqual([])
    expect(conditionIn(p, 'Ready')).toMatchObject({ status: 'False', reason: 'ClusterPartitioned' })
  })

  test('how long a node is silent is told by what was seen of it, though the time of day jumped in between', () => {
    const jumped = [...nodes(500_000).slice(0, 2), aNode('mini-3', { silentForMs: 7_200_000 })]
    const silentForMs = new Map(['mini-1', 'mini-3'].map((name) => [name, 500_000]))
    expect(actionsOf(plan(aDeployment(), { nodes: jumped, groups, silentForMs }), 'setSpec')).toEqual([])
  })

  test('nodes that died one by one are no partition: what is left takes over', () => {
    const dying = [...nodes(200_000).slice(0, 2), aNode('mini-3', { silentForMs: 86_400_000 })]
    const p = plan(aDeployment(), { nodes: dying, groups })
    expect(specIn(p).next?.members.map((m) => m.node)).toEqual(['mini-2'])
  })

  test('a group that fits nowhere else keeps its place on a silent node and gives it up on a removed one', () => {
    const alone = [
      aNode('mini-1', { silentForMs: 500_000 }),
      aNode('mini-2', { memory: '4Gi' }),
      aNode('mini-3', { memory: '4Gi' }),
    ]
    expect(actionsOf(plan(aDeployment(), { nodes: alone, groups }), 'setSpec')).toEqual([])
    const p = plan(aDeployment(), { nodes: alone.slice(1), groups })
    const { deployment, replica, revision } = groups[0]?.spec ?? {}
    expect(specIn(p)).toEqual({ deployment, replica, revision, epoch: 2, members: [], next: null })
    expect(conditionIn(p, 'Scheduled')?.reason).toBe('Unschedulable')
  })
})

describe('deleting', () => {
  const metadata = { deletionTimestamp: '2026-01-01T12:00:00Z' }

  test('groups go first, then the deployment', () => {
    const p = plan(aDeployment({}, { metadata }), { groups: [single(0)] })
    expect(actionsOf(p, 'delete').map((a) => a.object.kind)).toEqual(['ShardGroup'])
    expect(actionsOf(p, 'removeFinalizer')).toEqual([])
    expect(actionsOf(plan(aDeployment({}, { metadata })), 'removeFinalizer')).toHaveLength(1)
  })
})
