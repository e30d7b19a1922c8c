import { describe, expect, test } from 'vitest'
import type { Manifest } from '../../../src/api/meta.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import { isOpError } from '../../../src/lib/errors.ts'
import { applyObject, createObject, patchObject, setStatus, updateObject } from '../../../src/store/objects.ts'
import type { Store } from '../../../src/store/store.ts'
import { aDeploymentManifest, aStore } from '../../support/stores.ts'

const chat = { kind: 'ModelDeployment', namespace: 'default', name: 'chat' }
const model = { source: 'hf://org/name' }

/** One step of a story: who does what, and what stands afterwards (or why it was refused). */
interface Step {
  readonly by: string
  readonly how?: 'apply' | 'force' | 'patch' | 'create' | 'update'
  readonly spec?: object
  readonly labels?: object
  readonly annotations?: object
  /** Some of the object after the step. */
  readonly then?: object
  /** A conflict, in its words. */
  readonly conflict?: string
  readonly result?: 'created' | 'configured' | 'unchanged'
  readonly owners?: Readonly<Record<string, readonly string[]>>
}

const stories: readonly (readonly [string, readonly Step[]])[] = [
  [
    'an apply that changes nothing is unchanged',
    [
      { by: 'mctl', spec: { model, replicas: 2 }, result: 'created' },
      { by: 'mctl', spec: { model, replicas: 2 }, result: 'unchanged' },
    ],
  ],
  [
    'a manager owns what it sent, not what was defaulted',
    [
      {
        by: 'mctl',
        spec: { model, replicas: 2 },
        labels: { team: 'a' },
        owners: { 'mctl Apply': ['.metadata.labels.team', '.spec.model.source', '.spec.replicas'] },
      },
    ],
  ],
  [
    'another value for a field of another manager is a conflict that names both',
    [
      { by: 'mctl', spec: { model, replicas: 2 } },
      {
        by: 'gitops',
        spec: { model, replicas: 3 },
        conflict: 'Apply failed with 1 conflict: conflict with "mctl": .spec.replicas',
        then: { spec: { replicas: 2 } },
      },
    ],
  ],
  [
    'several conflicts are listed by manager and path',
    [
      { by: 'mctl', spec: { model, replicas: 2, priority: 1 } },
      { by: 'ops', spec: { paused: true } },
      {
        by: 'gitops',
        spec: { model, replicas: 3, priority: 2, paused: false },
        conflict:
          'Apply failed with 3 conflicts: conflicts with "mctl":\n- .spec.priority\n- .spec.replicas\nconflicts with "ops":\n- .spec.paused',
      },
    ],
  ],
  [
    'force takes the fields over, and only those in conflict',
    [
      { by: 'mctl', spec: { model, replicas: 2, priority: 1 } },
      {
        by: 'gitops',
        how: 'force',
        spec: { replicas: 3 },
        then: { spec: { replicas: 3, priority: 1 } },
        owners: { 'mctl Apply': ['.spec.model.source', '.spec.priority'], 'gitops Apply': ['.spec.replicas'] },
      },
      {
        by: 'mctl',
        spec: { model, replicas: 2, priority: 1 },
        conflict: 'Apply failed with 1 conflict: conflict with "gitops": .spec.replicas',
      },
    ],
  ],
  [
    'the same value is owned by both, and goes only when both have dropped it',
    [
      { by: 'mctl', spec: { model, replicas: 2 } },
      { by: 'gitops', spec: { replicas: 2 }, result: 'configured' },
      { by: 'mctl', spec: { model }, then: { spec: { replicas: 2 } } },
      { by: 'gitops', spec: { priority: 1 }, then: { spec: { replicas: 1, priority: 1 } } },
    ],
  ],
  [
    'a shared field changes for nobody without force',
    [
      { by: 'mctl', spec: { model, replicas: 2 } },
      { by: 'gitops', spec: { replicas: 2 } },
      {
        by: 'gitops',
        spec: { replicas: 4 },
        conflict: 'Apply failed with 1 conflict: conflict with "mctl": .spec.replicas',
      },
    ],
  ],
  [
    'a dropped field goes back to its default',
    [
      { by: 'mctl', spec: { model, replicas: 4, parallelism: { strategy: 'Tensor', degree: 2 } } },
      {
        by: 'mctl',
        spec: { model },
        then: { spec: { replicas: 1, parallelism: { strategy: 'Auto' } }, metadata: { generation: 2 } },
      },
    ],
  ],
  [
    'a default that follows another field is made anew',
    [
      {
        by: 'mctl',
        spec: { model, serving: { contextTokens: 8192 } },
        then: { spec: { serving: { maxOutputTokens: 4096 } } },
      },
      {
        by: 'mctl',
        spec: { model, serving: { contextTokens: 1024 } },
        then: { spec: { serving: { maxOutputTokens: 1024 } } },
      },
      { by: 'ops', spec: { serving: { maxOutputTokens: 100 } }, then: { spec: { serving: { maxOutputTokens: 100 } } } },
      {
        by: 'mctl',
        spec: { model, serving: { contextTokens: 4096 } },
        then: { spec: { serving: { maxOutputTokens: 100 } } },
      },
    ],
  ],
  [
    'lists are one value, maps are granular',
    [
      { by: 'mctl', spec: { model, placement: { nodes: ['a', 'b'], nodeSelector: { chip: 'm4' } } } },
      {
        by: 'ops',
        spec: { placement: { nodeSelector: { rack: '1' } } },
        then: { spec: { placement: { nodes: ['a', 'b'], nodeSelector: { chip: 'm4', rack: '1' } } } },
      },
      {
        by: 'ops',
        spec: { placement: { nodes: ['a'] } },
        conflict: 'Apply failed with 1 conflict: conflict with "mctl": .spec.placement.nodes',
      },
      {
        by: 'mctl',
        spec: { model, placement: { nodes: ['c'] } },
        then: { spec: { placement: { nodes: ['c'], nodeSelector: { rack: '1' } } } },
      },
    ],
  ],
  [
    'labels and annotations are owned too',
    [
      { by: 'mctl', spec: { model }, labels: { team: 'a', 'mctl.dev/tier': '1' }, annotations: { note: 'x' } },
      {
        by: 'ops',
        labels: { team: 'b' },
        conflict: 'Apply failed with 1 conflict: conflict with "mctl": .metadata.labels.team',
      },
      {
        by: 'ops',
        labels: { rack: '1' },
        then: { metadata: { labels: { team: 'a', 'mctl.dev/tier': '1', rack: '1' } } },
      },
      { by: 'mctl', spec: { model }, labels: {}, then: { metadata: { labels: { rack: '1' } } } },
    ],
  ],
  [
    'an update owns what it changes, so that a later apply conflicts',
    [
      { by: 'gitops', spec: { model, replicas: 2 } },
      {
        by: 'autoscaler',
        how: 'patch',
        spec: { replicas: 5 },
        owners: { 'gitops Apply': ['.spec.model.source'], 'autoscaler Update': ['.spec.replicas'] },
      },
      {
        by: 'gitops',
        spec: { model, replicas: 2 },
        conflict: 'Apply failed with 1 conflict: conflict with "autoscaler": .spec.replicas',
      },
      { by: 'gitops', spec: { model }, then: { spec: { replicas: 5 } } },
      {
        by: 'gitops',
        how: 'force',
        spec: { model, replicas: 2 },
        then: { spec: { replicas: 2 } },
        owners: { 'gitops Apply': ['.spec.model.source', '.spec.replicas'] },
      },
    ],
  ],
  [
    "one's own updates are part of one's next apply",
    [
      {
        by: 'mctl',
        how: 'create',
        spec: { model, replicas: 2 },
        owners: { 'mctl Update': ['.spec.model.source', '.spec.replicas'] },
      },
      {
        by: 'mctl',
        spec: { model, replicas: 3 },
        then: { spec: { replicas: 3 } },
        owners: { 'mctl Apply': ['.spec.model.source', '.spec.replicas'] },
      },
      { by: 'mctl', how: 'patch', spec: { replicas: 4 } },
      { by: 'mctl', spec: { model, replicas: 3 }, then: { spec: { replicas: 3 } } },
    ],
  ],
  [
    'an update that removes a field takes it from its owner',
    [
      { by: 'mctl', spec: { model, priority: 4 } },
      {
        by: 'ops',
        how: 'patch',
        spec: { priority: null },
        then: { spec: { priority: 0 } },
        owners: { 'mctl Apply': ['.spec.model.source'] },
      },
    ],
  ],
  [
    'a whole update that repeats what stands takes nothing from anybody',
    [
      { by: 'mctl', spec: { model, replicas: 2 } },
      { by: 'ops', how: 'update', spec: { model, replicas: 2 }, result: 'unchanged' },
    ],
  ],
  [
    'a field that is null is a field that was not set',
    [
      {
        by: 'mctl',
        spec: { model, replicas: 2, priority: null },
        owners: { 'mctl Apply': ['.spec.model.source', '.spec.replicas'] },
      },
      { by: 'mctl', spec: { model, replicas: null }, then: { spec: { replicas: 1 } } },
    ],
  ],
]

const leavesOf = (fields: object, above = ''): string[] =>
  Object.entries(fields).flatMap(([key, inside]: [string, object]) =>
    Object.keys(inside).length === 0 ? [`${above}.${key.slice(2)}`] : leavesOf(inside, `${above}.${key.slice(2)}`),
  )

const ownersOf = ({ metadata }: ModelDeployment) =>
  Object.fromEntries(
    (metadata.managedFields ?? []).map((m) => [`${m.manager} ${m.operation}`, leavesOf(m.fieldsV1).sort()]),
  )

function take(store: Store, { by, how = 'apply', spec = {}, labels, annotations }: Step) {
  const metadata = {
    ...(labels === undefined ? {} : { labels }),
    ...(annotations === undefined ? {} : { annotations }),
  }
  const manifest: Manifest = { ...aDeploymentManifest('chat', {}, metadata), spec }
  const fieldManager = by
  return store.transact((tx) => {
    if (how === 'create') return createObject(tx, manifest, { fieldManager })
    if (how === 'update') return updateObject(tx, manifest, { fieldManager })
    if (how === 'patch') return patchObject(tx, chat, 'merge', { metadata, spec }, { fieldManager })
    return applyObject(tx, manifest, { fieldManager, force: how === 'force' })
  })
}

describe('apply', () => {
  test.each(stories)('%s', async (_rule, steps) => {
    const { store, clock } = await aStore()
    for (const step of steps) {
      await clock.advance(1_000)
      const taken = await take(store, step).catch((error: unknown) => error as Error)
      if (step.conflict === undefined && taken instanceof Error) throw taken
      if (step.conflict !== undefined) expect((taken as Error).message).toBe(step.conflict)
      const now = store.snapshot().get('ModelDeployment', 'default', 'chat') as ModelDeployment
      if (step.then !== undefined) expect(now).toMatchObject(step.then)
      if (step.result !== undefined) expect(taken).toMatchObject({ result: step.result })
      if (step.owners !== undefined) expect(ownersOf(now)).toEqual(step.owners)
    }
  })

  test('a conflict carries its causes field by field', async () => {
    const { store } = await aStore()
    await take(store, { by: 'mctl', spec: { model, replicas: 2 } })
    const error: unknown = await take(store, { by: 'x', spec: { replicas: 3 } }).catch((e: unknown) => e)
    expect(isOpError(error, 'Conflict') && error.causes).toEqual([
      { field: '.spec.replicas', message: 'conflict with "mctl"' },
    ])
  })

  test('never owns or changes status', async () => {
    const { store } = await aStore()
    await take(store, { by: 'mctl', spec: { model } })
    await store.transact((tx) =>
      setStatus(tx, tx.get('ModelDeployment', 'default', 'chat') as ModelDeployment, { readyReplicas: 1 }),
    )
    const manifest = { ...aDeploymentManifest('chat'), spec: { model }, status: { readyReplicas: 7 } }
    const { object, result } = await store.transact((tx) => applyObject(tx, manifest, { fieldManager: 'mctl' }))
    expect([object.status, result]).toEqual([{ readyReplicas: 1 }, 'unchanged'])
    expect(JSON.stringify(object.metadata.managedFields)).not.toContain('f:status')
  })

  test('moves the time of a manager only when what it owns changes', async () => {
    const { store, clock } = await aStore()
    const times = async (step: Step) =>
      ((await take(store, step)).object.metadata.managedFields ?? []).map((m) => `${m.manager} ${m.time.slice(14, 19)}`)
    expect(await times({ by: 'a', spec: { model, replicas: 2 } })).toEqual(['a 00:00'])
    await clock.advance(60_000)
    expect(await times({ by: 'a', spec: { model, replicas: 3 } })).toEqual(['a 00:00'])
    await clock.advance(60_000)
    expect(await times({ by: 'b', spec: { priority: 1 } })).toEqual(['a 00:00', 'b 02:00'])
    await clock.advance(60_000)
    expect(await times({ by: 'a', spec: { model } })).toEqual(['b 02:00', 'a 03:00'])
  })

  test('what the same words mean is the same value', async () => {
    const { store } = await aStore()
    const node = (systemReserve: unknown): Manifest => ({
      apiVersion: 'mctl.dev/v1alpha1',
      kind: 'Node',
      metadata: { name: 'mini-1' },
      spec: { systemReserve },
    })
    const apply = (by: string, reserve: unknown) =>
      store.transact((tx) => applyObject(tx, node(reserve), { fieldManager: by }))
    await apply('a', 4_000_000_000)
    expect((await apply('a', '4000000000')).result).toBe('unchanged')
    expect((await apply('b', 4_000_000_000)).result).toBe('configured')
    await expect(apply('b', 5_000_000_000)).rejects.toThrow(/conflict with "a": .spec.systemReserve/)
  })

  test('unknown fields and wrong types are refused on an object that stands, too', async () => {
    const { store } = await aStore()
    await take(store, { by: 'mctl', spec: { model } })
    const apply = (change: object) =>
      store.transact((tx) => applyObject(tx, { ...aDeploymentManifest('chat'), ...change }, { fieldManager: 'mctl' }))
    for (const change of [
      { specs: {} },
      { spec: 5 },
      { spec: { model, replica: 1 } },
      { spec: JSON.parse('{"__proto__": {"replicas": 5}}') as object },
      { metadata: { name: 'chat', label: {} } },
      { metadata: { name: 'chat', labels: 5 } },
      { metadata: { name: 'chat', finalizers: 'x' } },
      { metadata: { name: 'chat', ownerReferences: [5] } },
    ])
      await expect(apply(change), JSON.stringify(change)).rejects.toMatchObject({ code: 'Invalid' })
  })

  test('adds owners and finalizers and takes none away', async () => {
    const { store } = await aStore()
    await take(store, { by: 'mctl', spec: { model } })
    const owner = { kind: 'Model', name: 'm', uid: 'uid-m' }
    const metadata = { name: 'chat', finalizers: ['test/hold'], ownerReferences: [owner] }
    const apply = (meta: Manifest['metadata']) =>
      store.transact((tx) =>
        applyObject(tx, { ...aDeploymentManifest('chat'), metadata: meta }, { fieldManager: 'mctl' }),
      )
    await apply(metadata)
    const { object } = await apply({ name: 'chat' })
    expect(object.metadata).toMatchObject({ finalizers: ['mctl.dev/children', 'test/hold'], ownerReferences: [owner] })
    expect((await apply(metadata)).result).toBe('unchanged')
  })

  test('to a uid or version that does not stand is a Conflict', async () => {
    const { store } = await aStore()
    await take(store, { by: 'mctl', spec: { model } })
    for (const wrong of [{ uid: 'other' }, { resourceVersion: '1000' }]) {
      const manifest = aDeploymentManifest('chat', {}, wrong)
      const write = store.transact((tx) => applyObject(tx, manifest, { fieldManager: 'mctl' }))
      await expect(write).rejects.toMatchObject({ code: 'Conflict' })
    }
  })
})
