import { describe, expect, test } from 'vitest'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import { aDeployment, aNode, aServer, aShard, codeOf } from './fixture.ts'

const tiny = { kind: 'ModelDeployment', namespace: 'default', name: 'tiny' } as const

describe('writing over the wire', () => {
  test('an object is created, applied, updated, patched and deleted, and each reply is the object as stored', async () => {
    const { store, person } = await aServer()
    const client = person()
    const created = await client.create({ object: aDeployment('tiny') })
    expect(created.result).toBe('created')
    expect(created.object).toEqual(store.snapshot().get('ModelDeployment', 'default', 'tiny'))
    const applied = await client.apply({ object: aDeployment('tiny', { replicas: 2 }), force: true })
    expect(applied.result).toBe('configured')
    expect((applied.object as ModelDeployment).spec.replicas).toBe(2)
    expect((await client.apply({ object: aDeployment('tiny', { replicas: 2 }) })).result).toBe('unchanged')
    const updated = await client.update({ object: aDeployment('tiny', { labels: { team: 'a' } }) })
    expect(updated.object.metadata.labels).toEqual({ team: 'a' })
    const patched = await client.patch({ ref: tiny, type: 'merge', patch: { spec: { replicas: 3 } } })
    expect((patched.object as ModelDeployment).spec.replicas).toBe(3)
    const deleted = await client.delete({ ref: tiny })
    expect(deleted).toMatchObject({ gone: false, object: { metadata: { deletionTimestamp: expect.any(String) } } })
  })

  test('apply conflicts name the other manager, and force takes over', async () => {
    const { person } = await aServer()
    const client = person()
    const by = (fieldManager: string) => ({ options: { fieldManager } })
    await client.apply({ object: aDeployment('tiny', { replicas: 1 }), ...by('mctl-gitops') })
    const conflict = client.apply({ object: aDeployment('tiny', { replicas: 2 }), ...by('mctl') })
    await expect(conflict).rejects.toMatchObject({
      code: 'Conflict',
      message: expect.stringContaining('conflict with "mctl-gitops": .spec.replicas'),
    })
    const forced = await client.apply({ object: aDeployment('tiny', { replicas: 2 }), force: true, ...by('mctl') })
    expect((forced.object as ModelDeployment).spec.replicas).toBe(2)
  })

  test('an invalid object is refused with all its causes', async () => {
    const { person, store } = await aServer()
    const object = { ...aDeployment('tiny', { replicas: -1 }), colour: 'blue' }
    await expect(person().apply({ object })).rejects.toMatchObject({
      code: 'Invalid',
      causes: expect.arrayContaining([
        expect.objectContaining({ field: 'spec.replicas' }),
        expect.objectContaining({ field: 'colour' }),
      ]),
    })
    expect(store.snapshot().list('ModelDeployment')).toEqual([])
  })

  test('with fieldValidation Warn an unknown field is left out and told', async () => {
    const { person } = await aServer()
    const object = { ...aDeployment('tiny'), colour: 'blue' }
    const reply = await person().apply({ object, options: { fieldValidation: 'Warn' } })
    expect(reply.warnings?.join()).toContain('colour')
    expect(reply.object).not.toHaveProperty('colour')
  })

  test('a dry run of each verb answers and changes nothing', async () => {
    const { person, store } = await aServer()
    const client = person()
    await client.create({ object: aDeployment('tiny') })
    const { revision } = store.snapshot()
    const options = { dryRun: true }
    expect((await client.create({ object: aDeployment('other'), options })).result).toBe('created')
    expect((await client.apply({ object: aDeployment('tiny', { replicas: 5 }), force: true, options })).result).toBe(
      'configured',
    )
    expect((await client.patch({ ref: tiny, type: 'merge', patch: { spec: { replicas: 4 } }, options })).result).toBe(
      'configured',
    )
    await client.delete({ ref: tiny, dryRun: true })
    expect(store.snapshot().revision).toBe(revision)
  })

  test('preconditions hold', async () => {
    const { person } = await aServer()
    const client = person()
    await client.create({ object: aDeployment('tiny') })
    expect(await codeOf(client.delete({ ref: tiny, preconditions: { uid: 'another' } }))).toBe('Conflict')
    const patch = { ref: tiny, type: 'merge', patch: {}, preconditions: { resourceVersion: '999' } } as const
    expect(await codeOf(client.patch(patch))).toBe('Conflict')
    expect(await codeOf(client.create({ object: aDeployment('tiny') }))).toBe('AlreadyExists')
    expect(await codeOf(client.delete({ ref: { ...tiny, name: 'none' } }))).toBe('NotFound')
  })

  test('a field manager that could break a log line is refused', async () => {
    const { person } = await aServer()
    const options = { fieldManager: 'a\nb' }
    expect(await codeOf(person().create({ object: aDeployment('tiny'), options }))).toBe('Invalid')
  })

  test('each write leaves an audit line, refused ones too', async () => {
    const { person, lines } = await aServer()
    const client = person('grace')
    const { object } = await client.create({ object: aDeployment('tiny') })
    await codeOf(client.create({ object: aDeployment('tiny') }))
    await client.delete({ ref: tiny, dryRun: true })
    const at = { user: 'grace', kind: 'ModelDeployment', name: 'tiny' }
    const revision = object.metadata.resourceVersion
    expect(lines.filter((l) => l.message === 'audit').map((l) => l.facts)).toEqual([
      { ...at, verb: 'create', namespace: 'default', revision, decision: 'allowed' },
      { ...at, verb: 'create', decision: 'refused', reason: 'AlreadyExists' },
      { ...at, verb: 'delete', namespace: 'default', revision, dryRun: true, decision: 'allowed' },
    ])
  })
})

describe('status, by uid', () => {
  test('an agent writes the status of its own node and shards, and of nothing else', async () => {
    const { person, agent } = await aServer()
    const uidOf = async (object: Parameters<ReturnType<typeof person>['create']>[0]['object']) =>
      (await person().create({ object })).object.metadata.uid
    const [node, other] = [await uidOf(aNode('mini-1')), await uidOf(aNode('mini-2'))]
    const [shard, foreign] = [await uidOf(aShard('mini-1')), await uidOf(aShard('mini-2', 'tiny-1'))]
    const deployment = await uidOf(aDeployment('tiny'))
    const mini1 = agent('mini-1')
    const nodePatch = { capacity: { memory: '16Gi' } }
    expect(await codeOf(mini1.updateStatus({ uid: node, patch: nodePatch }))).toBe('ok')
    expect(await codeOf(mini1.updateStatus({ uid: shard, patch: { phase: 'Prepared' } }))).toBe('ok')
    expect(await codeOf(mini1.updateStatus({ uid: other, patch: nodePatch }))).toBe('Forbidden')
    expect(await codeOf(mini1.updateStatus({ uid: foreign, patch: { phase: 'Ready' } }))).toBe('Forbidden')
    expect(await codeOf(mini1.updateStatus({ uid: deployment, patch: {} }))).toBe('Forbidden')
    expect(await codeOf(mini1.updateStatus({ uid: node, patch: { allocatable: { memory: '1Ti' } } }))).toBe('Forbidden')
    expect(await codeOf(mini1.updateStatus({ uid: 'no-such-uid', patch: {} }))).toBe('NotFound')
  })

  test('a report that says nothing new makes no revision', async () => {
    const { person, agent, store } = await aServer()
    const { object } = await person().create({ object: aShard('mini-1') })
    const report = { uid: object.metadata.uid, patch: { phase: 'Fetching' } }
    await agent('mini-1').updateStatus(report)
    const { revision } = store.snapshot()
    expect((await agent('mini-1').updateStatus(report)).result).toBe('unchanged')
    expect(store.snapshot().revision).toBe(revision)
  })

  test('an agent may not do what only people do', async () => {
    const { agent } = await aServer()
    const mini1 = agent('mini-1')
    const object = aDeployment('tiny')
    const calls = [
      mini1.create({ object }),
      mini1.update({ object }),
      mini1.apply({ object }),
      mini1.patch({ ref: tiny, type: 'merge', patch: {} }),
      mini1.delete({ ref: tiny }),
      mini1.plan({ objects: [] }),
    ]
    expect(await Promise.all(calls.map(codeOf))).toEqual(calls.map(() => 'Forbidden'))
  })
})

describe('plan and version', () => {
  test('plan hands the manifests and the live state to the planner; version tells who answers', async () => {
    const { person, store } = await aServer()
    const { report } = await person().plan({ objects: [aDeployment('a'), aDeployment('b')] })
    expect(report).toEqual({ planned: 2, atRevision: store.snapshot().revision })
    expect(await person().version({})).toEqual({
      serverVersion: '1.2.3',
      apiVersion: 'mctl.dev/v1alpha1',
      clusterUid: store.clusterUid,
      incarnation: store.incarnation,
      gatewayUrl: 'http://127.0.0.1:6481',
    })
  })
})
