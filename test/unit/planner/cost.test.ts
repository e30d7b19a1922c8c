/** Golden figures of facts/performance.md §4 and gains of §2. */
import { describe, expect, test } from 'vitest'
import { findLinkClass, linkClasses } from '../../../src/api/hardware.ts'
import type { LinkClass } from '../../../src/api/hardware.ts'
import type { ModelShape } from '../../../src/api/model.ts'
import type { Engine } from '../../../src/api/words.ts'
import type { Layout, LinkSpeed } from '../../../src/planner/cost.ts'
import {
  aggregateRate,
  busyShares,
  decodeSeconds,
  nodeSpeed,
  predict,
  prefillSeconds,
  saturatedRate,
  weightBytesRead,
} from '../../../src/planner/cost.ts'
import { atBits, deepseekV32, gptOss120b, llama3b, llama405b, mixtral, qwen32b, qwen7b, scout } from './models.ts'

const m4 = nodeSpeed({ chip: 'Apple M4', gpuCores: 10 }, 16 * 2 ** 30)
const ultra = nodeSpeed({ chip: 'Apple M3 Ultra', gpuCores: 80 }, 512 * 2 ** 30)
const tb4 = findLinkClass('Thunderbolt4', 'TCP')
const rdma = findLinkClass('Thunderbolt5', 'RDMA')
const fastSync = linkClasses.find((l) => l.class === 'tb5-rdma-fs') as LinkClass

const speedOf = (link: LinkClass): LinkSpeed => ({
  allReduceSeconds: link.allReduceMicros * 1e-6,
  growthPerRank: link.allReduceGrowthPerRank,
  bytesPerSecond: link.bandwidthGBps * 1e9,
})
const input = (shape: ModelShape, contextTokens = 1024, concurrency = 1, engine: Engine = 'mlx') => ({
  shape,
  engine,
  contextTokens,
  concurrency,
})
const single = (node = m4): Layout => ({ strategy: 'Single', node })
const tensor = (degree: number, link = tb4, node = m4): Layout => ({
  strategy: 'Tensor',
  nodes: Array.from({ length: degree }, () => node),
  link: speedOf(link),
})
const pipeline = (layers: number[], hopMicros = 3500, node = m4): Extract<Layout, { strategy: 'Pipeline' }> => ({
  strategy: 'Pipeline',
  stages: layers.map((count) => ({ node, layers: count })),
  hopSeconds: layers.slice(1).map(() => hopMicros * 1e-6),
})
const even = (layers: number, degree: number): number[] =>
  Array.from({ length: degree }, (_, i) => Math.floor(layers / degree) + (i < layers % degree ? 1 : 0))

/** Within the half percent that the facts allow. */
const near = (actual: number, expected: number, tolerance = 0.005) => {
  expect(actual / expected).toBeGreaterThan(1 - tolerance)
  expect(actual / expected).toBeLessThan(1 + tolerance)
}

describe('two 16 GB M4 minis over a Thunderbolt bridge (§4.1)', () => {
  const rows: [string, ModelShape, number, number, number, number, number][] = [
    ['3B 4-bit', atBits(llama3b, 4), 1.8073, 49.3, 42.05, 33.02, 33.35],
    ['3B fp16', atBits(llama3b, 16), 6.426, 15.25, 14.48, 13.23, 19.0],
    ['7B 4-bit', atBits(qwen7b, 4), 3.9774, 24.25, 22.35, 19.52, 24.7],
    ['7B 8-bit', atBits(qwen7b, 8), 7.5129, 13.18, 12.6, 11.64, 17.3],
    ['7B fp16', atBits(qwen7b, 16), 14.142, 7.1, 6.93, 6.63, 11.07],
    ['32B 4-bit', atBits(qwen32b, 4), 17.9918, 5.44, 5.34, 5.16, 7.27],
  ]
  test.each(rows)('%s decodes as in the table', (_, shape, weightsGB, one, pp2, pp2Slow, tp2) => {
    const split = even(shape.layers, 2)
    const rate = (layout: Layout) => predict(input(shape), layout).decodeTokensPerSecond
    near(weightBytesRead(shape), weightsGB * 1e9)
    near(rate(single()), one)
    near(rate(pipeline(split)), pp2)
    near(rate(pipeline(split, 10_000)), pp2Slow)
    near(rate(tensor(2)), tp2)
  })

  test('each GPU of the 7B fp16 pipeline is busy about half of the time', () => {
    for (const share of busyShares(input(atBits(qwen7b, 16)), pipeline([14, 14]))) {
      expect(share).toBeGreaterThan(0.47)
      expect(share).toBeLessThan(0.5)
    }
  })

  test('prefill gains from a pipeline only beyond one chunk of 2048 tokens', () => {
    const rate = (tokens: number, layout: Layout) => tokens / prefillSeconds(input(atBits(qwen7b, 16), tokens), layout)
    near(rate(2048, single()), 219.9)
    near(rate(2048, tensor(2)), 404.1)
    near(rate(2048, pipeline([14, 14])), 219.9)
    near(rate(8192, single()), 203.8)
    near(rate(8192, tensor(2)), 376.8)
    near(rate(8192, pipeline([14, 14])), 326.1)
  })

  test('time to first token is the prefill plus one step', () => {
    const predicted = predict(input(atBits(qwen7b, 16), 2048), single())
    near(predicted.timeToFirstTokenSeconds, 2048 / 219.9 + 1 / predicted.decodeTokensPerSecond)
  })
})

describe('unequal nodes (§4.2)', () => {
  // One efficiency of 0.70 for weights and KV, no dispatch: seconds per layer of 0.5335 GB.
  const perLayer = [273e9, 120e9, 120e9].map((bytesPerSecond) => 0.5335e9 / (bytesPerSecond * 0.7))
  const stages = (split: number[]) => split.map((layers, i) => layers * (perLayer[i] ?? 0)).filter((s) => s > 0)
  test.each([
    ['greedy', [63, 17, 0], 3.51, 5.65],
    ['memory-proportional', [50, 15, 15], 3.01, 7.11],
    ['water-filling', [44, 18, 18], 2.83, 8.08],
  ])('%s', (_, split, one, saturated) => {
    const times = stages(split)
    const hops = times.slice(1).map(() => 0.001)
    near(1 / (times.reduce((a, b) => a + b) + hops.length * 0.001), one)
    near(saturatedRate(times, hops, 1), saturated)
  })
})

describe('M3 Ultra, 80 cores (§4.3)', () => {
  const q4 = (shape: Parameters<typeof atBits>[0], weightGB: number): ModelShape => ({
    ...atBits(shape, 4),
    weightBytes: weightGB * 1e9,
  })
  const rows: [string, ModelShape, LinkClass, number, number[]][] = [
    ['Qwen2.5-32B', q4(qwen32b, 18.43), rdma, 1024, [34.04, 32.7, 30.32, 21.23, 22.89]],
    ['Llama-3.1-405B', q4(llama405b, 228.29), rdma, 1024, [2.99, 2.98, 2.96, 4.31, 6.38]],
    ['Mixtral-8x7B', q4(mixtral, 26.27), rdma, 1024, [72.04, 66.31, 57.21, 41.52, 43.4]],
    ['DeepSeek-V3.2', q4(deepseekV32, 377.44), rdma, 1024, [21.27, 20.74, 19.76, 16.18, 17.39]],
    ['Llama-4-Scout', q4(scout, 61.1), fastSync, 63, [55.14, 50.16, 42.49, 60.3, 68.68]],
  ]
  test.each(rows)('%s decodes as predicted', (_, shape, link, context, [one, pp2, pp4, tp2, tp4]) => {
    const rate = (layout: Layout) => 1 / decodeSeconds(input(shape, context), layout)
    near(rate(single(ultra)), one as number)
    near(rate(pipeline(even(shape.layers, 2), link.hopMicros, ultra)), pp2 as number)
    near(rate(pipeline(even(shape.layers, 4), link.hopMicros, ultra)), pp4 as number)
    near(rate(tensor(2, link, ultra)), tp2 as number)
    near(rate(tensor(4, link, ultra)), tp4 as number)
  })
})

describe('requests in flight (§2)', () => {
  test('a batch on gpt-oss-120b gains as computed, and never more than four', () => {
    const m2 = nodeSpeed({ chip: 'Apple M2 Ultra', gpuCores: 76 }, 192 * 2 ** 30)
    // The facts' figures take the dispatch of any mixture of experts, not the 170 µs of gpt-oss.
    const shape: ModelShape = { ...atBits(gptOss120b, 4), weightBytes: 63.4e9, architecture: 'a_moe' }
    const gain = (batch: number) =>
      aggregateRate(input(shape, 1024, batch), single(m2)) / aggregateRate(input(shape, 1024), single(m2))
    near(gain(4), 1.97, 0.05)
    near(gain(8), 2.45, 0.05)
    near(gain(32), 3.95, 0.05)
    expect(gain(512)).toBeLessThanOrEqual(4)
  })

  test('a pipeline gains from as many requests as it has stages', () => {
    const shape = atBits(qwen7b, 16)
    const rate = (concurrency: number) => aggregateRate(input(shape, 1024, concurrency), pipeline([14, 14]))
    near(rate(1), 6.93)
    expect(rate(2)).toBeGreaterThan(1.8 * rate(1))
  })

  test('layers with a window read no more of the cache than it holds', () => {
    const shape = atBits(qwen7b, 4)
    const windows = Array.from({ length: 28 }, (_, i) => (i % 2 === 0 ? 1024 : 0))
    const seconds = (contextTokens: number, change: Partial<ModelShape> = {}) =>
      decodeSeconds(input({ ...shape, ...change }, contextTokens), single())
    const windowed = seconds(16384, { kvWindowTokensPerLayer: windows })
    expect(windowed).toBeCloseTo((seconds(16384) + seconds(1024)) / 2, 6)
  })

  test('an unknown chip is marked, so that nobody shows its figures', () => {
    expect(nodeSpeed({ chip: 'AMD EPYC' }, 2 ** 34).known).toBe(false)
  })
})
