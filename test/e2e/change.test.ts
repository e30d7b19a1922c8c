/** Changes and drains with real processes and the fake engine: a client that asks all the time never meets a missing replica. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findCondition } from '../../src/api/conditions.ts'
import type { Node } from '../../src/api/node.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { tinyShape } from '../support/cluster.ts'
import { Dev, endAll, root, tempDir, until } from '../support/processes.ts'

let dev: Dev
const manifest = (changes: object) =>
  JSON.stringify({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name: 'chat' },
    spec: {
      model: { name: 'tiny' },
      engine: { name: 'fake' },
      parallelism: { strategy: 'Data' },
      serving: { contextTokens: 128, concurrency: 2 },
      update: { maxUnavailable: 0, maxSurge: 1 },
      ...changes,
    },
  })

beforeAll(async () => {
  const simulate = 'chip=Apple M4,memory=16Gi,gpuCores=10'
  dev = await Dev.start({ nodes: 2, simulate, env: { MCTL_MODELS_DIR: tempDir() } })
  const model = {
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'Model',
    metadata: { name: 'tiny' },
    spec: { shape: tinyShape },
  }
  expect(await dev.mctlWith(JSON.stringify(model), 'apply', '-f', '-')).toMatchObject({ code: 0 })
  expect(await dev.mctlWith(manifest({}), 'apply', '-f', '-', '--wait', '--timeout', '60s')).toMatchObject({ code: 0 })
}, 120_000)
afterAll(endAll)

/** Asks one question after the other until it is told to stop; the answers that were none. */
function askAllTheTime() {
  const over = new AbortController()
  const bad: string[] = []
  const body = JSON.stringify({ model: 'chat', messages: [{ role: 'user', content: 'hello' }], max_tokens: 4 })
  const headers = { 'content-type': 'application/json' }
  let answers = 0
  const asking = (async () => {
    while (!over.signal.aborted) {
      const response = await fetch(`http://${dev.gateway}/v1/chat/completions`, { method: 'POST', headers, body })
      const text = await response.text()
      if (response.status === 200) answers += 1
      else bad.push(`${response.status}: ${text}`)
    }
  })()
  return {
    async end() {
      over.abort()
      await asking
      return { answers, bad }
    },
  }
}

const group = async () =>
  (await dev.client.get({ ref: { kind: 'ShardGroup', namespace: 'default', name: 'chat-0' } })).object as ShardGroup
const nodeOf = async () => (await group()).spec.members[0]?.node ?? ''
const drained = async (name: string) => {
  const { object } = await dev.client.get({ ref: { kind: 'Node', namespace: '', name } })
  return findCondition((object as Node).status?.conditions, 'Drained')?.status === 'True'
}

test('an update with a surge, its undo and a restart are answered through', async () => {
  const asking = askAllTheTime()
  const changed = manifest({ serving: { contextTokens: 256, concurrency: 2 } })
  expect(await dev.mctlWith(changed, 'apply', '-f', '-')).toMatchObject({ code: 0 })
  for (const verb of ['undo', 'restart']) {
    const status = await dev.mctl('rollout', 'status', 'md/chat', '--timeout=60s')
    expect(status).toMatchObject({ code: 0, stderr: '' })
    expect(status.stdout).toMatch(/deployment "chat" successfully rolled out\n$/)
    expect(await dev.mctl('rollout', verb, 'md/chat')).toMatchObject({ code: 0, stderr: '' })
  }
  expect(await dev.mctl('rollout', 'status', 'md/chat', '--timeout=60s')).toMatchObject({ code: 0 })
  const { answers, bad } = await asking.end()
  expect(bad).toEqual([])
  expect(answers).toBeGreaterThan(0)
  expect((await group()).spec.epoch).toBe(4)
}, 180_000)

test('a drain is answered through, and goes on when its client is killed', async () => {
  const node = await nodeOf()
  const asking = askAllTheTime()
  const entry = join(root, 'dist/src/bin/mctl.js')
  const env = { ...process.env, MCTL_SERVER: dev.server }
  const client = spawn(process.execPath, [entry, 'drain', node], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((done) => client.on('close', done))
  await new Promise((done) => client.stdout.once('data', done))
  client.kill('SIGKILL')
  await ended
  await until(() => drained(node), 60_000, `${node} is drained`)
  expect(await nodeOf()).not.toBe(node)
  expect((await asking.end()).bad).toEqual([])
  const again = await dev.mctl('drain', node)
  expect(again).toMatchObject({
    code: 0,
    stdout: `node.mctl.dev/${node} already cordoned\nnode.mctl.dev/${node} drained\n`,
  })
  expect(await dev.mctl('uncordon', node)).toMatchObject({ code: 0 })
}, 120_000)
