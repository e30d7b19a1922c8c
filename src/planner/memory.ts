/**
 * What one rank needs in bytes: weights + KV cache + runtime (facts/performance.md §3, facts/engines.md §4). Exact
 * figures from the files' headers win over the formulas. All results are whole bytes.
 */
import { costKindOf, memoryConstants } from '../api/hardware.ts'
import type { ModelShape } from '../api/model.ts'
import { kvBytesOf } from '../api/modelkv.ts'
import type { Engine, GroupStrategy, MemoryParts, Stage } from '../api/words.ts'

const GB = 1e9
/** The fake engine loads nothing: its own process. Weights and KV are still counted, so that a dry cluster plans like a real one. */
const FAKE_RUNTIME_BYTES = 64 * 2 ** 20
/**
 * While a tensor rank loads, so many whole tensors stand beside its own share (mlx-lm#1572: 25 GB over the resident
 * bytes where the largest tensor has 11; facts/engines-verified.md: 3 % of a small model).
 */
const TENSORS_WHILE_LOADING = 2
/** The shim's default prompt chunk on Metal; MLA writes its scores out for it, with a copy (facts/engines.md §4.3). */
const CHUNK_TOKENS = 512
const MLA_SCORE_BYTES = 2 * 2
/** What the process takes besides weights and cache, before any such extra. */
const PROCESS_BYTES = 1e9

export interface MemoryInput {
  readonly shape: ModelShape
  readonly engine: Engine
  readonly contextTokens: number
  readonly concurrency: number
}

/** A model's bytes by layer as prefix sums, so that the need of any stage is a subtraction. Entry i covers layers [0, i). */
export interface MemoryTerms {
  readonly input: MemoryInput
  readonly weightsBefore: readonly number[]
  readonly kvBefore: readonly number[]
  /** Embedding, output head, final norm: on every MLX rank. */
  readonly endBytes: number
  /** What a llama.cpp stage holds besides its layers when it is the first or the last. */
  readonly endStageBytes: number
  /** Exact bytes of layer tensors that every tensor rank holds whole; undefined: not known. */
  readonly replicatedBytes: number | undefined
}

export function memoryTerms(input: MemoryInput): MemoryTerms {
  const { shape, engine } = input
  const exact = shape.layerBytes?.length === shape.layers ? shape.layerBytes : undefined
  // llama.cpp without exact figures: the whole file divided evenly, ends included.
  const endBytes = exact === undefined && engine === 'llamacpp' ? 0 : (shape.nonLayerBytes ?? endBytesOf(shape))
  const layer = (shape.weightBytes - endBytes) / shape.layers
  const { contextTokens, concurrency } = input
  const chunk = engine === 'mlx' ? CHUNK_TOKENS : 0
  return {
    input,
    weightsBefore: prefixSums(shape.layers, (i) => exact?.[i] ?? layer),
    kvBefore: prefixSums(shape.layers, (i) => kvBytesOf(shape, i, contextTokens, concurrency, chunk)),
    endBytes,
    // A tied embedding is needed on both ends; untied, each end holds its own matrix.
    endStageBytes: shape.tiedEmbeddings === true ? endBytes : endBytes / 2,
    replicatedBytes: shape.replicatedBytes,
  }
}

/** The need of one rank. `stage` matters for Pipeline only; other ranks hold every layer. */
export function rankNeed(terms: MemoryTerms, strategy: GroupStrategy, degree: number, stage: Stage): MemoryParts {
  switch (strategy) {
    case 'Single':
      return parts(terms, layersWhole(terms), total(terms.kvBefore), 'Single', degree)
    case 'Tensor':
      return parts(terms, tensorWeights(terms, degree), tensorKv(terms, degree), 'Tensor', degree)
    case 'Pipeline':
      return parts(terms, stageWeights(terms, stage), between(terms.kvBefore, stage), 'Pipeline', degree)
  }
}

export const memoryBytesOf = (need: MemoryParts): number => need.weights + need.kv + need.runtime

/** Embedding and output head: V·h·bytes per parameter, twice when they are not tied. */
export function endBytesOf(shape: ModelShape): number {
  const one = (shape.vocabSize * shape.hiddenSize * shape.weightBytes) / shape.parameters
  return shape.tiedEmbeddings === true ? one : 2 * one
}

/**
 * Runtime by kind and cut; more where loading (the cache is not there yet) or MLA's prompt scores need more than that.
 * `kv`: bytes of the rank's cache.
 */
function runtimeBytes(
  { input, weightsBefore }: MemoryTerms,
  strategy: GroupStrategy,
  degree: number,
  kv: number,
): number {
  const { denseSingleOrPipeline, denseTensor, moeSingleOrPipeline, moeTensor } = memoryConstants.runtimeGB
  const { engine, shape, contextTokens } = input
  if (engine === 'fake') return FAKE_RUNTIME_BYTES
  const kind = costKindOf(shape)
  const tensor = strategy === 'Tensor'
  const base =
    GB * (kind === 'dense' ? (tensor ? denseTensor : denseSingleOrPipeline) : tensor ? moeTensor : moeSingleOrPipeline)
  if (engine !== 'mlx') return base
  const heads = shape.attentionHeads / (tensor ? degree : 1)
  const chunk = Math.min(CHUNK_TOKENS, contextTokens)
  const scores = kind === 'mla' ? PROCESS_BYTES / 2 + heads * chunk * contextTokens * MLA_SCORE_BYTES : 0
  // The largest tensor is one of three of a stack of experts, or about a quarter of a dense layer.
  const largest = total(weightsBefore) / shape.layers / (kind === 'dense' ? 4 : 3)
  const loading = tensor ? PROCESS_BYTES + TENSORS_WHILE_LOADING * largest - kv : 0
  return Math.max(base, scores, loading)
}

function parts(terms: MemoryTerms, weights: number, kv: number, strategy: GroupStrategy, degree: number): MemoryParts {
  return {
    weights: Math.round(weights),
    kv: Math.round(kv),
    runtime: Math.round(runtimeBytes(terms, strategy, degree, kv)),
  }
}

const layersWhole = (terms: MemoryTerms): number => terms.endBytes + total(terms.weightsBefore)

/** Non-layer and replicated tensors whole, the rest divided. MLA without exact figures: 12 % more is not sharded. */
function tensorWeights(terms: MemoryTerms, degree: number): number {
  const replicated = terms.replicatedBytes ?? 0
  const weights = terms.endBytes + replicated + (total(terms.weightsBefore) - replicated) / degree
  const unknownMla = terms.input.shape.attention === 'Mla' && terms.replicatedBytes === undefined
  return unknownMla ? weights * memoryConstants.mlaTensorWeightFactor : weights
}

/** MLA's latent belongs to all heads: every rank keeps it whole. */
const tensorKv = (terms: MemoryTerms, degree: number): number =>
  total(terms.kvBefore) / (terms.input.shape.attention === 'Mla' ? 1 : degree)

function stageWeights(terms: MemoryTerms, stage: Stage): number {
  const layers = between(terms.weightsBefore, stage)
  if (terms.input.engine !== 'llamacpp') return terms.endBytes + layers
  const ends = Number(stage[0] === 0) + Number(stage[1] === terms.input.shape.layers)
  return layers + (ends === 2 ? terms.endBytes : ends * terms.endStageBytes)
}

function prefixSums(count: number, of: (index: number) => number): readonly number[] {
  const sums = [0]
  for (let i = 0; i < count; i += 1) sums.push((sums[i] ?? 0) + of(i))
  return sums
}

const total = (sums: readonly number[]): number => sums.at(-1) ?? 0
const between = (sums: readonly number[], [start, end]: Stage): number => (sums[end] ?? 0) - (sums[start] ?? 0)
