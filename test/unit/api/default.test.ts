import fc from 'fast-check'
import { expect, test } from 'vitest'
import { applyDefaults } from '../../../src/api/default.ts'
import type { Manifest } from '../../../src/api/meta.ts'
import { validate } from '../../../src/api/validate.ts'
import { deployment, faultsOf, manifestOf, shard, shardGroup } from './manifests.ts'

const specOf = (manifest: Manifest) => applyDefaults(manifest)['spec'] as Record<string, unknown>

test('a deployment that says only its model is stored with every default in it', () => {
  expect(applyDefaults(deployment({}, { name: 'chat' }))).toEqual({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name: 'chat', namespace: 'default' },
    spec: {
      model: { source: 'file:smollm2' },
      servedName: 'chat',
      replicas: 1,
      parallelism: { strategy: 'Auto', objective: 'Latency', transport: 'Auto', split: [] },
      serving: { contextTokens: 4096, concurrency: 1, maxOutputTokens: 4096 },
      engine: { name: 'Auto', args: [] },
      placement: { nodeSelector: {}, nodes: [], tolerations: [], spread: 'Prefer' },
      update: { strategy: 'RollingUpdate', maxUnavailable: 1, maxSurge: 0 },
      recovery: { nodeLossSeconds: 120, action: 'Replan' },
      priority: 0,
      paused: false,
      progressDeadlineSeconds: 600,
      revisionHistoryLimit: 10,
    },
  })
})

test.each([
  [8192, 4096],
  [1024, 1024],
])('with %i context tokens the longest answer is %i', (contextTokens, maxOutputTokens) => {
  expect(specOf(deployment({ serving: { contextTokens } }))['serving']).toMatchObject({ maxOutputTokens })
})

test('what the user wrote stays, beside the defaults of the same map', () => {
  const spec = specOf(deployment({ replicas: 0, paused: true, update: { maxSurge: 2 }, servedName: 'gpt' }))
  expect(spec).toMatchObject({ replicas: 0, paused: true, servedName: 'gpt' })
  expect(spec['update']).toEqual({ strategy: 'RollingUpdate', maxUnavailable: 1, maxSurge: 2 })
})

test('Single is stored as Data', () => {
  expect(specOf(deployment({ parallelism: { strategy: 'Single' } }))['parallelism']).toMatchObject({ strategy: 'Data' })
})

test('an explicit null means not set', () => {
  const spec = specOf(deployment({ replicas: null, parallelism: { degree: null }, servedName: null, serving: null }))
  expect(spec).toMatchObject({ replicas: 1, servedName: 'x', serving: { contextTokens: 4096 } })
  expect(spec['parallelism']).not.toHaveProperty('degree')
})

test('a null that says something is kept', () => {
  expect(specOf(shard())['rendezvous']).toBeNull()
  expect(specOf(shardGroup())['next']).toBeNull()
})

test('a node is schedulable, its quantities become text, its thin engines and conditions whole', () => {
  const node = applyDefaults(
    manifestOf('Node', {
      status: {
        capacity: { memory: 4e9 },
        engines: [{ name: 'mlx' }, { name: 'llamacpp' }, { name: 'fake', transports: ['Jaccl'] }],
        conditions: [{ type: 'Ready', status: 'True' }],
        models: [{ source: 'file:a' }],
      },
    }),
  )
  expect(node['spec']).toEqual({ unschedulable: false, taints: [] })
  expect(node.metadata).toEqual({ name: 'x' })
  expect(node['status']).toMatchObject({
    capacity: { memory: '4000000000' },
    engines: [{ transports: ['Ring'] }, { transports: ['Rpc'] }, { transports: ['Jaccl'] }],
    conditions: [{ type: 'Ready', status: 'True', reason: '', message: '' }],
    models: [{ state: 'Present' }],
  })
  expect(validate(node)).toEqual([])
})

test('defaulting twice changes nothing, and hands back the very same object', () => {
  for (const manifest of [
    deployment(),
    shard(),
    shardGroup(),
    manifestOf('Node', { status: { capacity: { memory: 5 } } }),
  ]) {
    const once = applyDefaults(manifest)
    expect(applyDefaults(once)).toBe(once)
  }
})

test('the input is never changed, whatever it is', () => {
  const arbitrary = fc.record({
    apiVersion: fc.constant('mctl.dev/v1alpha1'),
    kind: fc.constantFrom('ModelDeployment', 'Node', 'Model', 'Shard', 'Nothing'),
    metadata: fc.oneof(fc.jsonValue(), fc.record({ name: fc.string() })),
    spec: fc.oneof(fc.jsonValue(), fc.record({ serving: fc.jsonValue(), parallelism: fc.jsonValue() })),
    status: fc.jsonValue(),
  })
  fc.assert(
    fc.property(arbitrary, (manifest) => {
      const before = JSON.stringify(manifest)
      applyDefaults(manifest as unknown as Manifest)
      return JSON.stringify(manifest) === before
    }),
  )
})

test('nobody can write into defaults that others share', () => {
  const { placement } = specOf(deployment()) as { placement: { nodes: string[] } }
  expect(() => placement.nodes.push('mini-1')).toThrow(TypeError)
  expect(faultsOf(deployment())).toEqual([])
})
