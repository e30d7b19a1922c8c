/** From stored objects to views, shapes and reports. */
import { describe, expect, test } from 'vitest'
import { applyDefaults } from '../../../src/api/default.ts'
import type { Model } from '../../../src/api/model.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import { nodeViews, resolveShape } from '../../../src/planner/placement/view.ts'
import { planReport } from '../../../src/planner/report.ts'
import { GiB, aModel } from './builders.ts'

const meta = (name: string) => ({ name, uid: '', resourceVersion: '1', generation: 1, creationTimestamp: '' })
const ready = { type: 'Ready', status: 'True', lastTransitionTime: '', reason: 'x', message: 'x' } as const
const aStoredNode = (name: string, status: Partial<Node['status']> = {}): Node => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: meta(name),
  spec: { unschedulable: false, taints: [] },
  status: { nodeInfo: { chip: 'Apple M4' }, capacity: { memory: '16Gi' }, ...status },
})
const world = (nodes: readonly Node[], headroom: [string, number][] = []) => ({
  nodes,
  groups: [],
  shards: [],
  headroomBytes: new Map(headroom),
})
const model = (name: string, source: string | undefined, change: Partial<Model> = {}): Model => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Model',
  metadata: meta(name),
  spec: { ...(source === undefined ? {} : { source }), shape: aModel(2) },
  ...change,
})
const deployment = (name: string, spec: Record<string, unknown>): ModelDeployment =>
  applyDefaults({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name },
    spec: { serving: { contextTokens: 256 }, engine: { name: 'fake' }, ...spec },
  }) as unknown as ModelDeployment

describe('nodeViews', () => {
  test('a node without the Ready condition is not ready; allocatable is computed until the server wrote it', () => {
    const [thin, full] = nodeViews(
      world([aStoredNode('a'), aStoredNode('b', { allocatable: { memory: '5Gi' }, conditions: [ready] })]),
    )
    expect(thin).toMatchObject({ ready: false, boundBytes: 0, systemReserveBytes: 4 * GiB, models: undefined })
    expect((thin?.allocatableBytes ?? 0) / 1e9).toBeCloseTo(10.88, 2)
    expect(full).toMatchObject({ ready: true, allocatableBytes: 5 * GiB })
  })
  test('memory pressure leaves no headroom, whatever the heartbeat says', () => {
    const pressed = {
      type: 'MemoryPressure',
      status: 'True',
      lastTransitionTime: '',
      reason: 'x',
      message: 'x',
    } as const
    const nodes = [aStoredNode('a', { conditions: [ready, pressed] }), aStoredNode('b', { conditions: [ready] })]
    expect(
      nodeViews(
        world(nodes, [
          ['a', 9],
          ['b', 9],
        ]),
      ).map((v) => v.headroomBytes),
    ).toEqual([0, 9])
  })
  test('a node that is being deleted takes nothing new', () => {
    const node = aStoredNode('a', { conditions: [ready] })
    const leaving = { ...node, metadata: { ...node.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } }
    expect(nodeViews(world([leaving]))[0]?.unschedulable).toBe(true)
  })
})

describe('resolveShape', () => {
  const headers = aModel(3)
  test('by name, and by source with headers before what a person wrote', () => {
    const written = model('a-written', 'file:x')
    const read = model('z-read', 'file:x', {
      spec: { source: 'file:x' },
      status: { shape: headers, digest: 'sha256:1' },
    })
    const models = [written, read]
    expect(resolveShape({ models }, { name: 'a-written' })).toMatchObject({ source: 'file:x', digest: undefined })
    expect(resolveShape({ models }, { source: 'file:x' })).toEqual({
      shape: headers,
      digest: 'sha256:1',
      source: 'file:x',
    })
    expect(resolveShape({ models: [...models].reverse() }, { source: 'file:x' })?.digest).toBe('sha256:1')
  })
  test('unknown, or known without a shape: pending', () => {
    expect(resolveShape({ models: [] }, { name: 'x' })).toBeUndefined()
    expect(
      resolveShape({ models: [model('x', 'file:x', { spec: { source: 'file:x' } })] }, { name: 'x' }),
    ).toBeUndefined()
    expect(resolveShape({ models: [model('x', undefined)] }, { source: 'file:y' })).toBeUndefined()
  })
  test('another revision is another model', () => {
    const main = model('m', 'hf://x', { spec: { source: 'hf://x', revision: 'main', shape: headers } })
    expect(resolveShape({ models: [main] }, { source: 'hf://x', revision: 'v2' })).toBeUndefined()
    // Who says none means main.
    expect(resolveShape({ models: [main] }, { source: 'hf://x' })).toBeDefined()
    const silent = model('m', 'hf://x', { spec: { source: 'hf://x', shape: headers } })
    expect(resolveShape({ models: [silent] }, { source: 'hf://x', revision: 'main' })).toBeDefined()
    const other = model('m', 'hf://x', { spec: { source: 'hf://x', revision: 'v2', shape: headers } })
    expect(resolveShape({ models: [other] }, { source: 'hf://x' })).toBeUndefined()
    expect(resolveShape({ models: [main] }, { source: 'hf://x' })?.shape).toEqual(headers)
  })
})

describe('planReport', () => {
  const nodes = [aStoredNode('a'), aStoredNode('b')]
  const models = [model('small', undefined), model('large', undefined, { spec: { shape: aModel(9) } })]
  const of = (name: string, modelName: string, spec: Record<string, unknown> = {}) =>
    deployment(name, { model: { name: modelName }, ...spec })
  test('replicas share one ledger: the third large one finds no room, and says what is missing', () => {
    const [item] = planReport({ nodes, models, deployments: [of('x', 'large', { replicas: 3 })] }).items
    expect(item).toMatchObject({ schedulable: false, refusals: [{ node: 'a' }, { node: 'b' }] })
    expect(item?.replicas.map((r) => r.ranks[0]?.node)).toEqual(['a', 'b'])
    expect(item?.message).toMatch(/^2 replicas fit, the next does not: 0\/2 nodes are available: 2 Insufficient memory/)
  })
  test('the higher priority goes first, the answer keeps the order of the question', () => {
    const deployments = [of('low', 'large', { replicas: 2 }), of('high', 'large', { replicas: 2, priority: 5 })]
    const report = planReport({ nodes, models, deployments })
    expect(report.items.map((i) => [i.name, i.schedulable])).toEqual([
      ['low', false],
      ['high', true],
    ])
    const alone = planReport({ nodes, models, deployments, independent: true })
    expect(alone.items.map((i) => i.schedulable)).toEqual([true, true])
  })
  test('what is bound counts, but a deployment gives its own bytes back', () => {
    const [first] = planReport({ nodes, models, deployments: [of('x', 'large')] }).items
    expect(first?.replicas[0]?.ranks[0]).toMatchObject({ node: 'a', rank: 0, layers: [0, 12] })
    const bytes = first?.replicas[0]?.ranks[0]?.memoryBytes ?? 0
    const groups = [
      {
        apiVersion: 'mctl.dev/v1alpha1',
        kind: 'ShardGroup' as const,
        metadata: { ...meta('x-0'), namespace: 'default' },
        spec: {
          deployment: 'x',
          replica: 0,
          revision: 1,
          epoch: 1,
          strategy: 'Single' as const,
          engine: 'fake' as const,
          transport: 'Ring' as const,
          planHash: '',
          members: [
            {
              rank: 0,
              node: 'a',
              stage: [0, 12] as const,
              memoryBytes: bytes,
              parts: { weights: bytes, kv: 0, runtime: 0 },
            },
          ],
          next: null,
        },
      },
    ]
    const nodeOf = (name: string) =>
      planReport({ nodes, models, deployments: [of(name, 'large')], groups }).items[0]?.replicas[0]?.ranks[0]?.node
    expect(nodeOf('x')).toBe('a')
    expect(nodeOf('y')).toBe('b')
  })
  test('a model without a shape is named, not guessed', () => {
    const [item] = planReport({ nodes, models, deployments: [of('x', 'nobody')] }).items
    expect(item).toMatchObject({ schedulable: false, replicas: [] })
    expect(item?.message).toContain('ModelShapePending: no Model named nobody')
  })
  test('an unknown chip has no predicted speed', () => {
    const odd = [aStoredNode('a', { nodeInfo: { chip: 'AMD EPYC' } })]
    const [item] = planReport({ nodes: odd, models, deployments: [of('x', 'small')] }).items
    expect(item?.schedulable).toBe(true)
    expect(item?.predicted).toBeUndefined()
    expect(item?.why.join()).toContain('speed is not predicted')
  })
})
