/** Whom a Sync believes: commits signed by known keys, calls signed with the secret. Real git, ssh-keygen, gpg and HTTP. */
import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { API_VERSION } from '../../../src/api/meta.ts'
import { createGitopsMetrics } from '../../../src/gitops/metrics.ts'
import type { HttpDoor } from '../../../src/lib/httplisten.ts'
import { MAX_BODY_BYTES, openWebhookDoor } from '../../../src/gitops/webhook.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { deploymentYaml as md } from '../../support/gitrepo.ts'
import { GitopsWorld } from './world.ts'

let world: GitopsWorld
beforeEach(async () => {
  world = await GitopsWorld.start()
})
afterEach(() => world.stop())

const credentials = (name: string, files: Readonly<Record<string, string>>) => {
  const folder = join(world.dir, 'data/credentials', name)
  mkdirSync(folder, { recursive: true })
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text, { mode: 0o600 })
}

describe('ssh signatures', () => {
  const keyOf = (name: string): string => {
    const file = join(world.dir, name)
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file])
    return file
  }
  const signed = (key: string, message: string) => {
    world.repo.git('add', '--all')
    const settings = ['-c', 'gpg.format=ssh', '-c', `user.signingkey=${key}`]
    world.repo.git(...settings, 'commit', '--quiet', '-S', '-m', message)
    return world.repo.head
  }
  const follow = () => world.follow({}, 'studio', { verify: { signers: 'team' } })

  test('a commit signed by a known key is applied; unsigned and strange ones are not, and the last good one stays', async () => {
    const key = keyOf('ada')
    credentials('team', { 'allowed-signers': `ada@example.org ${readFileSync(`${key}.pub`, 'utf8')}` })
    world.repo.write('a.yaml', md('a', { replicas: 1 }))
    const good = signed(key, 'Signed')
    await follow()
    expect(world.readiness()).toBe('True Synced')

    world.repo.put({ 'a.yaml': md('a', { replicas: 2 }) }, 'Unsigned')
    await world.now()
    expect(world.readiness()).toBe('False SignatureRefused')
    expect(world.condition('Ready')?.message).toContain('has no good signature of a key in credentials "team"')
    expect(world.sync().status?.lastAppliedRevision).toBe(good)

    world.repo.write('a.yaml', md('a', { replicas: 3 }))
    signed(keyOf('mallory'), 'By somebody else')
    await world.now()
    expect(world.readiness()).toBe('False SignatureRefused')
    expect(world.deployment('a')?.spec.replicas).toBe(1)

    world.repo.write('a.yaml', md('a', { replicas: 4 }))
    signed(key, 'Signed again')
    await world.now()
    expect(world.deployment('a')?.spec.replicas).toBe(4)
  })
})

test('OpenPGP: a commit is applied when its key is in the keyring', async () => {
  const home = join('/tmp', `mctl-gpg-${process.pid}`)
  mkdirSync(home, { mode: 0o700 })
  const gpg = (...args: string[]) =>
    execFileSync('gpg', ['--batch', '--quiet', ...args], { env: { ...process.env, GNUPGHOME: home }, encoding: 'utf8' })
  try {
    gpg('--passphrase', '', '--quick-gen-key', 'Ada <ada@example.org>', 'ed25519', 'sign', 'never')
    credentials('team', { 'keyring.asc': gpg('--armor', '--export', 'ada@example.org') })
    credentials('strangers', { 'allowed-signers': '' })
    world.repo.write('a.yaml', md('a'))
    world.repo.git('add', '--all')
    const settings = ['-c', `user.signingkey=ada@example.org`]
    const wrapper = join(world.dir, 'gpg.sh')
    writeFileSync(wrapper, `#!/bin/sh\nGNUPGHOME=${home} exec gpg "$@"\n`, { mode: 0o755 })
    world.repo.git(...settings, '-c', `gpg.program=${wrapper}`, 'commit', '--quiet', '-S', '-m', 'Signed')
    await world.follow({}, 'studio', { verify: { signers: 'team' } })
    expect(world.condition('Ready')?.message).toContain('is applied')
    await world.follow({}, 'other', { verify: { signers: 'strangers' } })
    expect(world.readiness('other')).toBe('False SignatureRefused')
  } finally {
    execFileSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME: home } })
    execFileSync('rm', ['-rf', home])
  }
})

describe('webhooks', () => {
  let door: HttpDoor
  let hints: string[]

  beforeEach(async () => {
    hints = []
    credentials('hook', { 'webhook-secret': 'sesame\n' })
    const source = { git: { url: world.repo.url } }
    const spec = { source, webhookSecret: 'hook', suspend: true }
    await world.create({ apiVersion: API_VERSION, kind: 'Sync', metadata: { name: 'studio' }, spec })
    await world.create({
      apiVersion: API_VERSION,
      kind: 'Sync',
      metadata: { name: 'deaf' },
      spec: { source, suspend: true },
    })
    const doors = { store: world.store, clock: world.clock, log: silentLogger, dataDir: join(world.dir, 'data') }
    door = await openWebhookDoor({ ...doors, hint: (name) => hints.push(name) }, '127.0.0.1:0')
  })
  afterEach(() => door.stop())

  const post = async (path: string, headers: Record<string, string>, body: string | Buffer = '{}') =>
    (await fetch(`http://${door.address}${path}`, { method: 'POST', headers, body: new Uint8Array(Buffer.from(body)) }))
      .status
  const sign = (body: string, secret = 'sesame') => createHmac('sha256', secret).update(body).digest('hex')

  test('a signed call is a hint: as GitHub, Gitea and GitLab sign', async () => {
    const path = '/hooks/sync/studio'
    expect(await post(path, { 'x-hub-signature-256': `sha256=${sign('{}')}` })).toBe(202)
    expect(await post(path, { 'x-gitea-signature': sign('{}') })).toBe(202)
    expect(await post(path, { 'x-gitlab-token': 'sesame' })).toBe(202)
    expect(hints).toEqual(['studio', 'studio', 'studio'])
  })

  test('without the secret, for a Sync without one, or for none at all, the answer is the same', async () => {
    const wrong = { 'x-hub-signature-256': `sha256=${sign('{}', 'guess')}` }
    expect(await post('/hooks/sync/studio', wrong)).toBe(401)
    expect(await post('/hooks/sync/studio', { 'x-hub-signature-256': `sha256=${sign('{"a":1}')}` })).toBe(401)
    expect(await post('/hooks/sync/studio', {})).toBe(401)
    expect(await post('/hooks/sync/deaf', { 'x-gitlab-token': '' })).toBe(401)
    expect(await post('/hooks/sync/nobody', wrong)).toBe(401)
    expect(hints).toEqual([])
  })

  test('more than 1 MiB is not read, and too many calls are turned away', async () => {
    const headers = { 'x-gitlab-token': 'sesame' }
    expect(await post('/hooks/sync/studio', headers, Buffer.alloc(MAX_BODY_BYTES + 1))).toBe(413)
    const codes: number[] = []
    for (let i = 0; i < 32; i++) codes.push(await post('/hooks/sync/studio', headers))
    expect(codes.filter((code) => code === 202)).toHaveLength(30)
    expect(codes.at(-1)).toBe(429)
    await world.clock.advance(61_000)
    expect(await post('/hooks/sync/studio', headers)).toBe(202)
  })

  test('metrics tell of every Sync', async () => {
    const text = await createGitopsMetrics(world.store).text()
    expect(text).toContain('mctl_sync_suspended{sync="studio"} 1')
    expect(text).toContain('mctl_sync_ready{sync="deaf"} 0')
  })
})
