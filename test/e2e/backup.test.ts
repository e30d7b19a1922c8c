/** A backup taken beside a serving cluster, and what comes of it in another folder: real server, agent and shards. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Shard } from '../../src/api/shard.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { tinyShape } from '../support/cluster.ts'
import { Running, endAll, freePort, mctl, pidAlive, tempDir, until } from '../support/processes.ts'

afterAll(endAll)

const manifest = (name: string) =>
  JSON.stringify({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name },
    spec: { model: { name: 'shape' }, engine: { name: 'fake' }, serving: { contextTokens: 256, concurrency: 1 } },
  })
const shape = {
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Model',
  metadata: { name: 'shape' },
  spec: { shape: tinyShape },
}

test('a restored backup is the same cluster: what it knows is adopted as it runs, what came later is stopped', async () => {
  const dir = tempDir()
  const address = `127.0.0.1:${await freePort()}`
  const env = { MCTL_SERVER: address }
  const server = (data: string) =>
    new Running(['server', '--data-dir', data, '--listen', address, '--gateway', 'none'], join(dir, 'server.log'))
  const first = server(join(dir, 'first'))
  new Running(
    ['agent', '--server', address, '--name', 'mini-1', '--data-dir', join(dir, 'agent')],
    join(dir, 'agent.log'),
  )
  const apply = async (name: string) => {
    const ran = await mctl(['apply', '-f', '-', '--wait', '--timeout', '60s'], env, manifest(name))
    expect([ran.code, ran.stderr]).toEqual([0, ''])
  }
  await until(
    async () => (await mctl(['apply', '-f', '-'], env, JSON.stringify(shape))).code === 0,
    30_000,
    'it serves',
  )
  await apply('before')
  const backup = join(dir, 'backup')
  const made = await mctl(['server', 'backup', backup, '--data-dir', join(dir, 'first')])
  expect([made.code, made.stdout]).toEqual([0, `backup ${backup} made\n`])
  expect(statSync(join(backup, 'mctl.db')).mode & 0o777).toBe(0o600)
  await apply('after')
  const [kept, lost] = await Promise.all(['before', 'after'].map((name) => shardOf(address, name)))
  const revision = await revisionOf(address)
  await first.end()

  const second = join(dir, 'second')
  const restored = await mctl(['server', 'restore', backup, '--data-dir', second])
  expect([restored.code, restored.stdout]).toEqual([0, `backup ${backup} restored\n`])
  // Neither a folder with something in it, nor something that is no backup, is taken.
  expect((await mctl(['server', 'restore', backup, '--data-dir', second])).stderr).toContain('it is not empty')
  expect((await mctl(['server', 'restore', dir, '--data-dir', join(dir, 'x')])).stderr).toContain('is no backup')
  expect(existsSync(join(dir, 'x'))).toBe(false)
  server(second)
  await until(
    async () => (await mctl(['wait', 'node/mini-1', '--for=condition=Ready', '--timeout', '30s'], env)).code === 0,
    60_000,
    'the agent is back',
  )
  await until(() => !pidAlive(lost?.pid ?? 0), 30_000, 'what the backup does not know of is stopped')
  expect(pidAlive(kept?.pid ?? 0)).toBe(true)
  expect(await shardOf(address, 'before')).toMatchObject({ pid: kept?.pid, phase: 'Ready' })
  expect(await revisionOf(address)).toBeGreaterThan(revision + 1e9)
  for (const name of ['before']) expect((await mctl(['delete', 'md', name, '--timeout', '30s'], env)).code).toBe(0)
})

async function asked<T>(address: string, ask: (client: Client) => Promise<T>): Promise<T> {
  const client = connect(address, { user: 'test' })
  try {
    return await ask(client)
  } finally {
    client.close()
  }
}

const shardOf = (address: string, deployment: string) =>
  asked(address, async (client) => {
    const { items } = await client.list({ kind: 'Shard' })
    return (items as readonly Shard[]).find((shard) => shard.spec.group.startsWith(deployment))?.status
  })

const revisionOf = (address: string) =>
  asked(address, async (client) => Number((await client.list({ kind: 'Node' })).resourceVersion))
