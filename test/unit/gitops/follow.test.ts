/** A cluster that follows a repository, commit by commit: real git, the real loop and store, played time. */
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
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

const manager = (name: string) => (world.deployment(name)?.metadata.managedFields ?? []).map((entry) => entry.manager)

describe('following a branch', () => {
  test('a commit becomes objects, with the inventory in the same transaction', async () => {
    const commit = world.repo.put({ 'a.yaml': md('a'), 'deep/er/b.yml': md('b', { replicas: 2 }) }, 'Add a and b')
    await world.follow()
    expect(world.deployments()).toEqual(['a', 'b'])
    expect(manager('a')).toEqual(['mctl-gitops'])
    expect(world.readiness()).toBe('True Synced')
    const { status } = world.sync()
    expect(status).toMatchObject({ lastAppliedRevision: commit, lastAttemptedRevision: commit, objects: 2 })
    expect(world.inventory()).toEqual(['a', 'b'])
    expect(status?.inventory?.map(({ uid }) => uid)).toEqual([
      world.deployment('a')?.metadata.uid,
      world.deployment('b')?.metadata.uid,
    ])
    expect(status?.history).toMatchObject([
      { revision: commit, result: 'Applied', author: 'Ada <ada@example.org>', subject: 'Add a and b' },
    ])
    expect(world.events()[0]).toBe(
      `Applied: commit ${commit.slice(0, 8)} "Add a and b" by Ada <ada@example.org>: 2 created`,
    )
  })

  test('a new commit is found by the interval alone, and changes what it says', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow({ intervalSeconds: 30 })
    world.repo.put({ 'a.yaml': md('a', { replicas: 3 }) })
    await world.advance(34_000)
    expect(world.deployment('a')?.spec.replicas).toBe(3)
  })

  test('a hint makes it look at once, and a hint about nothing writes nothing', async () => {
    world.repo.put({ 'a.yaml': md('a') })
    await world.follow()
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) })
    world.hint()
    await world.settle()
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    const { revision } = world.store.stats()
    world.hint()
    await world.advance(5_000)
    expect(world.store.stats().revision).toBe(revision)
  })

  test('nothing is written while nothing changes, however often it looks', async () => {
    world.repo.put({ 'a.yaml': md('a') })
    await world.follow({ intervalSeconds: 2 })
    const { revision } = world.store.stats()
    await world.advance(15_000)
    expect(world.store.stats().revision).toBe(revision)
    expect(world.calls.filter(({ args }) => args.includes('fetch')).length).toBeGreaterThanOrEqual(5)
  })

  test('a revert brings back what was before', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    world.repo.put({ 'a.yaml': md('a', { replicas: 4 }) })
    await world.now()
    world.repo.git('revert', '--no-edit', 'HEAD')
    await world.now()
    expect(world.deployment('a')?.spec.replicas).toBe(1)
    expect(world.sync().status?.history).toHaveLength(3)
  })

  test('a field that goes from the manifest goes back to its default', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 4 }) })
    await world.follow()
    world.repo.put({ 'a.yaml': md('a') })
    await world.now()
    expect(world.deployment('a')?.spec.replicas).toBe(1)
  })

  test('200 commits in a row end in the last one’s state', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow({ intervalSeconds: 1 })
    for (let i = 1; i <= 200; i++) {
      world.repo.put({ 'a.yaml': md('a', { priority: i }) })
      // Some are seen, some are skipped, some arrive while another is read.
      if (i % 20 === 0) world.hint()
      if (i % 10 === 0) await world.clock.advance(700)
    }
    await world.advance(3_000)
    expect(world.deployment('a')?.spec.priority).toBe(200)
    expect(world.sync().status?.lastAppliedRevision).toBe(world.repo.head)
    expect(world.sync().status?.history?.length).toBeLessThanOrEqual(20)
    expect(world.readiness()).toBe('True Synced')
  })

  test('a tag is followed where a tag is named', async () => {
    const first = world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    world.repo.git('tag', '-a', 'v1', '-m', 'first')
    world.repo.put({ 'a.yaml': md('a', { replicas: 9 }) })
    await world.follow({}, 'studio', { tag: 'v1' })
    expect(world.sync().status?.lastAppliedRevision).toBe(first)
    expect(world.deployment('a')?.spec.replicas).toBe(1)
  })

  test('only the folders that it names are followed, and one file may not be read twice', async () => {
    world.repo.put({ 'base/a.yaml': md('a'), 'clusters/one/b.yaml': md('b'), 'clusters/two/c.yaml': md('c') })
    await world.follow({}, 'studio', { path: 'clusters/one', extraPaths: ['base'] })
    expect(world.deployments()).toEqual(['a', 'b'])
  })

  test('what others need in a repository is not for it: README, .github', async () => {
    world.repo.put({ 'README.md': '# x', '.github/workflows/ci.yaml': 'on: push', 'a.yaml': md('a') })
    await world.follow()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toEqual(['a'])
  })
})

describe('nothing but a sound commit is applied', () => {
  test('one bad file changes nothing, and every error is told with commit, file, line and path', async () => {
    const good = world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    const bad = world.repo.put(
      {
        'a.yaml': md('a', { replicas: 2 }),
        'b.yaml': md('b', { replicas: -1, priorty: 3 }),
        'c.yaml': 'apiVersion: mctl.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: c\n',
      },
      'Break it',
    )
    await world.now()
    expect(world.deployments()).toEqual(['a'])
    expect(world.deployment('a')?.spec.replicas).toBe(1)
    expect(world.readiness()).toBe('False InvalidManifests')
    expect(world.condition('Stalled')?.status).toBe('True')
    const told = world.condition('Ready')?.message ?? ''
    for (const part of [
      bad.slice(0, 8),
      `${good.slice(0, 8)} is followed meanwhile`,
      'b.yaml:4: spec.replicas: Invalid value: -1',
      'b.yaml:4: unknown field "spec.priorty", did you mean "spec.priority"?',
      'c.yaml:',
    ])
      expect(told).toContain(part)
    expect(world.events().find((text) => text.startsWith('InvalidManifests'))).toContain('b.yaml:4: spec.replicas')
    expect(world.sync().status?.causes?.length).toBeGreaterThanOrEqual(3)
    expect(world.sync().status).toMatchObject({ lastAttemptedRevision: bad, lastAppliedRevision: good })

    // It says it once, however often it looks, and mends itself with the next commit.
    const { revision } = world.store.stats()
    world.hint()
    await world.settle()
    expect(world.store.stats().revision).toBe(revision)
    world.repo.remove('c.yaml')
    world.repo.put({ 'b.yaml': md('b') })
    await world.now()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toEqual(['a', 'b'])
    expect(world.sync().status?.causes).toBeUndefined()
  })

  test('what is not committed is not there: half-written files, an index, another branch', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    world.repo.write('a.yaml', 'apiVersion: mctl.d')
    world.repo.write('b.yaml', md('b'))
    world.repo.git('add', 'b.yaml')
    await world.now()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployments()).toEqual(['a'])
  })

  test('a commit whose objects are not all there is not applied, and the last good one stays', async () => {
    const good = world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    world.repo.put({ 'a.yaml': md('a', { replicas: 5 }) })
    const blob = world.repo.git('rev-parse', 'HEAD:a.yaml')
    const file = join(world.repo.dir, '.git/objects', blob.slice(0, 2), blob.slice(2))
    renameSync(file, `${file}.away`)
    await world.now()
    expect(world.readiness()).toBe('False FetchFailed')
    expect(world.deployment('a')?.spec.replicas).toBe(1)
    expect(world.sync().status?.lastAppliedRevision).toBe(good)
    renameSync(`${file}.away`, file)
    await world.now()
    expect(world.deployment('a')?.spec.replicas).toBe(5)
  })

  test.each([
    ['a link to a file out of the repository', '/etc/hosts'],
    ['a link to a folder out of it', '..'],
    ['a link inside it', 'a.yaml'],
  ])('%s is refused', async (_, target) => {
    world.repo.put({ 'a.yaml': md('a') })
    symlinkSync(target, join(world.repo.dir, 'link.yaml'))
    world.repo.commit('Link')
    await world.follow()
    expect(world.readiness()).toBe('False InvalidManifests')
    expect(world.condition('Ready')?.message).toContain('link.yaml:1: symbolic links are refused')
    expect(world.deployments()).toEqual([])
  })

  test('a folder that is a link in the commit is refused as the path', async () => {
    world.repo.put({ 'real/a.yaml': md('a') })
    symlinkSync('real', join(world.repo.dir, 'linked'))
    world.repo.commit('Link')
    await world.follow({}, 'studio', { path: 'linked' })
    expect(world.condition('Ready')?.message).toContain('linked:1: symbolic links are refused')
  })

  test('a submodule is refused', async () => {
    world.repo.put({ 'a.yaml': md('a') })
    world.repo.git('update-index', '--add', '--cacheinfo', `160000,${world.repo.head},sub`)
    world.repo.git('commit', '-m', 'Add a submodule')
    await world.follow()
    expect(world.condition('Ready')?.message).toContain('sub:1: submodules are refused')
  })

  test('a huge file is refused before it is read, and other large files are nobody’s business', async () => {
    world.repo.put({ 'a.yaml': md('a'), 'weights.bin': 'x'.repeat(3_000_000) })
    await world.follow()
    expect(world.readiness()).toBe('True Synced')
    world.repo.put({ 'huge.yaml': `# ${'x'.repeat(2_000_000)}` })
    await world.now()
    expect(world.condition('Ready')?.message).toContain('huge.yaml:1: the file is too large: 2000002 bytes')
    expect(world.deployments()).toEqual(['a'])
  })

  test('an object in two files is refused, with both places', async () => {
    world.repo.put({ 'a.yaml': md('a'), 'z/again.yaml': `# a comment\n${md('a', { replicas: 2 })}` })
    await world.follow()
    expect(world.condition('Ready')?.message).toMatch(
      /z\/again.yaml:4: metadata.name: Duplicate value: ModelDeployment default\/a stands in a.yaml:1, too/,
    )
    expect(world.deployments()).toEqual([])
  })

  test('what the system writes may not come from a source', async () => {
    const shard = 'apiVersion: mctl.dev/v1alpha1\nkind: Shard\nmetadata: {name: x}\nspec: {}\n'
    world.repo.put({ 's.yaml': shard })
    await world.follow()
    expect(world.condition('Ready')?.message).toContain('s.yaml:2: kind: Forbidden: a Shard is written by the system')
  })

  test.each(['User', 'ApiKey', 'JoinToken'])('what gives access may not come from a source: %s', async (kind) => {
    world.repo.put({ 's.yaml': `apiVersion: mctl.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: x}\nspec: {}\n` })
    await world.follow()
    expect(world.condition('Ready')?.message).toContain(`s.yaml:2: kind: Forbidden: a ${kind} gives access`)
  })

  test('an export is taken for what a person wants: uid, resourceVersion and status are left out', async () => {
    const exported = [
      'apiVersion: mctl.dev/v1alpha1',
      'kind: ModelDeployment',
      'metadata: {name: a, uid: "7", resourceVersion: "99", generation: 3, creationTimestamp: 2026-01-01T00:00:00Z}',
      'spec: {model: {name: tiny}}',
      'status: {readyReplicas: 3}',
    ]
    world.repo.put({ 'a.yaml': exported.join('\n') })
    await world.follow()
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployment('a')?.metadata.uid).not.toBe('7')
  })
})

describe('a source that misbehaves', () => {
  test('gone and back: what was applied stays and is kept so', async () => {
    const good = world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow({ intervalSeconds: 10 })
    const away = `${world.repo.dir}-away`
    renameSync(world.repo.dir, away)
    await world.advance(12_000)
    expect(world.readiness()).toBe('False FetchFailed')
    expect(world.condition('Ready')?.message).toContain(`${good.slice(0, 8)} is followed meanwhile`)
    // Also by a server that starts while it is away.
    await world.stopServer()
    world.startServer()
    await world.patch('ModelDeployment', 'a', { spec: { replicas: 7 } })
    await world.advance(7_000)
    expect(world.deployment('a')?.spec.replicas).toBe(1)
    renameSync(away, world.repo.dir)
    await world.advance(40_000)
    expect(world.readiness()).toBe('True Synced')
  })

  test('a rewritten branch is refused, and followed where that is allowed', async () => {
    const first = world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) })
    await world.follow()
    world.repo.git('reset', '--hard', first)
    const other = world.repo.put({ 'a.yaml': md('a', { replicas: 3 }) })
    await world.now()
    expect(world.readiness()).toBe('False ForcePushRefused')
    expect(world.condition('Ready')?.message).toContain('allowForcePush: true')
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    await world.patch('Sync', 'studio', { spec: { source: { git: { allowForcePush: true } } } })
    expect(world.deployment('a')?.spec.replicas).toBe(3)
    expect(world.sync().status?.lastAppliedRevision).toBe(other)
  })

  test('another branch is another line, and no rewritten one', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    world.repo.git('checkout', '--quiet', '--orphan', 'other')
    world.repo.put({ 'a.yaml': md('a', { replicas: 5 }) })
    await world.patch('Sync', 'studio', { spec: { source: { git: { branch: 'other' } } } })
    expect(world.readiness()).toBe('True Synced')
    expect(world.deployment('a')?.spec.replicas).toBe(5)
  })

  test('a branch that is not there is told by name', async () => {
    await world.follow({}, 'studio', { branch: 'nope' })
    expect(world.condition('Ready')?.message).toBe(`${world.repo.url} has no branch "nope"`)
  })

  test('a hook or a setting of the machine has no say', async () => {
    const home = join(world.dir, 'data/gitops/home')
    mkdirSync(home, { recursive: true })
    writeFileSync(
      join(home, '.gitconfig'),
      '[core]\n\thooksPath = /tmp/evil\n[url "file:///nowhere"]\n\tinsteadOf = file://\n',
    )
    world.repo.put({ 'a.yaml': md('a') })
    await world.follow()
    expect(world.readiness()).toBe('True Synced')
    const mirrors = readdirSync(join(world.dir, 'data/gitops'), { recursive: true, encoding: 'utf8' })
    expect(mirrors.filter((name) => name.includes('hooks'))).toEqual([])
  })

  test('a lock that a killed git left behind is in nobody’s way', async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 1 }) })
    await world.follow()
    const mirror = join(world.dir, 'data/gitops', world.sync().metadata.uid, 'repo.git')
    for (const name of ['refs/mctl/head.lock', 'packed-refs.lock', 'config.lock']) writeFileSync(join(mirror, name), '')
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) })
    await world.now()
    expect(world.deployment('a')?.spec.replicas).toBe(2)
  })
})

describe('credentials', () => {
  const folder = () => join(world.dir, 'data/credentials/deploy')

  test('a missing file, or one that others may read, is told with what to do', async () => {
    await world.follow({}, 'studio', { url: 'ssh://git@127.0.0.1:9/fleet.git', credentials: 'deploy' })
    expect(world.readiness()).toBe('False CredentialsRefused')
    expect(world.condition('Ready')?.message).toContain('has no file ssh-key')
    mkdirSync(folder(), { recursive: true })
    writeFileSync(join(folder(), 'ssh-key'), 'secret-key')
    chmodSync(join(folder(), 'ssh-key'), 0o644)
    await world.now()
    expect(world.condition('Ready')?.message).toContain('chmod 600')
  })

  test('a token reaches git by a file, never by an argument, the environment, a status or an event', async () => {
    mkdirSync(folder(), { recursive: true })
    writeFileSync(join(folder(), 'token'), 'hunter2', { mode: 0o600 })
    await world.follow({}, 'studio', { url: 'https://127.0.0.1:9/fleet.git', credentials: 'deploy', timeoutSeconds: 5 })
    expect(world.readiness()).toBe('False FetchFailed')
    const fetch = world.calls.find(({ args }) => args.includes('fetch'))
    expect(fetch?.env?.['MCTL_GIT_PASSWORD']).toBe(join(folder(), 'token'))
    const everything = JSON.stringify([world.calls, world.sync(), world.events()])
    expect(everything).not.toContain('hunter2')
  })
})

describe('a Sync is deleted', () => {
  beforeEach(async () => {
    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) })
    await world.follow()
  })

  test('its objects stay as they are, free for others, and its mirror goes', async () => {
    const { uid } = world.sync().metadata
    await world.delete('Sync', 'studio')
    expect(world.store.snapshot().list('Sync')).toEqual([])
    expect(world.deployments()).toEqual(['a'])
    expect(world.deployment('a')?.spec.replicas).toBe(2)
    expect(world.deployment('a')?.metadata.labels).toEqual({})
    expect(existsSync(join(world.dir, 'data/gitops', uid))).toBe(false)
    const spec = { model: { name: 'tiny' }, replicas: 5 }
    await world.apply({ apiVersion: API_VERSION, kind: 'ModelDeployment', metadata: { name: 'a' }, spec })
    expect(world.deployment('a')?.spec.replicas).toBe(5)
  })

  test('with deletionPolicy Delete its objects go first', async () => {
    await world.patch('Sync', 'studio', { spec: { deletionPolicy: 'Delete' } })
    await world.delete('Sync', 'studio')
    expect(world.deployments()).toEqual([])
    expect(world.sync().metadata.deletionTimestamp).toBeDefined()
    await world.release()
    expect(world.store.snapshot().list('Sync')).toEqual([])
  })
})

test('the repository is never checked out: no file of it lies in the data folder', async () => {
  world.repo.put({ 'a.yaml': md('a'), 'evil.sh': 'echo' })
  await world.follow()
  const names = readdirSync(join(world.dir, 'data'), { recursive: true, encoding: 'utf8' })
  expect(names.filter((name) => /\.(yaml|sh)$/.test(name))).toEqual([])
  rmSync(world.repo.dir, { recursive: true })
})
