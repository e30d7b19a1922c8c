/**
 * From an `hf://` source to answers, on one machine with a hub of its own: the server reads headers and pins the commit,
 * the agents fetch, verify and start. Nothing is on the nodes before. The hub speaks https with a certificate of the
 * test's own authority, as in a company whose proxy signs what comes through.
 */
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import type { Model } from '../../src/api/model.ts'
import type { Node } from '../../src/api/node.ts'
import type { Shard } from '../../src/api/shard.ts'
import type { Stage } from '../../src/api/words.ts'
import { userDataDir } from '../../src/lib/userdata.ts'
import type { HubRequest } from '../support/hub.ts'
import { TestHub, about, ownTls } from '../support/hub.ts'
import { json, safetensors } from '../unit/api/modelfiles/folder.ts'
import { F32, ggufFile } from '../unit/api/modelfiles/gguffile.ts'
import { linear, llamaLayer, vector } from '../unit/api/modelfiles/virtual.ts'
import { claimPortRange } from '../support/ports.ts'
import { Dev, Running, tempDir, until } from '../support/processes.ts'

const MODEL = 'demo/smollm2'
const TOKEN = 'hf_secret_of_this_test'
const demo = join(userDataDir(process.env, process.platform), 'models', 'smollm2-135m')

const SIMULATED = 'chip=Apple M4,memory=16Gi,gpuCores=10'

let hub: TestHub
let dev: Dev
/** The second node, with a models folder of its own. */
let other: Running
let dir: string
let commit: string

beforeAll(async () => {
  const tls = await ownTls()
  hub = await TestHub.start(tls)
  hub.members.add(TOKEN)
  const files = readdirSync(demo).map((name) => [name, readFileSync(join(demo, name))] as const)
  const readme = { 'README.md': Buffer.from('# not for engines') }
  // As a hub behind the internet: one on this machine may be clearly faster than a busy peer, and a peer is passed by then.
  hub.fault(({ about, file }) => about === 'content' && isWeight(file), { slowBytesPerSecond: 15_000_000 })
  commit = hub.commit(MODEL, { ...Object.fromEntries(files), ...readme }, { gated: true })
  dir = tempDir()
  const authority = join(dir, 'company.pem')
  writeFileSync(authority, tls.authorityPem)
  const env = (node: string) => ({
    HF_ENDPOINT: hub.endpoint,
    NODE_EXTRA_CA_CERTS: authority,
    HF_TOKEN: TOKEN,
    MCTL_MODELS_DIR: join(dir, `models-${node}`),
  })
  dev = await Dev.start({ nodes: 1, simulate: SIMULATED, env: env('mini-1') })
  const flags = ['--name', 'mini-2', '--data-dir', join(dir, 'mini-2'), '--port-range', await claimPortRange()]
  const agent = ['agent', '--server', dev.server, ...flags, '--simulate', SIMULATED]
  other = new Running(agent, join(dir, 'mini-2.log'), env('mini-2'))
  await until(
    async () => (await nodes()).filter((n) => isTrue(n.status?.conditions, 'Ready')).length === 2,
    60_000,
    '2 nodes',
  )
})
afterAll(async () => {
  await other?.signal('SIGTERM')
  await dev?.stop()
  await hub?.stop()
  rmSync(dir, { recursive: true, force: true })
})

const nodes = async () => (await dev.client.list({ kind: 'Node' })).items as readonly Node[]
const manifest = (name: string, engine: string, parallelism: object, source = `hf://${MODEL}`) =>
  JSON.stringify({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model: { source },
      parallelism,
      serving: { contextTokens: 512, concurrency: 1 },
      engine: { name: engine },
    },
  })
const shards = async () => (await dev.client.list({ kind: 'Shard' })).items as readonly Shard[]
const filesOn = (node: string): readonly string[] =>
  readdirSync(join(dir, `models-${node}`, 'hf', `demo--smollm2@${commit.slice(0, 12)}`))
    .filter((name) => !name.startsWith('.'))
    .sort()
const isWeight = (name: string): boolean => name.endsWith('.safetensors')
/** Whole files that the hub was asked for; headers are ranges. */
const weightsAsked = (): readonly string[] =>
  hub.requests.filter((r) => r.about === 'content' && r.range === undefined && isWeight(r.file)).map((r) => r.file)
/** Files that hold tensors of these layers, or of none. */
function holding([start, end]: Stage): readonly string[] {
  const index = readFileSync(join(demo, 'model.safetensors.index.json'), 'utf8')
  const { weight_map: map } = JSON.parse(index) as { weight_map: Record<string, string> }
  const ours = Object.entries(map).filter(([tensor]) => {
    const layer = /layers\.(\d+)\./.exec(tensor)?.[1]
    return layer === undefined || (Number(layer) >= start && Number(layer) < end)
  })
  return [...new Set(ours.map(([, file]) => file))].sort()
}

test('each rank of a pipeline fetches only the files of its layers, a corrupt one twice, and the gang answers', async () => {
  const [first = ''] = holding([0, 1])
  const whole = (request: HubRequest) => about('content', first)(request) && request.range === undefined
  hub.fault(whole, { corruptsByte: 5_000 }, 1)
  const applied = await dev.mctlWith(
    manifest('pipe', 'mlx', { strategy: 'Pipeline', degree: 2, split: [15, 15] }),
    ...['apply', '-f', '-', '--wait', '--timeout', '110s'],
  )
  expect(applied.stderr).toBe('')
  const ran = await shards()
  expect(ran.map((s) => [s.spec.model.revision, s.status?.phase])).toEqual([
    [commit, 'Ready'],
    [commit, 'Ready'],
  ])
  for (const { spec } of ran) {
    expect(filesOn(spec.nodeName).filter(isWeight)).toEqual(holding(spec.stage))
    expect(filesOn(spec.nodeName)).toEqual(expect.arrayContaining(['config.json', 'tokenizer.json']))
    expect(filesOn(spec.nodeName)).not.toContain('README.md')
  }
  expect(ran.flatMap(({ spec }) => holding(spec.stage)).length).toBeLessThan(2 * holding([0, 99]).length)
  // The hub is asked once for each file, whoever needs it; for the corrupt one again.
  const asked = weightsAsked()
  const twice = asked.filter((file, at) => asked.indexOf(file) !== at)
  expect(new Set(twice)).toEqual(new Set([first]))
  expect(hub.requests.filter(whole).length).toBeLessThanOrEqual(3)

  const response = await fetch(`http://${dev.gateway}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: 'pipe', prompt: 'The capital of France is', max_tokens: 6, temperature: 0 }),
  })
  expect(await response.text()).toContain('Paris')
  expect((await dev.mctl('delete', 'md/pipe')).code).toBe(0)
}, 180_000)

test('what a node lacks it gets from the node that has it, and the table says where the model lies', async () => {
  const before = weightsAsked()
  const applied = await dev.mctlWith(
    manifest('chat', 'fake', { strategy: 'Data' }),
    ...['apply', '-f', '-', '--wait', '--timeout', '60s'],
  )
  expect(applied.stderr).toBe('')
  const [shard] = await shards()
  const node = shard?.spec.nodeName ?? ''
  expect(filesOn(node).filter(isWeight)).toEqual(holding([0, 99]))
  // Each held a half of it before; the other half did not come from the hub.
  expect(weightsAsked()).toEqual(before)
  await until(async () => (await dev.mctl('get', 'models')).stdout.includes(node), 20_000, 'the table names the node')
  const table = (await dev.mctl('get', 'models')).stdout
  expect(table).toMatch(new RegExp(`${node}(?!\\(Partial)`))
  expect(table).toMatch(/mini-\d\(Partial\)/)
  expect((await dev.mctl('delete', 'md/chat')).code).toBe(0)
})

/** A llama of two layers in two files, whose every byte of content is `seed`. */
function seeded(seed: number): Record<string, Uint8Array> {
  const packing = { bits: 4, groupSize: 64 }
  const layer = (at: string) => llamaLayer(at, packing, { hidden: 256, kv: 256, feedForward: 512 })
  const files = {
    'ends.safetensors': {
      ...linear('model.embed_tokens', packing, 65_536, 256),
      ...vector('model.norm.weight', 256),
    },
    'layers.safetensors': { ...layer('model.layers.0'), ...layer('model.layers.1') },
  }
  const map = Object.entries(files).flatMap(([file, tensors]) => Object.keys(tensors).map((name) => [name, file]))
  const weights = Object.entries(files).map(([file, tensors]) => {
    const bytes = safetensors(tensors)
    const headerBytes = 8 + Number(Buffer.from(bytes).readBigUInt64LE())
    return [file, bytes.fill(seed, headerBytes)] as const
  })
  const config = {
    model_type: 'llama',
    hidden_size: 256,
    num_hidden_layers: 2,
    intermediate_size: 512,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    head_dim: 64,
    vocab_size: 65_536,
    tie_word_embeddings: true,
    quantization: { group_size: 64, bits: 4 },
    seed,
  }
  return {
    'config.json': json(config),
    'model.safetensors.index.json': json({ weight_map: Object.fromEntries(map) }),
    ...Object.fromEntries(weights),
  }
}

test('a branch that moves under way: one commit comes whole, its progress is watched, and who needs which copy is told', async () => {
  const [old, young] = [seeded(1), seeded(2)]
  const first = hub.commit('demo/moving', old)
  let second = ''
  // Slow as a hub is, and another commit is pushed as soon as weights are on their way.
  const isWhole = (request: HubRequest) => about('content', 'ends.safetensors')(request) && request.range === undefined
  hub.fault(isWhole, { slowBytesPerSecond: 1_500_000 })
  hub.fault(isWhole, { run: () => (second = hub.commit('demo/moving', young)) }, 1)
  const watching = new Running(['get', 'shards', '-w', '--server', dev.server], join(dir, 'watch.log'))
  const source = 'hf://demo/moving'
  const applied = await dev.mctlWith(
    manifest('moving', 'fake', { strategy: 'Data' }, source),
    ...['apply', '-f', '-', '--wait', '--timeout', '90s'],
  )
  expect([applied.stderr, second.length]).toEqual(['', 40])
  const shown = [...watching.log().matchAll(/^moving-0\S* +Fetching (\d+)%/gm)].map(([, percent]) => Number(percent))
  await watching.signal('SIGTERM')
  expect(shown).toEqual([...shown].sort((a, b) => a - b))
  expect(new Set(shown).size).toBeGreaterThanOrEqual(3)

  const [shard] = await shards()
  const node = shard?.spec.nodeName ?? ''
  const folder = join(dir, `models-${node}`, 'hf', `demo--moving@${first.slice(0, 12)}`)
  for (const [name, bytes] of Object.entries(old)) expect(readFileSync(join(folder, name)).equals(bytes)).toBe(true)

  // The Model says what it was read at, until somebody has it read anew; what runs keeps its commit.
  const model = async () =>
    ((await dev.client.list({ kind: 'Model' })).items as readonly Model[]).find((m) => m.spec.source === source)
  expect((await model())?.status?.resolvedRevision).toBe(first)
  const resolved = findCondition((await model())?.status?.conditions, 'Resolved')
  expect(resolved?.message).toContain(`commit ${first}: 4 files`)
  expect(resolved?.message).toContain('it stays when main moves on: delete this Model to have that read anew')
  const { name = '' } = (await model())?.metadata ?? {}
  expect((await dev.mctl('delete', 'model', name)).code).toBe(0)
  await until(async () => (await model())?.status?.resolvedRevision === second, 20_000, 'it is read anew')
  expect((await shards()).map(({ spec }) => spec.model.revision)).toEqual([first])

  const described = async () => (await dev.mctl('describe', 'model', name)).stdout.replaceAll(/ +/g, ' ')
  const listed = async () => (await dev.mctl('get', 'models', name, '-o', 'wide', '--no-headers')).stdout
  const copy = `${node} Present \\S+ ${first.slice(0, 12)}`
  const says = (text: string) => async () => new RegExp(text).test(await described())
  await until(says(`${copy} ${shard?.metadata.name} nothing`), 20_000, 'the copy is told with its shard')
  expect(await listed()).toMatch(new RegExp(`${node}:1 +<none>\\s*$`))
  expect((await dev.mctl('delete', 'md/moving')).code).toBe(0)
  await until(says(`${copy} <none> \\d+(\\.\\d)?Mi`), 20_000, 'it is told what pruning would free')
  expect(await listed()).toMatch(new RegExp(`<none> +${node}:\\d+(\\.\\d)?Mi\\s*$`))
  hub.heal()
})

test('one GGUF file at https:// comes, verified; of a server with a certificate of a stranger it is said what to set', async () => {
  const file = ggufFile(
    {
      'general.architecture': 'llama',
      'llama.block_count': 1,
      'llama.embedding_length': 64,
      'llama.feed_forward_length': 64,
      'llama.attention.head_count': 2,
      'tokenizer.ggml.tokens': ['a', 'b'],
    },
    {
      'token_embd.weight': [F32, 64, 2],
      'output_norm.weight': [F32, 64],
      'blk.0.attn_norm.weight': [F32, 64],
      'blk.0.attn_q.weight': [F32, 64, 64],
    },
  )
  hub.commit('demo/single', { 'tiny.gguf': file.bytes.subarray(0, file.sizeBytes) })
  const source = `${hub.endpoint}/demo/single/resolve/main/tiny.gguf`
  const applied = await dev.mctlWith(
    manifest('single', 'fake', { strategy: 'Data' }, source),
    ...['apply', '-f', '-', '--wait', '--timeout', '60s'],
  )
  expect(applied.stderr).toBe('')
  const [shard] = await shards()
  const folders = readdirSync(join(dir, `models-${shard?.spec.nodeName}`, 'https'))
  expect(folders.filter((name) => !name.startsWith('.'))).toEqual([expect.stringMatching(/--tiny@[0-9a-f]{12}$/)])
  expect((await dev.mctl('delete', 'md/single')).code).toBe(0)

  const stranger = await TestHub.start(await ownTls())
  try {
    const elsewhere = `${stranger.endpoint}/demo/single/resolve/main/tiny.gguf`
    await dev.mctlWith(manifest('strange', 'fake', { strategy: 'Data' }, elsewhere), 'apply', '-f', '-')
    const said = await until(
      async () => {
        const { stdout } = await dev.mctl('describe', 'md', 'strange')
        return stdout.includes('NODE_EXTRA_CA_CERTS') && stdout
      },
      20_000,
      'it is said why the file cannot be read',
    )
    expect(said.replaceAll(/\s+/g, ' ')).toContain('signed by an authority that is not trusted here')
    expect((await dev.mctl('delete', 'md/strange')).code).toBe(0)
  } finally {
    await stranger.stop()
  }
})

test('the token is nowhere but at the hub', async () => {
  const logs = readdirSync(join(dev.dir, 'logs')).map((name) => readFileSync(join(dev.dir, 'logs', name), 'utf8'))
  const kinds = ['Node', 'Model', 'Shard', 'Event'] as const
  const objects = await Promise.all(kinds.map(async (kind) => JSON.stringify(await dev.client.list({ kind }))))
  expect([...logs, other.log(), ...objects].join()).not.toContain(TOKEN)
  expect(hub.requests.filter((r) => r.authorization === `Bearer ${TOKEN}`).length).toBeGreaterThan(0)
})
