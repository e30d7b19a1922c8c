/** What a rank needs: golden figures of facts/performance.md §4.1, and the rules behind them. */
import { describe, expect, test } from 'vitest'
import type { ModelShape } from '../../../src/api/model.ts'
import type { Engine, GroupStrategy } from '../../../src/api/words.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../../../src/planner/memory.ts'
import { atBits, deepseekV32, llama3b, llama405b, mixtral, qwen32b, qwen7b } from './models.ts'

const needGB = (shape: ModelShape, strategy: GroupStrategy, engine: Engine = 'mlx', contextTokens = 8192) => {
  const terms = memoryTerms({ shape, engine, contextTokens, concurrency: 1 })
  const degree = strategy === 'Single' ? 1 : 2
  return memoryBytesOf(rankNeed(terms, strategy, degree, [0, Math.ceil(shape.layers / 2)])) / 1e9
}

test.each([
  ['3B 4-bit', atBits(llama3b, 4), 3.75, 2.37, 2.48, 2.98],
  ['3B fp16', atBits(llama3b, 16), 8.37, 4.68, 5.08, 5.58],
  ['7B 8-bit', atBits(qwen7b, 8), 9.56, 5.28, 5.86, 6.36],
  ['7B fp16', atBits(qwen7b, 16), 16.7, 8.85, 9.94, 10.44],
  ['32B 4-bit', atBits(qwen32b, 4), 21.58, 11.29, 11.73, 12.23],
])(
  '%s needs what the table says (single, llama.cpp pipeline, mlx pipeline, tensor)',
  (_, shape, one, even, mlx, tp) => {
    expect(needGB(shape, 'Single')).toBeCloseTo(one, 2)
    expect(needGB(shape, 'Pipeline', 'llamacpp')).toBeCloseTo(even, 2)
    expect(needGB(shape, 'Pipeline')).toBeCloseTo(mlx, 2)
    expect(needGB(shape, 'Tensor')).toBeCloseTo(tp, 2)
  },
)

test('32B at 4096 tokens: 10.75 GB divided evenly, 11.19 with the ends on every rank', () => {
  expect(needGB(atBits(qwen32b, 4), 'Pipeline', 'llamacpp', 4096)).toBeCloseTo(10.75, 2)
  expect(needGB(atBits(qwen32b, 4), 'Pipeline', 'mlx', 4096)).toBeCloseTo(11.19, 2)
})

describe('exact figures from the headers win', () => {
  const shape: ModelShape = {
    ...atBits(qwen7b, 4),
    layers: 4,
    layerBytes: [100, 200, 300, 400],
    nonLayerBytes: 50,
    replicatedBytes: 20,
    kvBytesPerTokenPerLayer: [1, 1, 2, 2],
  }
  const terms = (engine: Engine) => memoryTerms({ shape, engine, contextTokens: 256, concurrency: 1 })
  test('an mlx stage holds its layers and every non-layer tensor', () => {
    expect(rankNeed(terms('mlx'), 'Pipeline', 2, [0, 3])).toMatchObject({ weights: 650, kv: 4 * 256 })
    expect(rankNeed(terms('mlx'), 'Pipeline', 2, [3, 4])).toMatchObject({ weights: 450, kv: 2 * 256 })
  })
  test('a llama.cpp stage holds its own end only', () => {
    expect(rankNeed(terms('llamacpp'), 'Pipeline', 3, [0, 1]).weights).toBe(125)
    expect(rankNeed(terms('llamacpp'), 'Pipeline', 3, [1, 2]).weights).toBe(200)
    expect(rankNeed(terms('llamacpp'), 'Pipeline', 1, [0, 4]).weights).toBe(1050)
  })
  test('a tensor rank holds replicated layer tensors whole and divides the rest', () => {
    expect(rankNeed(terms('mlx'), 'Tensor', 2, [0, 4])).toMatchObject({ weights: 50 + 20 + 490, kv: 3 * 256 })
  })
})

describe('rules', () => {
  const runtime = (shape: ModelShape, strategy: GroupStrategy, engine: Engine = 'mlx') =>
    rankNeed(memoryTerms({ shape, engine, contextTokens: 1, concurrency: 1 }), strategy, 2, [0, 1]).runtime
  test('the cache grows in steps of 256 tokens per request, and no further than a window', () => {
    const kv = (contextTokens: number, concurrency: number, change: Partial<ModelShape> = {}) =>
      rankNeed(
        memoryTerms({ shape: { ...atBits(qwen7b, 4), ...change }, engine: 'llamacpp', contextTokens, concurrency }),
        'Single',
        1,
        [0, 28],
      ).kv
    const token = 57_344
    expect(kv(1, 3)).toBe(768 * token)
    expect(kv(8192, 2)).toBe(16384 * token)
    const windows = Array.from({ length: 28 }, (_, i) => (i % 2 === 0 ? 1024 : 0))
    expect(kv(8192, 2, { kvWindowTokensPerLayer: windows })).toBe((2 * (1024 + 8192) * token) / 2)
    const states = Array.from({ length: 28 }, () => 1000)
    expect(kv(256, 2, { stateBytesPerSequencePerLayer: states })).toBe(512 * token + 2 * 28 * 1000)
  })
  test('runtime by strategy and kind of model', () => {
    expect(runtime(atBits(qwen7b, 4), 'Single')).toBe(1e9)
    expect(runtime(atBits(qwen7b, 4), 'Tensor')).toBe(1.5e9)
    expect(runtime(atBits(mixtral, 4), 'Tensor')).toBe(2.5e9)
    expect(runtime(atBits(deepseekV32, 4), 'Pipeline')).toBe(1e9)
    expect(runtime(atBits(qwen7b, 4), 'Tensor', 'fake')).toBe(64 * 2 ** 20)
  })
  test('MLA keeps its latent whole on every tensor rank', () => {
    const terms = memoryTerms({ shape: atBits(deepseekV32, 4), engine: 'mlx', contextTokens: 1024, concurrency: 1 })
    expect(rankNeed(terms, 'Tensor', 4, [0, 61]).kv).toBe(1024 * 61 * 1152)
    expect(rankNeed(terms, 'Tensor', 4, [0, 61]).weights).toBeGreaterThan(1.12 * (377e9 / 4))
  })
  test('a tensor rank has room for the whole tensors that stand beside it while it loads, before its cache is there', () => {
    const tensor = (contextTokens: number) =>
      rankNeed(
        memoryTerms({ shape: atBits(deepseekV32, 4), engine: 'mlx', contextTokens, concurrency: 1 }),
        'Tensor',
        4,
        [0, 61],
      )
    const largestTensor = 377.4e9 / 61 / 3
    const short = tensor(256)
    expect(short.runtime + short.kv).toBeGreaterThan(1e9 + 1.9 * largestTensor)
    expect(tensor(32768).runtime).toBeLessThan(short.runtime)
    expect(runtime(atBits(llama405b, 4), 'Tensor')).toBeGreaterThan(1.5e9)
  })
  test('MLA writes the scores of a prompt chunk out: long contexts need more than the runtime of their kind', () => {
    const single = (contextTokens: number) =>
      rankNeed(
        memoryTerms({ shape: atBits(deepseekV32, 4), engine: 'mlx', contextTokens, concurrency: 1 }),
        'Single',
        1,
        [0, 61],
      )
    expect(single(256).runtime).toBe(1e9)
    expect(single(32768).runtime / 1e9).toBeCloseTo(0.5 + (128 * 512 * 32768 * 4) / 1e9, 2)
  })
})
