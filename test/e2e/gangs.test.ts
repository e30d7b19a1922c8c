/** Real gangs on a real model: the same greedy answer, token for token, however it is cut. One cluster, one gang at a time. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Shard } from '../../src/api/shard.ts'
import type { Node } from '../../src/api/node.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import { Dev, pidAlive, until } from '../support/processes.ts'

const PROMPT = 'The capital of France is'
const TOKENS = 6
let dev: Dev

beforeAll(async () => {
  dev = await Dev.start({ nodes: 2, simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10' })
})
afterAll(async () => {
  await dev.stop()
})

const manifest = (name: string, parallelism: object) =>
  JSON.stringify({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model: { source: 'file:smollm2-135m' },
      parallelism,
      serving: { contextTokens: 512, concurrency: 1 },
      engine: { name: 'mlx' },
    },
  })

async function shards(): Promise<readonly Shard[]> {
  return (await dev.client.list({ kind: 'Shard' })).items as readonly Shard[]
}

/** Deploys, asks for a few greedy tokens with their ids, deletes; returns the ids and what ran where. */
async function answerOf(name: string, parallelism: object) {
  const applied = await dev.mctlWith(manifest(name, parallelism), 'apply', '-f', '-', '--wait', '--timeout', '90s')
  expect(applied.stderr).toBe('')
  const ran = (await shards()).map((s) => ({
    rank: s.spec.rank,
    node: s.spec.nodeName,
    stage: s.spec.stage,
    pid: s.status?.pid ?? -1,
  }))
  const response = await fetch(`http://${dev.gateway}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: name, prompt: PROMPT, max_tokens: TOKENS, temperature: 0, logprobs: true }),
  })
  const body = (await response.json()) as { choices: { text: string; logprobs: { content: { id: number }[] } }[] }
  expect([response.status, JSON.stringify(body)]).toEqual([200, expect.stringContaining('choices')])
  const choice = body.choices[0]
  const deleted = await dev.mctl('delete', `md/${name}`)
  expect(deleted.code).toBe(0)
  expect(ran.filter((shard) => pidAlive(shard.pid))).toEqual([])
  return { ids: choice?.logprobs.content.map((token) => token.id), text: choice?.text, ran }
}

test('one process, a pipeline of 2 (even and uneven) and a tensor group of 2 give the same tokens', async () => {
  const single = await answerOf('single', { strategy: 'Data' })
  expect(single.text).toContain('Paris')
  expect(single.ids).toHaveLength(TOKENS)
  expect(single.ran).toHaveLength(1)

  const even = await answerOf('even', { strategy: 'Pipeline', degree: 2, split: [15, 15] })
  expect(even.ids).toEqual(single.ids)
  expect(even.ran.map(({ rank, stage }) => [rank, ...stage])).toEqual([
    [0, 15, 30],
    [1, 0, 15],
  ])
  expect(new Set(even.ran.map((shard) => shard.node)).size).toBe(2)

  const uneven = await answerOf('uneven', { strategy: 'Pipeline', degree: 2, split: [20, 10] })
  expect(uneven.ids).toEqual(single.ids)
  expect(uneven.ran.map(({ rank, stage }) => [rank, ...stage])).toEqual([
    [0, 20, 30],
    [1, 0, 20],
  ])

  const tensor = await answerOf('tensor', { strategy: 'Tensor', degree: 2 })
  expect(tensor.ids).toEqual(single.ids)
  expect(new Set(tensor.ran.map((shard) => shard.node)).size).toBe(2)
}, 300_000)

test('after all that the nodes have everything free again', async () => {
  await until(
    async () => {
      const { items } = await dev.client.list({ kind: 'Node' })
      return (items as readonly Node[]).every((node) => parseBytes(node.status?.bound?.memory ?? '0') === 0)
    },
    10_000,
    'nothing is bound',
  )
})
