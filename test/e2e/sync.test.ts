/** Following a repository with the real server: found by a watched file, across SIGKILL at any moment, by webhook. */
import { createHmac } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import type { Sync } from '../../src/api/sync.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import { deploymentYaml as md, GitRepo } from '../support/gitrepo.ts'
import { endAll, freePort, mctl, Running, tempDir, until } from '../support/processes.ts'

let dir: string
let repo: GitRepo
let server: Running
let address: string
let webhooks: string
let metrics: string
const dataDir = () => join(dir, 'data')

function startServer(): Running {
  const args = [
    '--data-dir',
    dataDir(),
    '--listen',
    address,
    '--gateway',
    'none',
    '--webhooks',
    webhooks,
    '--metrics',
    metrics,
  ]
  return new Running(['server', ...args], join(dir, 'server.log'))
}

beforeAll(async () => {
  dir = tempDir()
  repo = new GitRepo(join(dir, 'fleet'))
  address = `127.0.0.1:${await freePort()}`
  webhooks = `127.0.0.1:${await freePort()}`
  metrics = `127.0.0.1:${await freePort()}`
  const secrets = join(dataDir(), 'credentials/hook')
  mkdirSync(secrets, { recursive: true, mode: 0o700 })
  writeFileSync(join(secrets, 'webhook-secret'), 'sesame', { mode: 0o600 })
  server = startServer()
})
afterAll(endAll)

const run = (...args: string[]) => mctl(args, { MCTL_SERVER: address })

/** The interval is an hour: whatever is followed sooner was hinted at. */
const syncYaml = () =>
  [
    'apiVersion: mctl.dev/v1alpha1',
    'kind: Sync',
    'metadata: { name: studio }',
    `spec: { source: { git: { url: "${repo.url}" } }, webhookSecret: hook, intervalSeconds: 3600 }`,
  ].join('\n')

async function answers(): Promise<boolean> {
  const client = connect(address, { user: 'test' })
  try {
    return (await client.version({}, { timeoutMs: 1_000 })).clusterUid !== ''
  } finally {
    client.close()
  }
}

async function priority(name: string): Promise<number | undefined> {
  const client = connect(address, { user: 'test' })
  try {
    const { object } = await client.get({ ref: { kind: 'ModelDeployment', namespace: 'default', name } })
    return (object as ModelDeployment).spec.priority
  } finally {
    client.close()
  }
}

async function sync(): Promise<Sync> {
  const client = connect(address, { user: 'test' })
  try {
    return (await client.get({ ref: { kind: 'Sync', namespace: '', name: 'studio' } })).object as Sync
  } finally {
    client.close()
  }
}

test('a commit is followed by itself: the watcher hints, the commit is what is applied', async () => {
  repo.put({ 'a.yaml': md('a', { priority: 1 }) })
  await until(answers, 30_000, 'the server answers')
  const file = join(dir, 'sync.yaml')
  writeFileSync(file, syncYaml())
  expect(await run('apply', '-f', file)).toMatchObject({ code: 0, stdout: 'sync.mctl.dev/studio created\n' })
  expect((await run('sync', 'now', 'studio')).stdout).toContain('is applied: 1 object')
  expect(await priority('a')).toBe(1)
  repo.put({ 'a.yaml': md('a', { priority: 2 }) })
  await until(async () => (await priority('a')) === 2, 30_000, 'the commit is followed')
})

test('killed again and again while commits come, it ends in the last one, and knows all that it made', async () => {
  for (let i = 0; i < 5; i++) {
    repo.put({ 'a.yaml': md('a', { priority: 10 + i }), [`b${i}.yaml`]: md(`b${i}`) })
    // At another moment each time: before the fetch, during it, between fetch and apply, after apply.
    await new Promise((done) => setTimeout(done, 150 + i * 140))
    await server.signal('SIGKILL')
    server = startServer()
    await until(answers, 30_000, 'the server answers again')
  }
  expect((await run('sync', 'now', 'studio')).stdout).toContain('is applied: 6 objects')
  expect(await priority('a')).toBe(14)
  const { status } = await sync()
  expect(status?.inventory?.map(({ name }) => name)).toEqual(['a', 'b0', 'b1', 'b2', 'b3', 'b4'])
  expect(status?.lastAppliedRevision).toBe(repo.head)
  // It may remove what a server before it made.
  repo.remove('b4.yaml')
  repo.commit('Remove b4')
  await until(async () => (await sync()).status?.objects === 5, 30_000, 'b4 is removed')
})

test('a signed webhook is a hint, an unsigned one is not; nothing of the secret is in the log', async () => {
  const post = (signature: string) =>
    fetch(`http://${webhooks}/hooks/sync/studio`, {
      method: 'POST',
      body: '{}',
      headers: { 'x-hub-signature-256': `sha256=${signature}` },
    })
  expect((await post('00')).status).toBe(401)
  expect((await post(createHmac('sha256', 'sesame').update('{}').digest('hex'))).status).toBe(202)
  const told = await (await fetch(`http://${metrics}/metrics`)).text()
  expect(told).toContain('mctl_sync_ready{sync="studio"} 1')
  expect(told).toMatch(/mctl_sync_read_duration_seconds_count\{sync="studio"\} \d/)
  expect(told).toMatch(/mctl_server_call_duration_seconds_count\{call="\w+",code="OK"\} \d/)
  expect(told).toMatch(/mctl_controller_pass_duration_seconds_count\{controller="\w+"\} \d/)
  expect(server.log()).not.toContain('sesame')
  expect(server.log()).toContain('"user":"mctl-gitops"')
  expect(await server.end()).toBe(0)
})
