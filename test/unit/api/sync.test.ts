import { describe, expect, test } from 'vitest'
import { applyDefaults } from '../../../src/api/default.ts'
import { shortRevision, sourceName } from '../../../src/api/sync.ts'
import type { Fields } from './manifests.ts'
import { faultsOf, manifestOf } from './manifests.ts'

const sync = (spec: Fields) => manifestOf('Sync', { spec }, { name: 'studio' })
const git = (fields: Fields) => sync({ source: { git: { url: 'https://git.example/fleet.git', ...fields } } })

test('a thin Sync gets the defaults that keep what runs safe', () => {
  expect(applyDefaults(git({}))['spec']).toEqual({
    source: {
      git: { url: 'https://git.example/fleet.git', path: '.', allowForcePush: false, timeoutSeconds: 60 },
    },
    intervalSeconds: 60,
    prune: true,
    suspend: false,
    deletionPolicy: 'Orphan',
    dependsOn: [],
    waveTimeoutSeconds: 600,
  })
})

describe('what a Sync may follow', () => {
  test.each([
    ['https', git({})],
    ['ssh with a user', git({ url: 'ssh://git@git.example/fleet.git', credentials: 'deploy-key' })],
    ['a repository on this machine', git({ url: 'file:///srv/git/fleet.git', tag: 'v1.2' })],
    ['several folders', git({ path: 'clusters/studio', extraPaths: ['base'] })],
    ['a directory', sync({ source: { directory: '/srv/manifests' } })],
  ])('%s', (_, manifest) => expect(faultsOf(manifest)).toEqual([]))

  test.each([
    ['nothing', sync({ source: {} }), 'exactly one of `git` and `directory` must be set'],
    [
      'both',
      sync({ source: { git: { url: 'file:///a' }, directory: '/a' } }),
      'spec.source.directory: Forbidden: may not be set together with `git`',
    ],
    ['a command of git-remote-ext', git({ url: 'ext::sh -c touch% /tmp/x' }), 'must begin with https://'],
    ['plain http', git({ url: 'http://git.example/fleet.git' }), 'must begin with https://'],
    ['a host that ssh takes for an option', git({ url: 'ssh://-oProxyCommand=x/y' }), 'must name a host'],
    ['a path out of the repository', git({ path: '../other' }), 'must stay inside the repository'],
    ['an absolute path', git({ path: '/etc' }), 'must stay inside the repository'],
    ['paths that hold each other', git({ path: 'base/a', extraPaths: ['base'] }), 'each file may be read once'],
    ['a branch that is an option', git({ branch: '--upload-pack=x' }), 'must be the name of a branch or tag'],
    ['a branch that git refuses', git({ branch: 'a..b' }), 'is not a name that git allows'],
    ['branch and tag', git({ branch: 'a', tag: 'b' }), 'spec.source.git.tag: Forbidden'],
    ['itself as what it waits for', sync({ source: { directory: '/a' }, dependsOn: ['studio'] }), 'wait for itself'],
    ['a relative directory', sync({ source: { directory: 'manifests' } }), 'must be an absolute path'],
  ])('not %s', (_, manifest, fault) => {
    const faults = faultsOf(manifest)
    expect(faults).toHaveLength(1)
    expect(faults[0]).toContain(fault)
  })

  test('a password in the address is refused, and not repeated', () => {
    const faults = faultsOf(git({ url: 'https://me:hunter2@git.example/fleet.git' }))
    expect(faults.join()).toContain('must not hold credentials')
    expect(faults.join()).not.toContain('hunter2')
  })
})

test('revisions are told short, sources by address and ref', () => {
  expect(shortRevision('0123456789abcdef0123456789abcdef01234567')).toBe('01234567')
  expect(shortRevision(`sha256:${'ab'.repeat(32)}`)).toBe('sha256:abababab')
  const { url, ...rest } = { url: 'file:///a', path: '.', allowForcePush: false, timeoutSeconds: 60 }
  expect(sourceName({ git: { url, ...rest } })).toBe('file:///a@main')
  expect(sourceName({ git: { url, ...rest, tag: 'v1' } })).toBe('file:///a@tags/v1')
})
