import { describe, expect, test } from 'vitest'
import type { Manifest, MctlObject, ObjectKey } from '../../../src/api/meta.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { OpError } from '../../../src/lib/errors.ts'
import type { Written } from '../../../src/store/objects.ts'
import {
  createObject,
  deleteObject,
  patchObject,
  removeFinalizer,
  setSpec,
  setStatus,
  updateObject,
  updateStatus,
} from '../../../src/store/objects.ts'
import type { Store } from '../../../src/store/store.ts'
import { aGroup, aShard } from '../../support/cluster.ts'
import { aDeploymentManifest, aModelManifest, aStore } from '../../support/stores.ts'

const chat: ObjectKey = { kind: 'ModelDeployment', namespace: 'default', name: 'chat' }
const deploymentIn = (store: Store) => store.snapshot().get('ModelDeployment', 'default', 'chat')
const madeIn = (store: Store, spec: object = {}, metadata: object = {}) =>
  store.transact((tx) => createObject(tx, aDeploymentManifest('chat', spec, metadata)).object)
const aNodeManifest: Manifest & { kind: 'Node' } = {
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: { name: 'mini-1' },
  spec: {},
}
const causesOf = async (write: Promise<unknown>) => {
  const error: unknown = await write.catch((thrown: unknown) => thrown)
  return error instanceof OpError ? error.causes.map((cause) => `${cause.field}: ${cause.message}`) : [String(error)]
}

describe('creating', () => {
  test('stores the defaults and everything that the server makes', async () => {
    const { store } = await aStore()
    const made = await madeIn(store, {}, { labels: { team: 'a' } })
    expect(made.spec).toMatchObject({ servedName: 'chat', replicas: 1, serving: { maxOutputTokens: 4096 } })
    expect(made.metadata).toMatchObject({
      namespace: 'default',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      finalizers: ['mctl.dev/children'],
      labels: { team: 'a' },
    })
    expect(deploymentIn(store)).toBe(made)
  })

  test('does not listen to status, uid or resourceVersion', async () => {
    const { store } = await aStore()
    const metadata = { uid: 'mine', resourceVersion: '7', generation: 9, deletionTimestamp: '2020-01-01T00:00:00Z' }
    const manifest = { ...aDeploymentManifest('chat', {}, metadata), status: { readyReplicas: 5 } }
    const { object } = await store.transact((tx) => createObject(tx, manifest))
    expect(object.status).toBeUndefined()
    expect(object.metadata.uid).not.toBe('mine')
    expect(object.metadata).toMatchObject({ generation: 1 })
    expect(object.metadata.deletionTimestamp).toBeUndefined()
  })

  test('under a name that is taken is AlreadyExists', async () => {
    const { store } = await aStore()
    await madeIn(store)
    await expect(madeIn(store)).rejects.toThrow(
      new OpError('AlreadyExists', 'modeldeployments.mctl.dev "chat" already exists'),
    )
  })

  test('what is unsound is refused with every cause and writes nothing', async () => {
    const { store } = await aStore()
    const bad = aDeploymentManifest('Chat', { replicas: -1, replica: 2 }, { label: {} })
    const write = store.transact((tx) => createObject(tx, bad))
    await expect(write).rejects.toThrow(/^ModelDeployment.mctl.dev "Chat" is invalid: \[/)
    const fields = (await causesOf(write)).map((text) => text.split(': ')[0])
    expect(fields.sort()).toEqual(['metadata.label', 'metadata.name', 'spec.replica', 'spec.replicas'])
    expect(store.stats()).toMatchObject({ objects: 0, logRows: 0 })
  })

  test.each([
    ['no kind', { apiVersion: 'mctl.dev/v1alpha1', metadata: { name: 'x' } }],
    ['an unknown kind', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Pod', metadata: { name: 'x' } }],
    ['no metadata', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node' }],
    ['a list as metadata', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: [] }],
    ['a number as name', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 5 } }],
    ['text as labels', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'x', labels: 'y' } }],
    ['text as finalizers', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'x', finalizers: 'y' } }],
    ['text as spec', { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'x' }, spec: 'y' }],
    ['nothing at all', null],
  ])('%s is Invalid', async (_what, manifest) => {
    const { store } = await aStore()
    const write = store.transact((tx) => createObject(tx, manifest as unknown as Manifest))
    await expect(write).rejects.toMatchObject({ code: 'Invalid' })
  })

  test('leaves unknown fields out when asked to, and says which when asked to warn', async () => {
    const { store } = await aStore()
    const manifest = aDeploymentManifest('chat', { replica: 2, placement: { zone: 'a' } })
    const made = (fieldValidation: 'Warn' | 'Ignore') =>
      store.transact((tx) => tx.rehearse(() => createObject(tx, manifest, { fieldValidation })))
    const warned = await made('Warn')
    expect(warned.warnings).toHaveLength(2)
    expect(warned.object.spec).not.toHaveProperty('replica')
    expect(warned.object.spec.placement).not.toHaveProperty('zone')
    expect((await made('Ignore')).warnings).toEqual([])
  })
})

describe('updating', () => {
  const update = (store: Store, change: (old: ModelDeployment) => object, options: object = {}) =>
    store.transact((tx) => {
      const old = tx.get('ModelDeployment', 'default', 'chat') as ModelDeployment
      return updateObject(tx, { ...old, ...change(old) } as unknown as Manifest, options)
    })

  test('counts the generation when the spec changes, and only then', async () => {
    const { store } = await aStore()
    await madeIn(store)
    const labelled = await update(store, (old) => ({ metadata: { ...old.metadata, labels: { a: 'b' } } }))
    const scaled = await update(store, (old) => ({ spec: { ...old.spec, replicas: 3 } }))
    expect([labelled.object.metadata.generation, scaled.object.metadata.generation]).toEqual([1, 2])
  })

  test('never touches status', async () => {
    const { store } = await aStore()
    await madeIn(store)
    await store.transact((tx) => setStatus(tx, deploymentIn(store) as ModelDeployment, { readyReplicas: 1 }))
    const { object } = await update(store, (old) => ({
      spec: { ...old.spec, replicas: 3 },
      status: { readyReplicas: 9 },
    }))
    expect(object.status).toEqual({ readyReplicas: 1 })
  })

  test('what changes nothing returns the identical object and makes no revision', async () => {
    const { store } = await aStore()
    const made = await madeIn(store)
    const { revision } = store.snapshot()
    const again = await update(store, () => ({}), { fieldManager: 'someone' })
    expect(again).toMatchObject({ result: 'unchanged' })
    expect(again.object).toBe(made)
    expect(store.snapshot().revision).toBe(revision)
  })

  test('a version that is not the latest is a Conflict in the known words', async () => {
    const { store } = await aStore()
    await madeIn(store)
    const stale = update(store, (old) => ({ metadata: { ...old.metadata, resourceVersion: '1' } }))
    await update(store, (old) => ({ spec: { ...old.spec, replicas: 2 } }))
    const late = update(store, (old) => ({ metadata: { ...old.metadata, resourceVersion: '1' } }))
    await stale
    await expect(late).rejects.toThrow(
      new OpError(
        'Conflict',
        'Operation cannot be fulfilled on modeldeployments.mctl.dev "chat": the object has been modified; please apply your changes to the latest version and try again',
      ),
    )
  })

  test('another uid than the one that stands is a Conflict', async () => {
    const { store } = await aStore()
    await madeIn(store)
    const other = update(store, (old) => ({ metadata: { ...old.metadata, uid: 'other' } }))
    await expect(other).rejects.toThrow(/Precondition failed: UID in precondition: other, UID in object meta: /)
  })

  test('what is not there is NotFound', async () => {
    const { store } = await aStore()
    await expect(store.transact((tx) => updateObject(tx, aDeploymentManifest('chat')))).rejects.toThrow(
      new OpError('NotFound', 'modeldeployments.mctl.dev "chat" not found'),
    )
  })

  test('a shard in anything but its rendezvous is refused: other parts are built on it', async () => {
    const { store } = await aStore()
    const shard = await store.transact(
      (tx) => createObject(tx, aShard(aGroup(), 0) as unknown as Manifest).object as Shard,
    )
    const rendezvous = { startByMs: 5, hosts: [['127.0.0.1:1'], ['127.0.0.1:2']] }
    const moved = await store.transact((tx) => setSpec(tx, shard, { ...shard.spec, rendezvous }))
    expect(moved.spec.rendezvous).toEqual(rendezvous)
    const refused = store.transact((tx) => setSpec(tx, shard, { ...shard.spec, nodeName: 'mini-9' }))
    expect(await causesOf(refused)).toEqual(['spec.nodeName: Forbidden: field is immutable'])
  })
})

describe('patching', () => {
  const patch = (store: Store, type: 'merge' | 'json', body: unknown, options: object = {}) =>
    store.transact((tx) => patchObject(tx, chat, type, body, options)) as Promise<Written<ModelDeployment>>

  test('a merge patch replaces, adds and removes', async () => {
    const { store } = await aStore()
    await madeIn(store, { replicas: 3 }, { labels: { a: '1', b: '1' } })
    const body = { metadata: { labels: { a: null, c: '1' } }, spec: { replicas: null, priority: 5 } }
    const { object } = await patch(store, 'merge', body)
    expect(object.metadata.labels).toEqual({ b: '1', c: '1' })
    expect(object.spec).toMatchObject({ replicas: 1, priority: 5 })
  })

  test('a JSON patch changes what it names, or nothing at all', async () => {
    const { store } = await aStore()
    await madeIn(store, { replicas: 3 })
    const replace = { op: 'replace', path: '/spec/replicas', value: 2 }
    expect(
      (await patch(store, 'json', [{ op: 'test', path: '/spec/replicas', value: 3 }, replace])).object.spec.replicas,
    ).toBe(2)
    const failing = patch(store, 'json', [
      { ...replace, value: 7 },
      { op: 'test', path: '/spec/replicas', value: 3 },
    ])
    await expect(failing).rejects.toThrow(/JSON patch operation 1 cannot be done/)
    await expect(patch(store, 'json', { op: 'replace' })).rejects.toThrow(/must be a list of operations/)
    expect(deploymentIn(store)?.spec.replicas).toBe(2)
  })

  test('a default that follows another field follows it, unless somebody has set it', async () => {
    const { store } = await aStore()
    await madeIn(store, { serving: { contextTokens: 8192 } })
    const body = { spec: { serving: { contextTokens: 1024 } } }
    expect((await patch(store, 'merge', body, { fieldManager: 'mctl' })).object.spec.serving.maxOutputTokens).toBe(1024)
    await patch(store, 'merge', { spec: { serving: { maxOutputTokens: 512 } } }, { fieldManager: 'mctl' })
    const back = await patch(store, 'merge', { spec: { serving: { contextTokens: 8192 } } }, { fieldManager: 'mctl' })
    expect(back.object.spec.serving).toMatchObject({ contextTokens: 8192, maxOutputTokens: 512 })
  })

  test('neither status nor what the server makes', async () => {
    const { store } = await aStore()
    const made = await madeIn(store)
    const again = await patch(store, 'merge', { status: { readyReplicas: 3 }, metadata: { generation: 9 } })
    expect(again.object).toBe(made)
  })

  test('with preconditions that do not hold is a Conflict', async () => {
    const { store } = await aStore()
    await madeIn(store)
    for (const preconditions of [{ uid: 'x' }, { resourceVersion: '1' }])
      if (preconditions.uid !== undefined)
        await expect(patch(store, 'merge', {}, { preconditions })).rejects.toMatchObject({ code: 'Conflict' })
    await expect(patch(store, 'merge', { metadata: { resourceVersion: '999' } })).rejects.toMatchObject({
      code: 'Conflict',
    })
  })
})

describe('a dry run', () => {
  test('answers what would be and writes nothing', async () => {
    const { store } = await aStore()
    const dryRun = true
    const created = await store.transact((tx) => createObject(tx, aDeploymentManifest('chat'), { dryRun }))
    expect(created).toMatchObject({ result: 'created', object: { metadata: { resourceVersion: '' } } })
    expect(store.stats().objects).toBe(0)
    const made = await madeIn(store)
    const patched = await store.transact((tx) => patchObject(tx, chat, 'merge', { spec: { replicas: 4 } }, { dryRun }))
    expect(patched.object).toMatchObject({ spec: { replicas: 4 }, metadata: { generation: 2 } })
    expect(patched.object.metadata.resourceVersion).toBe(made.metadata.resourceVersion)
    const deleted = await store.transact((tx) => deleteObject(tx, chat, { dryRun }))
    expect(deleted.object.metadata.deletionTimestamp).toBeDefined()
    expect(deploymentIn(store)).toBe(made)
  })

  test('is admitted as the write itself would be', async () => {
    const { store } = await aStore({
      admit: () => {
        throw new OpError('Forbidden', 'over the limit')
      },
    })
    const write = store.transact((tx) => createObject(tx, aModelManifest('m'), { dryRun: true }))
    await expect(write).rejects.toThrow('over the limit')
  })
})

describe('deleting', () => {
  test('what nobody holds is gone at once', async () => {
    const { store } = await aStore()
    await store.transact((tx) => createObject(tx, aModelManifest('m')))
    const key = { kind: 'Model', namespace: '', name: 'm' }
    expect((await store.transact((tx) => deleteObject(tx, key))).gone).toBe(true)
    await expect(store.transact((tx) => deleteObject(tx, key))).rejects.toThrow(/models.mctl.dev "m" not found/)
  })

  test('what a finalizer holds stays, marked, until the last one lets go', async () => {
    const { store } = await aStore()
    await madeIn(store, {}, { finalizers: ['test/hold'] })
    const first = await store.transact((tx) => deleteObject(tx, chat))
    expect(first.gone).toBe(false)
    const marked = deploymentIn(store) as ModelDeployment
    expect(marked.metadata.deletionTimestamp).toBe('2026-01-01T00:00:00Z')
    const second = await store.transact((tx) => deleteObject(tx, chat))
    expect(second.object).toBe(marked)
    const held = await store.transact((tx) => removeFinalizer(tx, marked, 'mctl.dev/children'))
    expect(held?.metadata.finalizers).toEqual(['test/hold'])
    expect(await store.transact((tx) => removeFinalizer(tx, marked, 'test/hold'))).toBeUndefined()
    expect(deploymentIn(store)).toBeUndefined()
    expect(await store.transact((tx) => removeFinalizer(tx, marked, 'test/hold'))).toBeUndefined()
  })

  test('a patch that takes the last finalizer lets go too', async () => {
    const { store } = await aStore()
    await madeIn(store)
    await store.transact((tx) => deleteObject(tx, chat))
    await store.transact((tx) => patchObject(tx, chat, 'merge', { metadata: { finalizers: null } }))
    expect(deploymentIn(store)).toBeUndefined()
  })

  test.each([
    ['Background', ['mctl.dev/children']],
    ['Foreground', ['mctl.dev/children', 'foregroundDeletion']],
    ['Orphan', ['mctl.dev/children', 'orphan']],
  ] as const)('%s is recorded for the garbage collection', async (propagation, finalizers) => {
    const { store } = await aStore()
    await madeIn(store)
    const { object } = await store.transact((tx) => deleteObject(tx, chat, { propagation }))
    expect(object.metadata.finalizers).toEqual(finalizers)
  })

  test('another object of the same name than was meant is a Conflict', async () => {
    const { store } = await aStore()
    await madeIn(store)
    const preconditions = { uid: 'other' }
    await expect(store.transact((tx) => deleteObject(tx, chat, { preconditions }))).rejects.toMatchObject({
      code: 'Conflict',
    })
  })

  test('a Ready node is refused; one that is not releases its shards in the same transaction', async () => {
    const { store } = await aStore()
    const node = await store.transact((tx) => createObject(tx, aNodeManifest).object)
    const shard = { ...aShard(aGroup(), 0), status: undefined }
    await store.transact((tx) =>
      createObject(tx, { ...shard, spec: { ...shard.spec, nodeName: 'mini-1' } } as unknown as Manifest),
    )
    const condition = (status: 'True' | 'False') => ({
      type: 'Ready',
      status,
      reason: 'Test',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    })
    const become = (status: 'True' | 'False') =>
      store.transact((tx) => setStatus(tx, node, { conditions: [condition(status)] }))
    const key = { kind: 'Node', namespace: '', name: 'mini-1' }
    await become('True')
    await expect(store.transact((tx) => deleteObject(tx, key))).rejects.toMatchObject({ code: 'Forbidden' })
    await become('False')
    const commits: string[] = []
    store.onCommit((changes) =>
      commits.push(
        changes
          .filter((c) => c.type === 'DELETED')
          .map((c) => c.object.kind)
          .join(),
      ),
    )
    expect((await store.transact((tx) => deleteObject(tx, key))).gone).toBe(true)
    expect(commits).toEqual(['Shard,Node'])
  })
})

describe('a status', () => {
  test('of a node is written by its agent on the fields that are its own', async () => {
    const { store } = await aStore()
    const node = await store.transact((tx) => createObject(tx, aNodeManifest).object)
    const write = (patch: object) =>
      store.transact((tx) => updateStatus(tx, node.metadata.uid, patch as Record<string, unknown>))
    const first = await write({ nodeInfo: { chip: 'Apple M4' } })
    expect(first).toMatchObject({ result: 'configured', object: { status: { nodeInfo: { chip: 'Apple M4' } } } })
    expect(first.object.spec).toBe(node.spec)
    expect(first.object.metadata.generation).toBe(1)
    expect((await write({ nodeInfo: { chip: 'Apple M4' } })).object).toBe(first.object)
    await expect(write({ allocatable: { memory: '1Ti' } })).rejects.toMatchObject({ code: 'Forbidden' })
    await expect(write({ nodeInfo: { chip: 4 } })).rejects.toMatchObject({ code: 'Invalid' })
  })

  test('of an unknown uid is NotFound: the agent stops that shard', async () => {
    const { store } = await aStore()
    await expect(store.transact((tx) => updateStatus(tx, 'gone', {}))).rejects.toMatchObject({ code: 'NotFound' })
  })

  test('of other kinds is nothing that an agent writes', async () => {
    const { store } = await aStore()
    const { metadata } = await madeIn(store)
    await expect(store.transact((tx) => updateStatus(tx, metadata.uid, {}))).rejects.toMatchObject({
      code: 'Forbidden',
    })
  })

  test('set by a controller leaves a spec that has changed meanwhile', async () => {
    const { store } = await aStore()
    const old = await madeIn(store)
    await store.transact((tx) => setSpec(tx, old, { ...old.spec, replicas: 5 }))
    const now = await store.transact((tx) => setStatus(tx, old, { readyReplicas: 1 }))
    expect(now).toMatchObject({ spec: { replicas: 5 }, status: { readyReplicas: 1 }, metadata: { generation: 2 } })
  })

  test('and a spec set by a controller keep who owns what', async () => {
    const { store } = await aStore()
    const made = (await store.transact((tx) => createObject(tx, aDeploymentManifest('chat'), { fieldManager: 'mctl' })))
      .object
    const set = await store.transact((tx) => setSpec(tx, made, { ...made.spec, replicas: 5 }))
    expect(set.metadata.managedFields).toEqual(made.metadata.managedFields)
    const bad = store.transact((tx) => setSpec(tx, made, { ...made.spec, replicas: -1 }))
    await expect(bad).rejects.toMatchObject({ code: 'Invalid' })
  })
})

test("types: the object is of the manifest's kind", async () => {
  const { store } = await aStore()
  const node: Node = await store.transact((tx) => createObject(tx, aNodeManifest).object)
  const any: MctlObject = node
  expect(any.kind).toBe('Node')
})
