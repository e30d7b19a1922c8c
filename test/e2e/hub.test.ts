/** A real server and the hub: what a model is comes by headers, pinned to a commit; the token stays where it belongs. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findCondition } from '../../src/api/conditions.ts'
import type { Model } from '../../src/api/model.ts'
import { systemModelName } from '../../src/api/modelname.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { about, TestHub, virtual } from '../support/hub.ts'
import { Running, endAll, freePort, mctl, tempDir, until } from '../support/processes.ts'
import { json } from '../unit/api/modelfiles/folder.ts'
import { headerOnly, linear, llamaLayer, vector } from '../unit/api/modelfiles/virtual.ts'

const token = 'hf_the-secret-of-the-test'
const name = 'mlx-community/Llama-3.2-3B-Instruct-4bit'
let hub: TestHub
let client: Client
let dir = ''
let address = ''
let commit = ''

/** Headers of the real shapes, and no weights: 1.8 GB that nobody could download. */
function llama32(): Record<string, Uint8Array | ReturnType<typeof virtual>> {
  const packing = { bits: 4, groupSize: 64 }
  const layer = (at: string) => llamaLayer(at, packing, { hidden: 3072, kv: 1024, feedForward: 8192 })
  const layers = Array.from({ length: 28 }, (_, i) => layer(`model.layers.${i}`))
  const tensors = Object.assign(
    { ...linear('model.embed_tokens', packing, 128256, 3072), ...vector('model.norm.weight', 3072) },
    ...layers,
  ) as Parameters<typeof headerOnly>[0]
  const config = {
    model_type: 'llama',
    hidden_size: 3072,
    num_hidden_layers: 28,
    intermediate_size: 8192,
    num_attention_heads: 24,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 128256,
    tie_word_embeddings: true,
    quantization: { group_size: 64, bits: 4 },
  }
  return { 'config.json': json(config), 'model.safetensors': virtual(headerOnly(tensors)) }
}

const deployment = (id: string, source: string, revision = 'main') => `
apiVersion: mctl.dev/v1alpha1
kind: ModelDeployment
metadata: {name: ${id}}
spec:
  model: {source: "${source}", revision: ${revision}}
  serving: {contextTokens: 1024, concurrency: 1}
`
const node = `
apiVersion: mctl.dev/v1alpha1
kind: Node
metadata: {name: mini-1}
`
const run = (args: readonly string[], stdin?: string) => mctl(args, { MCTL_SERVER: address }, stdin)
const models = async () => (await client.list({ kind: 'Model' })).items as readonly Model[]
const modelOf = async (source: string, revision = 'main') =>
  (await models()).find((m) => m.metadata.name === systemModelName(source, revision))
const resolvedOf = async (source: string, revision?: string) =>
  findCondition((await modelOf(source, revision))?.status?.conditions, 'Resolved')

beforeAll(async () => {
  hub = await TestHub.start()
  hub.members.add(token)
  commit = hub.commit(name, llama32())
  hub.commit('meta/gated', llama32(), { gated: true })
  dir = tempDir()
  address = `127.0.0.1:${await freePort()}`
  new Running(
    ['server', '--data-dir', join(dir, 'server'), '--listen', address, '--gateway', 'none'],
    join(dir, 'server.log'),
    { HF_ENDPOINT: `${hub.endpoint}/`, HF_TOKEN: token },
  )
  client = connect(address, { user: 'test' })
  await until(async () => (await run(['apply', '-f', '-'], node)).code === 0, 30_000, 'the server takes a node')
})
afterAll(async () => {
  client.close()
  await endAll()
  await hub.stop()
})

test('mctl plan says what a model on the hub needs, by its headers, and keeps nothing', async () => {
  const { stdout, code } = await run(['plan', '-o', 'json', '-f', '-'], deployment('chat', `hf://${name}`))
  const { items } = JSON.parse(stdout) as { items: { schedulable: boolean; refusals: unknown[]; message?: string }[] }
  expect(items[0]?.message ?? '').not.toContain('ModelShapePending')
  expect(code).toBe(1)
  expect(await models()).toEqual([])
})

test('an applied deployment gets a Model: pinned, with shape, files and digest, from kilobytes', async () => {
  const before = hub.bytesSent()
  expect((await run(['apply', '-f', '-'], deployment('chat', `hf://${name}`))).code).toBe(0)
  await until(async () => (await resolvedOf(`hf://${name}`))?.status === 'True', 30_000, 'the model is read')
  const model = await modelOf(`hf://${name}`)
  expect(model?.status).toMatchObject({ resolvedRevision: commit, digest: expect.stringMatching(/^sha256:/) as string })
  expect(model?.status?.files?.map((f) => f.name)).toEqual(['config.json', 'model.safetensors'])
  expect(Math.abs((model?.status?.shape?.weightBytes ?? 0) / 1_807_312_500 - 1)).toBeLessThan(0.005)
  expect(hub.bytesSent() - before).toBeLessThan(300_000)
})

test('a branch that moves afterwards changes nothing, and nobody asks again', async () => {
  const asked = hub.requests.length
  hub.commit(name, { 'config.json': json({}) })
  expect((await run(['apply', '-f', '-'], deployment('again', `hf://${name}`))).code).toBe(0)
  await until(
    async () => {
      const { items } = await client.list({ kind: 'ModelDeployment', namespace: 'default' })
      return items.filter((d) => (d as { status?: object }).status !== undefined).length === 2
    },
    30_000,
    'the second deployment is looked at',
  )
  expect((await modelOf(`hf://${name}`))?.status?.resolvedRevision).toBe(commit)
  expect(hub.requests.length).toBe(asked)
})

test('what cannot be read is said where people look, and goes on by itself when it can', async () => {
  hub.fault(about('info'), { answer: 503 })
  expect((await run(['apply', '-f', '-'], deployment('gated', 'hf://meta/gated'))).code).toBe(0)
  await until(async () => (await resolvedOf('hf://meta/gated'))?.status === 'False', 60_000, 'the failure is told')
  expect(await resolvedOf('hf://meta/gated')).toMatchObject({ reason: 'HubUnavailable' })
  const { stdout } = await run(['describe', 'modeldeployment', 'gated'])
  expect(stdout).toContain('ModelShapePending')
  expect(stdout).toContain('it answers 503')
  hub.heal()
  await until(async () => (await resolvedOf('hf://meta/gated'))?.status === 'True', 60_000, 'the gated model is read')
})

test('the token went to the hub alone: not to the storage, not into logs, objects or the database', async () => {
  const withToken = hub.requests.filter(({ authorization }) => authorization === `Bearer ${token}`)
  expect(withToken.length).toBeGreaterThan(0)
  expect(withToken.some(({ path }) => path.startsWith('/repos/'))).toBe(false)
  const stored = readdirSync(join(dir, 'server')).map((file) => join(dir, 'server', file))
  const files = [join(dir, 'server.log'), ...stored].filter((file) => statSync(file).isFile())
  const everything = [...files.map((file) => readFileSync(file, 'latin1')), JSON.stringify(await models())]
  const events = await client.list({ kind: 'Event', namespace: 'default' })
  everything.push(JSON.stringify(events.items))
  for (const text of everything) expect(text).not.toContain(token)
})
