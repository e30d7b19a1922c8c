/** Removal, drift, waves, dependencies, other Syncs and deaths of the server: what must never happen, and what then does. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { API_VERSION } from '../../../src/api/meta.ts'
import { deploymentYaml as md } from '../../support/gitrepo.ts'
import { GitopsWorld } from './world.ts'

let world: GitopsWorld
beforeEach(async () => {
  world = await GitopsWorld.start()
})
afterEach(() => world.stop())

const five = (folder = '') =>
  Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [`${folder}${name}.yaml`, md(name)]))
const approve = () => world.annotate({ 'mctl.dev/approve-prune': world.sync().status?.blocked?.approval ?? '' })

describe('what goes from the source', () => {
  test('is deleted, when it is little of what is followed', async () => {
    world.repo.put(five())
    await world.follow()
    world.repo.remove('e.yaml')
    world.repo.commit('Remove e')
    await world.now()
    expect(world.deployments()).toEqual(['a', 'b', 'c', 'd'])
    expect(world.inventory()).toEqual(['a', 'b', 'c', 'd'])
    expect(world.sync().status?.history?.[0]?.changes).toEqual([
      { action: 'Prune', kind: 'ModelDeployment', namespace: 'default', name: 'e' },
    ])
  })

  test('waits for a person when it is more than 30 %, and nothing else of the commit is applied', async () => {
    world.repo.put(five())
    await world.follow()
    world.repo.remove('d.yaml')
    world.repo.remove('e.yaml')
    const commit = world.repo.put({ 'a.yaml': md('a', { replicas: 3 }) })
    await world.now()
    expect(world.readiness()).toBe('False PruneBlocked')
    expect(world.condition('PruneBlocked')?.status).toBe('True')
    expect(world.condition('Ready')?.message).toContain('would delete 2 of 5 objects: more than 30 %')
    expect(world.condition('Ready')?.message).toContain('mctl sync approve studio')
    expect(world.sync().status?.blocked).toMatchObject({
      revision: commit,
      objects: ['ModelDeployment default/e', 'ModelDeployment default/d'],
    })
    expect(world.deployment('a')?.spec.replicas).toBe(1)
    await approve()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toEqual(['a', 'b', 'c'])
    expect(world.deployment('a')?.spec.replicas).toBe(3)
    expect(world.sync().status?.blocked).toBeUndefined()
  })

  test('waits for a person when nothing is left; an approval is good for that commit only', async () => {
    world.repo.put(five('fleet/'))
    await world.follow({}, 'studio', { path: 'fleet' })
    world.repo.remove('fleet')
    world.repo.commit('Remove all')
    await world.now()
    expect(world.readiness()).toBe('False PruneBlocked')
    expect(world.condition('Ready')?.message).toContain('the source has no "fleet" any more')
    const stale = world.sync().status?.blocked?.approval ?? ''
    world.repo.put({ 'other.txt': 'x' }, 'Another commit')
    await world.now()
    await world.annotate({ 'mctl.dev/approve-prune': stale })
    expect(world.deployments()).toHaveLength(5)
    await approve()
    expect(world.deployments()).toEqual([])
    expect(world.inventory()).toEqual([])
  })

  test('a renamed folder changes nothing, and says which folder is not there', async () => {
    world.repo.put(five('fleet/'))
    await world.follow({}, 'studio', { path: 'fleet' })
    world.repo.rename('fleet', 'floot')
    world.repo.commit('Rename')
    await world.now()
    expect(world.deployments()).toHaveLength(5)
    expect(world.condition('Ready')?.message).toContain('the source has no "fleet" any more')
    await world.patch('Sync', 'studio', { spec: { source: { git: { path: 'floot' } } } })
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toHaveLength(5)
  })

  test('a path that never was there is told, not taken for an empty one', async () => {
    world.repo.put({ 'a.yaml': md('a') })
    await world.follow({}, 'studio', { path: 'flet' })
    expect(world.readiness()).toBe('False PathNotFound')
  })

  test('stays where prune is off, or the object says so', async () => {
    const kept = md('d', {}, ', annotations: { mctl.dev/prune: disabled }')
    world.repo.put({ ...five(), 'd.yaml': kept })
    await world.follow()
    world.repo.remove('d.yaml')
    world.repo.commit('Remove d')
    await world.now()
    expect(world.deployments()).toHaveLength(5)
    expect(world.inventory()).toEqual(['a', 'b', 'c', 'e'])
    await world.patch('Sync', 'studio', { spec: { prune: false } })
    world.repo.remove('e.yaml')
    world.repo.commit('Remove e')
    await world.now()
    expect(world.deployments()).toHaveLength(5)
    expect(world.inventory()).toEqual(['a', 'b', 'c'])
  })

  test('is left alone when it is another object under the same name', async () => {
    world.repo.put(five())
    await world.follow({ suspend: false })
    await world.patch('Sync', 'studio', { spec: { suspend: true } })
    await world.delete('ModelDeployment', 'e')
    await world.release()
    const spec = { model: { name: 'tiny' } }
    await world.apply({ apiVersion: API_VERSION, kind: 'ModelDeployment', metadata: { name: 'e' }, spec })
    world.repo.remove('e.yaml')
    world.repo.commit('Remove e')
    await world.patch('Sync', 'studio', { spec: { suspend: false } })
    await world.now()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toContain('e')
  })

  test('of a Node only what the source had set goes', async () => {
    await world.create({ apiVersion: API_VERSION, kind: 'Node', metadata: { name: 'mini-1', labels: { rack: 'a' } } })
    const node =
      'apiVersion: mctl.dev/v1alpha1\nkind: Node\nmetadata: {name: mini-1, labels: {role: chat}}\nspec: {systemReserve: 6Gi}\n'
    world.repo.put({ ...five(), 'node.yaml': node })
    await world.follow()
    const live = () => world.store.snapshot().get('Node', '', 'mini-1')
    expect(live()?.spec.systemReserve).toBe('6Gi')
    world.repo.remove('node.yaml')
    world.repo.commit('Remove the node')
    await world.now()
    expect(live()?.spec.systemReserve).toBeUndefined()
    expect(live()?.metadata.labels).toEqual({ rack: 'a' })
  })
})

describe('drift', () => {
  beforeEach(async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }), 'b.yaml': md('b') })
    await world.follow()
  })

  test('an edit by hand is undone after 5 seconds, and told with the field and who it was', async () => {
    await world.patch('ModelDeployment', 'a', { spec: { replicas: 9 } }, 'somebody')
    expect(world.deployment('a')?.spec.replicas).toBe(9)
    await world.advance(5_000)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    expect(world.events()).toContain(
      'DriftCorrected: ModelDeployment default/a: .spec.replicas: 9 → 2 (set by somebody)',
    )
    expect(world.sync().status?.history?.[0]).toMatchObject({ result: 'Healed' })
  })

  test('an object that was deleted by hand comes back', async () => {
    await world.delete('ModelDeployment', 'b')
    await world.release()
    await world.advance(6_000)
    expect(world.deployments()).toEqual(['a', 'b'])
    expect(world.inventory()).toEqual(['a', 'b'])
    expect(world.sync().status?.inventory?.[1]?.uid).toBe(world.deployment('b')?.metadata.uid)
  })

  test('a field that the source leaves out belongs to others: scaled by another manager, it stays', async () => {
    await world.patch('ModelDeployment', 'b', { spec: { replicas: 4 } }, 'autoscaler')
    world.repo.put({ 'a.yaml': md('a', { replicas: 3 }) })
    await world.now()
    await world.advance(10_000)
    expect(world.deployment('b')?.spec.replicas).toBe(4)
    expect(world.deployment('a')?.spec.replicas).toBe(3)
    expect(world.readiness()).toBe('True Synced')
  })

  test('is undone while the newest commit is broken', async () => {
    world.repo.put({ 'c.yaml': 'kind: [' })
    await world.now()
    await world.patch('ModelDeployment', 'a', { spec: { replicas: 9 } })
    await world.advance(6_000)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    expect(world.readiness()).toBe('False InvalidManifests')
  })

  test('a fight ends: after five times within ten minutes it stops, and says who, until someone asks', async () => {
    for (let i = 0; i < 6; i++) {
      await world.patch('ModelDeployment', 'a', { spec: { replicas: 9 } }, 'rival')
      await world.advance(5_500 * 2 ** i > 90_000 ? 90_000 : 5_500 * 2 ** i)
    }
    expect(world.deployment('a')?.spec.replicas).toBe(9)
    expect(world.readiness()).toBe('False DriftLoop')
    expect(world.condition('Ready')?.message).toContain(
      'ModelDeployment default/a: .spec.replicas: 9 → 2 (set by rival)',
    )
    expect(world.condition('Stalled')?.status).toBe('True')
    await world.now()
    await world.advance(6_000)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    expect(world.readiness()).toBe('True Synced')
  })

  test('is left alone while the Sync is suspended, and so is every commit', async () => {
    await world.patch('Sync', 'studio', { spec: { suspend: true } })
    world.repo.put({ 'b.yaml': md('b', { replicas: 5 }) })
    await world.patch('ModelDeployment', 'a', { spec: { replicas: 9 } })
    await world.advance(70_000)
    expect(world.deployment('a')?.spec.replicas).toBe(9)
    expect(world.deployment('b')?.spec.replicas).toBe(1)
    await world.patch('Sync', 'studio', { spec: { suspend: false } })
    await world.advance(6_000)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    expect(world.deployment('b')?.spec.replicas).toBe(5)
  })
})

describe('objects of others', () => {
  const own = { apiVersion: API_VERSION, kind: 'ModelDeployment', metadata: { name: 'a' } }

  test('with the same values is followed from now on; with others it is refused, field by field', async () => {
    await world.apply({ ...own, spec: { model: { name: 'tiny' }, replicas: 7 } })
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }), 'b.yaml': md('b') })
    await world.follow()
    expect(world.readiness()).toBe('False FieldConflict')
    expect(world.condition('Ready')?.message).toContain(
      'a.yaml:1: Apply failed with 1 conflict: conflict with "mctl": .spec.replicas',
    )
    expect(world.deployments()).toEqual(['a'])
    world.repo.put({ 'a.yaml': md('a', { replicas: 7 }) })
    await world.now()
    expect(world.readiness()).toBe('True Synced')
  })

  test('is taken over where the manifest says so', async () => {
    await world.apply({ ...own, spec: { model: { name: 'tiny' }, replicas: 7 } })
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }, ', annotations: { mctl.dev/force: "true" }') })
    await world.follow()
    expect(world.deployment('a')?.spec.replicas).toBe(2)
  })

  test('one object that two Syncs want stays with the first; the second changes nothing, until the first lets go', async () => {
    world.repo.put({
      'one/a.yaml': md('a', { replicas: 1 }),
      'two/a.yaml': md('a', { replicas: 2 }),
      'two/b.yaml': md('b'),
    })
    await world.follow({}, 'first', { path: 'one' })
    await world.follow({}, 'second', { path: 'two' })
    expect(world.readiness('first')).toBe('True Synced')
    expect(world.readiness('second')).toBe('False ObjectClaimed')
    expect(world.condition('Ready', 'second')?.message).toContain(
      'two/a.yaml:1: metadata.name: Forbidden: Sync "first" follows this object already',
    )
    expect(world.deployments()).toEqual(['a'])
    await world.delete('Sync', 'first')
    await world.settle()
    expect(world.readiness('second')).toBe('True Synced')
    expect(world.deployment('a')?.spec.replicas).toBe(2)
  })
})

describe('order', () => {
  const wave = (n: number) => `, annotations: { mctl.dev/sync-wave: "${n}" }`

  test('a wave waits until the one before is healthy, and removal comes with the last', async () => {
    world.repo.put({ ...five(), 'a.yaml': md('a', {}, wave(-1)), 'b.yaml': md('b', {}, wave(2)) })
    await world.follow()
    expect(world.deployments()).toEqual(['a'])
    expect(world.readiness()).toBe('Unknown WaveProgressing')
    await world.ready('a')
    expect(world.deployments()).toEqual(['a', 'c', 'd', 'e'])
    for (const name of ['c', 'd', 'e']) await world.ready(name)
    expect(world.deployments()).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(world.readiness()).toBe('True Synced')
    expect(world.sync().status?.operation).toBeUndefined()
    expect(world.inventory()).toHaveLength(5)
  })

  test('a wave that does not become healthy is told after its time, and a new commit takes over', async () => {
    world.repo.put({ 'a.yaml': md('a', {}, wave(0)), 'b.yaml': md('b', {}, wave(1)) })
    await world.follow({ waveTimeoutSeconds: 20 })
    await world.advance(22_000)
    expect(world.readiness()).toBe('False WaveTimedOut')
    expect(world.condition('Ready')?.message).toContain('ModelDeployment default/a (Progressing)')
    world.repo.put({ 'b.yaml': md('b', {}, wave(0)) })
    await world.now()
    expect(world.deployments()).toEqual(['a', 'b'])
    expect(world.readiness()).toBe('True Synced')
  })

  test('a Sync may follow itself: it does not wait for its own health, and never removes itself', async () => {
    const source = `source: { git: { url: "${world.repo.url}" } }`
    const self = `apiVersion: mctl.dev/v1alpha1\nkind: Sync\nmetadata: { name: studio }\nspec: { ${source}, intervalSeconds: 7 }\n`
    world.repo.put({ ...five(), 'a.yaml': md('a', {}, wave(1)), 'sync.yaml': self })
    await world.follow({ intervalSeconds: 7 })
    for (const name of ['b', 'c', 'd', 'e']) await world.ready(name)
    expect(world.deployments()).toContain('a')
    expect(world.readiness()).toBe('True Synced')
    await world.ready('a')
    expect(world.sync().status?.health).toBe('Healthy')
    world.repo.put({ 'sync.yaml': self.replace('intervalSeconds: 7', 'intervalSeconds: 9') })
    await world.now()
    expect(world.sync().spec.intervalSeconds).toBe(9)
    world.repo.remove('sync.yaml')
    world.repo.commit('Follow by hand')
    await world.now()
    expect(world.sync().metadata.deletionTimestamp).toBeUndefined()
    expect(world.inventory()).not.toContain('studio')
    expect(world.readiness()).toBe('True Synced')
  })

  test('a wave that is no number is refused', async () => {
    world.repo.put({ 'a.yaml': md('a', {}, ', annotations: { mctl.dev/sync-wave: "soon" }') })
    await world.follow()
    expect(world.condition('Ready')?.message).toContain(
      'a.yaml:3: metadata.annotations[mctl.dev/sync-wave]: Invalid value: "soon"',
    )
  })

  test('a Sync waits for those it depends on: applied and healthy', async () => {
    world.repo.put({ 'base/a.yaml': md('a'), 'top/b.yaml': md('b') })
    await world.follow({ dependsOn: ['base'] }, 'top', { path: 'top' })
    expect(world.readiness('top')).toBe('Unknown DependencyNotReady')
    expect(world.condition('Ready', 'top')?.message).toBe('waits: Sync "base" does not exist')
    await world.follow({}, 'base', { path: 'base' })
    expect(world.condition('Ready', 'top')?.message).toBe('waits: Sync "base" is Progressing')
    await world.ready('a')
    expect(world.deployments()).toEqual(['a', 'b'])
    expect(world.readiness('top')).toBe('True Synced')
  })

  test('Syncs that wait for each other are told the whole way round', async () => {
    await world.follow({ dependsOn: ['b'] }, 'a')
    await world.follow({ dependsOn: ['c'] }, 'b')
    await world.follow({ dependsOn: ['a'] }, 'c')
    await world.settle()
    expect(world.condition('Ready', 'b')?.message).toContain('these Syncs wait for each other: b → c → a → b')
    expect(world.condition('Stalled', 'a')).toMatchObject({ status: 'True', reason: 'DependencyCycle' })
  })

  test('an object on its way out is waited for, and made anew', async () => {
    world.repo.put(five())
    await world.follow()
    await world.delete('ModelDeployment', 'e')
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) })
    await world.now()
    expect(world.readiness()).toBe('Unknown ObjectTerminating')
    await world.release()
    expect(world.deployments()).toHaveLength(5)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
  })
})

describe('the server dies', () => {
  test('between fetch and apply: the next one applies', async () => {
    world.repo.put({ 'a.yaml': md('a') })
    await world.follow({ suspend: true })
    // It has fetched, for the preview, and dies before it was let to apply anything.
    await world.annotate({ 'mctl.dev/preview-requested': 'p1' })
    expect(world.sync().status?.preview).toMatchObject({ request: 'p1', changes: [{ action: 'Create', name: 'a' }] })
    await world.stopServer()
    await world.patch('Sync', 'studio', { spec: { suspend: false } })
    world.startServer()
    await world.settle()
    expect(world.deployments()).toEqual(['a'])
  })

  test('after apply: the next one writes nothing, and still knows what it may remove', async () => {
    world.repo.put(five())
    await world.follow()
    const { revision } = world.store.stats()
    await world.stopServer()
    world.startServer()
    await world.advance(3_000)
    expect(world.store.stats().revision).toBe(revision)
    await world.stopServer()
    world.repo.remove('e.yaml')
    world.repo.commit('Remove e')
    world.startServer()
    await world.settle()
    expect(world.deployments()).toEqual(['a', 'b', 'c', 'd'])
  })

  test('between two waves: the next one goes on with the second', async () => {
    const wave = ', annotations: { mctl.dev/sync-wave: "1" }'
    world.repo.put({ 'a.yaml': md('a'), 'b.yaml': md('b', {}, wave) })
    await world.follow()
    await world.stopServer()
    await world.ready('a')
    world.startServer()
    await world.settle()
    expect(world.deployments()).toEqual(['a', 'b'])
  })
})

test('a bug in a pass is contained to its Sync: nothing is written, it is told, and the others go on', async () => {
  await world.stopServer()
  const broken = { where: 'x:1', wave: 0, force: false }
  const head = { revision: 'r', digest: 'd', causes: [], missingPaths: [], objects: [broken] }
  world.startServer(undefined, {
    read: ({ name }) => Promise.resolve({ head: { ...head, objects: name === 'studio' ? head.objects : [] } } as never),
    forget: () => {},
  })
  await world.follow()
  await world.follow({}, 'other')
  expect(world.readiness()).toBe('False ApplyFailed')
  expect(world.events().join()).toContain('ControllerBug')
  expect(world.readiness('other')).toBe('True Synced')
})

describe('a directory', () => {
  const dir = () => join(world.dir, 'manifests')
  const follow = () => world.follow({ source: { directory: dir() }, intervalSeconds: 5 })

  beforeEach(() => mkdirSync(dir()))

  test('is followed like a repository, by the digest of its files', async () => {
    writeFileSync(join(dir(), 'a.yaml'), md('a', { replicas: 1 }))
    await follow()
    expect(world.readiness()).toBe('True Synced')
    expect(world.sync().status?.lastAppliedRevision).toMatch(/^sha256:/)
    writeFileSync(join(dir(), 'a.yaml'), md('a', { replicas: 2 }))
    await world.advance(7_000)
    expect(world.deployment('a')?.spec.replicas).toBe(2)
  })

  test('a half-written file changes nothing', async () => {
    writeFileSync(join(dir(), 'a.yaml'), md('a', { replicas: 1 }))
    await follow()
    writeFileSync(join(dir(), 'a.yaml'), md('a', { replicas: 2 }).slice(0, 60))
    await world.advance(7_000)
    expect(world.readiness()).toBe('False InvalidManifests')
    expect(world.deployment('a')?.spec.replicas).toBe(1)
  })

  test('gone is a failure to read, never an empty source', async () => {
    writeFileSync(join(dir(), 'a.yaml'), md('a'))
    await follow()
    renameSync(dir(), `${dir()}-away`)
    await world.advance(8_000)
    expect(world.readiness()).toBe('False FetchFailed')
    expect(world.deployments()).toEqual(['a'])
  })
})
