/**
 * How fast would it be? The roofline of facts/performance.md §2: a decode step reads weights and KV cache at the
 * chip's bandwidth, pays GPU dispatch per layer, and waits for links. Times in seconds, rates in tokens per second.
 */
import {
  DEFAULT_DECODE_EFFICIENCY,
  GPT_OSS_DISPATCH_MICROS_PER_LAYER,
  batchConstants,
  costKindOf,
  dispatchMicrosPerLayer,
  findChip,
  kvReadEfficiency,
  prefillConstants,
  quantizedReadEfficiency,
} from '../api/hardware.ts'
import type { ModelShape } from '../api/model.ts'
import type { NodeInfo } from '../api/node.ts'
import type { Engine, Predicted } from '../api/words.ts'
import { endBytesOf, kvBytesPerToken } from './memory.ts'

const MICRO = 1e-6
/** Bytes of one activation value, fp16. */
const ACTIVATION_BYTES = 2

/** What a chip does per second. */
export interface NodeSpeed {
  readonly bytesPerSecond: number
  readonly flops: number
  readonly decodeEfficiency: number
  readonly decodeEfficiencyBelow5Bit?: number
  /** false: the chip is not in the table; the figures serve to compare, never to predict. */
  readonly known: boolean
}

/** The slowest link that a group uses, in the runtime's own time, not the wire's. */
export interface LinkSpeed {
  readonly allReduceSeconds: number
  readonly growthPerRank: number
  readonly bytesPerSecond: number
}

export interface CostInput {
  readonly shape: ModelShape
  readonly engine: Engine
  readonly contextTokens: number
  readonly concurrency: number
}

export interface PipelineStage {
  readonly node: NodeSpeed
  readonly layers: number
}

export type Layout =
  | { readonly strategy: 'Single'; readonly node: NodeSpeed }
  | { readonly strategy: 'Tensor'; readonly nodes: readonly NodeSpeed[]; readonly link: LinkSpeed }
  /** `hopSeconds[i]`: from stage i to stage i + 1. */
  | {
      readonly strategy: 'Pipeline'
      readonly stages: readonly PipelineStage[]
      readonly hopSeconds: readonly number[]
    }

/** The speed of a node by its chip; an unknown chip gets nominal figures and says so. */
export function nodeSpeed(info: NodeInfo, memoryBytes: number): NodeSpeed {
  const chip = findChip(info.chip, info.gpuCores, memoryBytes)
  if (chip === undefined)
    return { bytesPerSecond: 100e9, flops: 4e12, decodeEfficiency: DEFAULT_DECODE_EFFICIENCY, known: false }
  return {
    bytesPerSecond: chip.bandwidthGBps * 1e9,
    flops: chip.fp16Tflops * 1e12,
    decodeEfficiency: chip.decodeEfficiency,
    ...(chip.decodeEfficiencyBelow5Bit === undefined
      ? {}
      : { decodeEfficiencyBelow5Bit: chip.decodeEfficiencyBelow5Bit }),
    known: true,
  }
}

/** One request whose KV cache holds contextTokens tokens; aggregate with `concurrency` requests in flight. */
export function predict(input: CostInput, layout: Layout): Predicted {
  const step = decodeSeconds(input, layout)
  const prefill = prefillSeconds(input, layout)
  return {
    decodeTokensPerSecond: 1 / step,
    prefillTokensPerSecond: input.contextTokens / prefill,
    timeToFirstTokenSeconds: prefill + step,
    aggregateTokensPerSecond: aggregateRate(input, layout),
  }
}

/** Seconds of one decode step of `batch` requests; for a pipeline, until its token leaves the last stage. */
export function decodeSeconds(input: CostInput, layout: Layout, batch = 1): number {
  switch (layout.strategy) {
    case 'Single':
      return dispatchSeconds(input) + weightSeconds(input, layout.node, batch) + kvSeconds(input, layout.node, batch)
    case 'Tensor':
      return (
        dispatchSeconds(input) + tensorReadSeconds(input, layout.nodes, batch) + reduceSeconds(input, layout, batch)
      )
    case 'Pipeline':
      return sum(stageSeconds(input, layout.stages, batch)) + sum(layout.hopSeconds)
  }
}

/** Seconds that one layer takes on a node in a decode step of one request: what a pipeline split is made from. */
export const layerSeconds = (input: CostInput, node: NodeSpeed): number =>
  (dispatchSeconds(input) + weightSeconds(input, node, 1) + kvSeconds(input, node, 1)) / input.shape.layers

/** Share of the time that each stage's GPU works while one request is in flight, first stage first. */
export function busyShares(input: CostInput, layout: Extract<Layout, { strategy: 'Pipeline' }>): readonly number[] {
  const step = decodeSeconds(input, layout)
  return stageSeconds(input, layout.stages, 1).map((seconds) => seconds / step)
}

/** Seconds until a prompt of contextTokens is in the cache. */
export function prefillSeconds(input: CostInput, layout: Layout): number {
  const tokens = input.contextTokens
  switch (layout.strategy) {
    case 'Single':
      return tokens * promptTokenSeconds(input, layout.node)
    case 'Tensor': {
      const degree = layout.nodes.length
      const compute = Math.max(...layout.nodes.map((node) => promptTokenSeconds(input, node))) / degree
      const mesh = degree > 2 ? prefillConstants.meshBandwidthFactor : 1
      return tokens * (compute + reducedBytesPerToken(input, degree) / (layout.link.bytesPerSecond * mesh))
    }
    case 'Pipeline': {
      // Chunks follow each other through the stages: the first pays every stage, the others the slowest.
      const chunks = Math.ceil(tokens / prefillConstants.chunkTokens)
      const stages = layout.stages.map(
        ({ node, layers }) => ((tokens / chunks) * promptTokenSeconds(input, node) * layers) / input.shape.layers,
      )
      return sum(stages) + (chunks - 1) * Math.max(...stages)
    }
  }
}

/** Tokens per second of all requests in flight together. What a batch adds is capped until a probe has shown more. */
export function aggregateRate(input: CostInput, layout: Layout): number {
  const inFlight = input.concurrency
  if (layout.strategy !== 'Pipeline') {
    const one = 1 / decodeSeconds(input, layout)
    return Math.min(inFlight / decodeSeconds(input, layout, inFlight), one * batchConstants.maxGainUntilProbed)
  }
  const stages = layout.stages.length
  if (inFlight < stages) {
    const slowest = Math.max(...stageSeconds(input, layout.stages, 1))
    return inFlight / (decodeSeconds(input, layout) + (inFlight - 1) * slowest)
  }
  const batch = inFlight / stages
  const one = saturatedRate(stageSeconds(input, layout.stages, 1), layout.hopSeconds, 1)
  const batched = saturatedRate(stageSeconds(input, layout.stages, batch), layout.hopSeconds, batch)
  return Math.min(batched, one * batchConstants.maxGainUntilProbed)
}

/** A pipeline with at least as many batches in flight as it has stages: the slowest stage and its hop set the pace. */
export const saturatedRate = (stages: readonly number[], hopSeconds: readonly number[], batch: number): number =>
  batch / (Math.max(...stages) + Math.max(0, ...hopSeconds))

/** Bytes that a decode step reads of the weights: the active share, without the input embedding (a look-up) when untied. */
export function weightBytesRead(shape: ModelShape): number {
  const active = (shape.weightBytes * (shape.activeParameters ?? shape.parameters)) / shape.parameters
  return shape.tiedEmbeddings === true ? active : active - endBytesOf(shape) / 2
}

/** Whole bits per weight, from the quantisation or from the bytes (scales and biases are in them). */
export const bitsOf = (shape: ModelShape): number =>
  shape.quantization?.bits ?? Math.floor((shape.weightBytes * 8) / shape.parameters)

function dispatchSeconds({ shape, engine }: CostInput): number {
  const table = dispatchMicrosPerLayer[engine === 'llamacpp' ? 'llamacpp' : 'mlx']
  const gptOss = shape.architecture === 'gpt_oss' && engine !== 'llamacpp' && bitsOf(shape) < 5
  const micros = gptOss ? GPT_OSS_DISPATCH_MICROS_PER_LAYER : table[costKindOf(shape)]
  return shape.layers * micros * MICRO
}

/** Reading the weights once serves the whole batch, until the arithmetic takes longer. */
function weightSeconds(input: CostInput, node: NodeSpeed, batch: number): number {
  const bits = bitsOf(input.shape)
  const efficiency = bits < 5 ? (node.decodeEfficiencyBelow5Bit ?? node.decodeEfficiency) : node.decodeEfficiency
  const bytes = weightBytesRead(input.shape) * expertSpread(input.shape, batch)
  const read = bytes / (node.bytesPerSecond * efficiency * (quantizedReadEfficiency[bits] ?? 1))
  if (batch <= 1) return read
  const active = input.shape.activeParameters ?? input.shape.parameters
  return Math.max(read, (2 * active * batch) / (batchConstants.smallBatchComputeEfficiency * node.flops))
}

/** A batch wakes more experts than one request does: factor on the bytes that one request reads. */
function expertSpread(shape: ModelShape, batch: number): number {
  const { count = 0, perToken = 0 } = shape.experts ?? {}
  if (batch <= 1 || count === 0 || perToken === 0) return 1
  const share = perToken / count
  const { moeSharedFraction } = batchConstants
  return moeSharedFraction + ((1 - moeSharedFraction) / share) * (1 - (1 - share) ** batch)
}

function kvSeconds({ shape, contextTokens }: CostInput, node: NodeSpeed, batch: number): number {
  const bytesPerToken = sum(shape.kvBytesPerTokenPerLayer ?? []) || shape.layers * kvBytesPerToken(shape, 0)
  return (batch * contextTokens * bytesPerToken) / (node.bytesPerSecond * kvReadEfficiency(shape))
}

/** The slowest rank sets the pace. MLA's latent is not divided over the ranks. */
function tensorReadSeconds(input: CostInput, nodes: readonly NodeSpeed[], batch: number): number {
  const degree = nodes.length
  const kvShare = input.shape.attention === 'Mla' ? 1 : degree
  return Math.max(
    ...nodes.map((node) => weightSeconds(input, node, batch) / degree + kvSeconds(input, node, batch) / kvShare),
  )
}

/** Two all-reduces per layer: latency α(t) plus their bytes. */
function reduceSeconds(input: CostInput, layout: Extract<Layout, { strategy: 'Tensor' }>, batch: number): number {
  const degree = layout.nodes.length
  const { allReduceSeconds, growthPerRank, bytesPerSecond } = layout.link
  const latency = 2 * input.shape.layers * allReduceSeconds * (1 + growthPerRank * (degree - 2))
  return latency + (batch * reducedBytesPerToken(input, degree)) / bytesPerSecond
}

const reducedBytesPerToken = ({ shape }: CostInput, degree: number): number =>
  2 * shape.layers * ((2 * (degree - 1)) / degree) * shape.hiddenSize * ACTIVATION_BYTES

function stageSeconds(input: CostInput, stages: readonly PipelineStage[], batch: number): readonly number[] {
  const { layers: all } = input.shape
  return stages.map(
    ({ node, layers }) =>
      (layers / all) * (dispatchSeconds(input) + weightSeconds(input, node, batch) + kvSeconds(input, node, batch)),
  )
}

/** Compute of one prompt token on one node. */
function promptTokenSeconds({ shape, contextTokens }: CostInput, node: NodeSpeed): number {
  const mla = shape.attention === 'Mla'
  const headDim = mla ? prefillConstants.mlaHeadDim : shape.headDim
  const active = shape.activeParameters ?? shape.parameters
  const flop = 2 * active + 2 * shape.layers * shape.attentionHeads * headDim * contextTokens
  const efficiency = mla ? prefillConstants.computeEfficiencyMla : prefillConstants.computeEfficiency
  return flop / (node.flops * efficiency)
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
