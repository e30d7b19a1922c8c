/** What the gateway adds to the first byte: the same request to the engine itself, to the shardhost's door and to the gateway, in turn. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { Agent, request } from 'undici'
import { Dev } from '../support/processes.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

const ROUNDS = 400
const WARM_UP = 50

const manifest = `
apiVersion: mctl.dev/v1alpha1
kind: Model
metadata: {name: bench}
spec:
  shape: {architecture: llama, layers: 4, hiddenSize: 128, intermediateSize: 256, attentionHeads: 8, kvHeads: 4, headDim: 16, vocabSize: 258, parameters: 1000000, weightBytes: 2000000}
---
apiVersion: mctl.dev/v1alpha1
kind: ModelDeployment
metadata: {name: bench}
spec:
  model: {name: bench}
  parallelism: {strategy: Data}
  engine: {name: fake, args: []}
  serving: {contextTokens: 262144, concurrency: 4, maxOutputTokens: 16}
`

interface Target {
  readonly what: string
  readonly url: string
  readonly headers: Record<string, string>
}

export async function benchGateway(): Promise<Row[]> {
  const dev = await Dev.start({
    nodes: 1,
    simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10',
    env: { MCTL_LOG: 'warn' },
  })
  try {
    const applied = await dev.mctlWith(manifest, 'apply', '-f', '-', '--wait', '--timeout', '60s')
    if (applied.code !== 0) throw new Error(applied.stderr)
    const targets = await targetsOf(dev)
    const rows: Row[] = []
    for (const [size, prompt, aim] of [
      ['short prompt', 'x', '≤ 1 ms'],
      ['220 KB prompt', 'x'.repeat(220_000), '≤ 2 ms'],
    ] as const) {
      const times = await measure(targets, prompt)
      const [direct = 0, door = 0, gateway = 0] = times.map((values) => percentile(sortedOf(values), 0.5))
      rows.push({ what: `first byte, ${size}: engine alone, p50`, value: ms(direct), aim: '' })
      rows.push({ what: `first byte, ${size}: added by the door, p50`, value: ms(door - direct), aim: '' })
      rows.push({ what: `first byte, ${size}: added by gateway and door, p50`, value: ms(gateway - direct), aim })
    }
    return rows
  } finally {
    await dev.stop()
  }
}

async function targetsOf(dev: Dev): Promise<Target[]> {
  const { items } = await dev.client.list({ kind: 'Shard' })
  const shard = items[0] as unknown as { metadata: { uid: string }; status: { address: string; port: number } }
  const dir = join(dev.dir, 'agents', 'mini-1', 'shards')
  const spec = readdirSync(dir)
    .map((uid) => JSON.parse(readFileSync(join(dir, uid, 'spec.json'), 'utf8')) as { door: { enginePort: number } })
    .at(0)
  return [
    { what: 'engine', url: `http://127.0.0.1:${spec?.door.enginePort ?? 0}`, headers: {} },
    {
      what: 'door',
      url: `http://${shard.status.address}:${shard.status.port}`,
      headers: { 'mctl-shard': shard.metadata.uid },
    },
    { what: 'gateway', url: `http://${dev.gateway}`, headers: {} },
  ]
}

/** In turn, so that a drift of the machine meets all three alike. */
async function measure(targets: readonly Target[], prompt: string): Promise<number[][]> {
  const agent = new Agent({ keepAliveTimeout: 30_000 })
  const times: number[][] = targets.map(() => [])
  const body = JSON.stringify({ model: 'bench', prompt, max_tokens: 1 })
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const [i, target] of targets.entries()) {
      const taken = await firstByteMs(agent, target, body)
      if (round >= 0) times[i]?.push(taken)
    }
  }
  await agent.close()
  return times
}

async function firstByteMs(agent: Agent, target: Target, body: string): Promise<number> {
  const startMs = performance.now()
  const response = await request(`${target.url}/v1/completions`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...target.headers },
    dispatcher: agent,
  })
  if (response.statusCode !== 200)
    throw new Error(`${target.what} answered ${response.statusCode}: ${await response.body.text()}`)
  let firstMs: number | undefined
  for await (const _ of response.body) firstMs ??= performance.now()
  return (firstMs ?? performance.now()) - startMs
}
