/** Each promise of check.ts is broken once, and a sound world is silent. */
import { describe, expect, test } from 'vitest'
import type { Node } from '../../../src/api/node.ts'
import type { Shard, ShardPhase } from '../../../src/api/shard.ts'
import { shardName } from '../../../src/api/shard.ts'
import type { Member, ShardGroup } from '../../../src/api/shardgroup.ts'
import { checkPlacement, checkWorld, raisesOverAllocatable } from '../../../src/planner/check.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import { GiB, aDemand, aModel, aNode } from './builders.ts'

const meta = (name: string, namespace?: string) => ({
  name,
  ...(namespace === undefined ? {} : { namespace }),
  uid: name,
  resourceVersion: '1',
  generation: 1,
  creationTimestamp: '2026-01-01T00:00:00Z',
})
const node = (name: string, allocatable: string, change: Partial<Node['status']> = {}): Node => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: meta(name),
  spec: { unschedulable: false, taints: [] },
  status: { capacity: { memory: '16Gi' }, allocatable: { memory: allocatable }, ...change },
})
const member = (rank: number, on: string, stage: [number, number], gib = 4): Member => ({
  rank,
  node: on,
  stage,
  memoryBytes: gib * GiB,
  parts: { weights: (gib - 1) * GiB, kv: 0, runtime: GiB },
})
const pair = [member(0, 'a', [6, 12]), member(1, 'b', [0, 6])]
const binding = { strategy: 'Pipeline', engine: 'mlx', transport: 'Ring', planHash: 'x', members: pair } as const
const group = (members: readonly Member[] = pair, change: Partial<ShardGroup['spec']> = {}): ShardGroup => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'ShardGroup',
  metadata: meta('chat-0', 'default'),
  spec: {
    deployment: 'chat',
    replica: 0,
    revision: 1,
    epoch: 2,
    ...binding,
    members,
    next: null,
    ...change,
  },
})
const withoutStrategy = ({ strategy: _, ...rest }: ShardGroup['spec']) => rest
const shard = (m: Member, epoch = 2, phase: ShardPhase = 'Ready', change: Partial<Shard['metadata']> = {}): Shard => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Shard',
  metadata: { ...meta(shardName('chat-0', epoch, m.rank), 'default'), ...change },
  spec: {
    nodeName: m.node,
    deployment: 'chat',
    group: 'chat-0',
    epoch,
    revision: 1,
    rank: m.rank,
    worldSize: 2,
    strategy: 'Pipeline',
    transport: 'Ring',
    stage: m.stage,
    split: [6, 6],
    engine: { name: 'mlx', args: [] },
    model: { layers: 12, vocabSize: 10 },
    serving: { servedName: 'chat', contextTokens: 1, concurrency: 1, maxOutputTokens: 1 },
    memoryBytes: m.memoryBytes,
    parts: m.parts,
    rendezvous: null,
  },
  status: { phase },
})
const nodes = [node('a', '10Gi'), node('b', '10Gi')]
const world = (groups: readonly ShardGroup[], shards: readonly Shard[] = [], on = nodes) => ({
  nodes: on,
  groups,
  shards,
})
const rules = (w: ReturnType<typeof world>) => checkWorld(w).map((f) => f.rule)

describe('checkWorld', () => {
  test('a sound world has nothing to say', () => {
    expect(
      checkWorld(
        world(
          [group()],
          pair.map((m) => shard(m)),
        ),
      ),
    ).toEqual([])
  })
  test.each<[string, () => ReturnType<typeof world>]>([
    ['Oversold', () => world([group()], [], [node('a', '3Gi'), node('b', '10Gi')])],
    ['BoundStale', () => world([group()], [], [node('a', '10Gi', { bound: { memory: '1Gi' } }), node('b', '10Gi')])],
    ['StagesBroken', () => world([group([member(0, 'a', [7, 12]), member(1, 'b', [0, 6])])])],
    ['NodeTwice', () => world([group([member(0, 'a', [6, 12]), member(1, 'a', [0, 6])])])],
    ['RanksBroken', () => world([group([member(1, 'a', [6, 12]), member(0, 'b', [0, 6])])])],
    ['DegreeBroken', () => world([group([member(0, 'a', [0, 12])])])],
    ['PartsBroken', () => world([group([{ ...member(0, 'a', [6, 12]), memoryBytes: 1 }, member(1, 'b', [0, 6])])])],
    ['UnknownNode', () => world([group([member(0, 'gone', [6, 12]), member(1, 'b', [0, 6])])])],
    ['EpochBackwards', () => world([group(pair, { next: { ...binding, epoch: 2, revision: 1 } })])],
    ['EpochAhead', () => world([group()], [shard(member(0, 'a', [6, 12]), 3)])],
    ['BindingBroken', () => world([group()], [shard(member(0, 'b', [6, 12]))])],
    ['BindingBroken', () => world([{ ...group(), spec: withoutStrategy(group().spec) }])],
    ['NameBroken', () => world([group()], [shard(member(0, 'a', [6, 12]), 2, 'Ready', { name: 'other' })])],
    ['RankTwice', () => world([group()], [shard(member(0, 'a', [6, 12])), shard(member(0, 'a', [6, 12]))])],
    ['TwoEpochsAlive', () => world([group()], [shard(member(0, 'a', [6, 12])), shard(member(1, 'a', [0, 6], 1), 1)])],
  ])('%s', (rule, broken) => {
    expect(rules(broken())).toContain(rule)
  })
  test('a falling allocatable is said by its condition and is no finding', () => {
    const condition = {
      type: 'Overcommitted',
      status: 'True',
      lastTransitionTime: '',
      reason: '',
      message: '',
    } as const
    expect(rules(world([group()], [], [node('a', '3Gi', { conditions: [condition] }), node('b', '10Gi')]))).toEqual([])
  })
  test('an old epoch that has stopped may stand beside the new one', () => {
    const old = shard(member(0, 'a', [6, 12]), 1, 'Stopped')
    expect(rules(world([group()], [...pair.map((m) => shard(m)), old]))).not.toContain('TwoEpochsAlive')
  })
})

describe('raisesOverAllocatable', () => {
  const small = [node('a', '3Gi'), node('b', '10Gi')]
  test('a binding over allocatable is found, one within is not', () => {
    expect(raisesOverAllocatable(world([]), world([group()]))).toEqual([])
    expect(raisesOverAllocatable(world([], [], small), world([group()], [], small))).toMatchObject([
      { rule: 'Oversold', object: 'Node/a' },
    ])
  })
  test('what is oversold already is no finding unless it is raised', () => {
    const before = world([group()], [], small)
    expect(raisesOverAllocatable(before, before)).toEqual([])
    expect(raisesOverAllocatable(before, world([], [], small))).toEqual([])
  })
  test('a restart in its own bytes raises nothing', () => {
    const tight = [node('a', '4Gi'), node('b', '4Gi')]
    const next = { ...binding, epoch: 3, revision: 1 }
    expect(raisesOverAllocatable(world([group()], [], tight), world([group(pair, { next })], [], tight))).toEqual([])
  })
  test('nothing may be bound to a node that does not exist', () => {
    expect(
      raisesOverAllocatable(world([]), world([group([member(0, 'x', [0, 12])], { strategy: 'Single' })])),
    ).toHaveLength(1)
  })
})

test('checkPlacement finds a plan that was tampered with', () => {
  const views = [aNode('a', { freeGiB: 8 }), aNode('b', { freeGiB: 8 })]
  const demand = aDemand(aModel(9), { parallelism: { strategy: 'Pipeline' } })
  const placement = placeGroup(demand, views)
  if (placement.kind !== 'Placed') throw new Error(placement.message)
  expect(checkPlacement(placement, demand, views)).toEqual([])
  const [first, ...others] = placement.members
  const tampered = (change: Partial<Member>) =>
    checkPlacement({ ...placement, members: [{ ...(first as Member), ...change }, ...others] }, demand, views).map(
      (f) => f.rule,
    )
  expect(tampered({ node: 'x' })).toContain('UnknownNode')
  expect(tampered({ stage: [0, 1] })).toContain('StagesBroken')
  expect(tampered({ memoryBytes: 9 * GiB })).toEqual(expect.arrayContaining(['Oversold', 'PartsBroken']))
  expect(
    checkPlacement(placement, demand, [views[0] as (typeof views)[0], aNode('b', { freeGiB: 1 })]).map((f) => f.rule),
  ).toContain('Oversold')
})
