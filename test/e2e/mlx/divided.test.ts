/** One model over two ranks: the same tokens, whatever the division, and each rank holds only its part. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  ask,
  greedyIds,
  killRanks,
  readyGang,
  startSingle,
  startStream,
  stopAll,
  tinyModel,
} from '../../support/mlx.ts'
import type { Rank } from '../../support/mlx.ts'

const prompt = 'the quick brown fox'
afterEach(killRanks)
afterAll(stopAll)

async function tokensOf(model: string): Promise<number[]> {
  const alone = await startSingle({ model })
  const ids = await greedyIds(alone, prompt, 24)
  await killRanks()
  return ids
}

const loaded = (rank: Rank | undefined): Record<string, unknown> | undefined =>
  rank?.events.find(({ ev }) => ev === 'loaded')

describe('a pipeline', () => {
  let model: string
  let alone: number[]
  beforeAll(async () => {
    model = tinyModel('qwen2', 5)
    alone = await tokensOf(model)
  })

  test.each([
    ['as mlx-lm divides', null, [2, 5], [0, 2]],
    ['unevenly, our first stage the larger', [4, 1], [4, 5], [0, 4]],
    ['unevenly, our last stage the larger', [1, 4], [1, 5], [0, 1]],
  ])('answers like one rank: %s', async (_how, split, last, first) => {
    const gang = await readyGang({ model, strategy: 'Pipeline', split })
    // MLX rank 0 has our last stage.
    expect([loaded(gang[0])?.['layers'], loaded(gang[1])?.['layers']]).toEqual([last, first])
    expect(await greedyIds(gang[0] as Rank, prompt, 24)).toEqual(alone)
  })

  test('needs on each rank only the files of its layers', async () => {
    // The last of 4 files has layer 4, which only MLX rank 0 runs.
    const part = tinyModel('qwen2', 5)
    rmSync(join(part, 'model-00004-of-00004.safetensors'))
    const split = [4, 1]
    const gang = await readyGang({ model, strategy: 'Pipeline', split }, (rank) => (rank === 1 ? { model: part } : {}))
    expect(loaded(gang[1])?.['files']).toBe(3)
    expect(await greedyIds(gang[0] as Rank, prompt, 24)).toEqual(alone)
  })
})

test('tensor parallel over two ranks answers like one, in half the KV cache', async () => {
  const model = tinyModel('llama', 4)
  const alone = await tokensOf(model)
  const gang = await readyGang({ model, strategy: 'Tensor' })
  expect(loaded(gang[0])).toMatchObject({ layers: [0, 4], kvBytesPerToken: 1024 })
  expect(await greedyIds(gang[0] as Rank, prompt, 24)).toEqual(alone)
})

test('a gang survives poison, a client that leaves, and prompts that its ranks must forget together', async () => {
  const model = tinyModel('qwen2', 5)
  // The stages have different bytes per token: by bytes alone the ranks would keep different prompts and hang.
  const budget = (rank: number): { kvBudgetBytes: number } => ({ kvBudgetBytes: rank === 0 ? 260 * 512 : 1000 * 2048 })
  const config = { model, strategy: 'Pipeline', split: [4, 1], contextTokens: 250, maxOutputTokens: 200 } as const
  const gang = await readyGang(config, budget)
  const leader = gang[0] as Rank
  expect(gang.map((rank) => [loaded(rank)?.['kvTokens'], loaded(rank)?.['concurrency']])).toEqual([
    [260, 1],
    [260, 1],
  ])

  const poison = [{ prompt: ['a'] }, { prompt: 'a', stop: [5] }, { prompt: 'a', top_k: 999 }, { prompt: 'a', seed: 1 }]
  for (const body of poison) expect((await ask(leader, '/v1/completions', body)).status).toBe(400)
  for (let i = 0; i < 3; i++) (await startStream(leader, 200)).cancel()
  const prompts = Array.from({ length: 6 }, (_, i) => `${i % 3} `.repeat(50))
  for (const text of prompts) expect(await greedyIds(leader, text, 8)).toHaveLength(8)
})
