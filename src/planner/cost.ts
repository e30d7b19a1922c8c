/**
 * How fast would it be? The roofline of facts/performance.md §2: a decode step reads weights and KV cache at the
 * chip's bandwidth, pays GPU dispatch per layer, and waits for links. Times in seconds, rates in tokens per second.
 */
import {
  DEFAULT_DECODE_EFFICIENCY,
  GPT_OSS_DISPATCH_MICROS_PER_LAYER,
  batchConstants,
  chips,
  costKindOf,
  dispatchMicrosPerLayer,
  findChip,
  kvReadEfficiencies,
  kvReadEfficiency,
  prefillConstants,
  quantizedReadEfficiency,
} from '../api/hardware.ts'
import type { ModelShape } from '../api/model.ts'
import { kvTokenBytes } from '../api/modelkv.ts'
import type { NodeInfo } from '../api/node.ts'
import type { Engine, Predicted } from '../api/words.ts'
import { endBytesOf } from './memory.ts'

const MICRO = 1e-6
/** Bytes of one activation value, fp16. */
const ACTIVATION_BYTES = 2

/**
 * Rules beside the table of hardwaretable.ts, each from several rows of test/fixtures/throughput-train.csv; no row has a
 * rule of its own.
 */
const calibration = {
  /** llama.cpp's low-bit kernels do not fill both dies of an Ultra: 5 rows, and +26 to +42 % in facts/performance.md §5. */
  llamacppUltraBelow5Bit: 0.85,
  /** gemma2 and gemma3 norm before and after each half of a layer (measured: gemma2, 51 and 56 µs over a dense layer). */
  doubleNormDispatchMicros: 98,
  /** Prompt arithmetic, of the 0.80 that MLX reaches with dense weights: rows of 7 chips. */
  llamacppPrefill: 0.85,
  /** Gathering tokens by expert costs: 21 rows of 2 models. */
  moePrefill: 0.91,
}

/** Where a chip's figures are from: measured, a listed chip's default, the bandwidth class of its name, or nowhere. */
export type SpeedBasis = 'Measured' | 'Listed' | 'Class' | 'Unknown'

/** What a chip does per second. */
export interface NodeSpeed {
  readonly bytesPerSecond: number
  readonly flops: number
  readonly decodeEfficiency: number
  readonly decodeEfficiencyBelow5Bit?: number
  /** Two dies in one. */
  readonly ultra: boolean
  /** M1 and M2: their ALUs fall behind on weights below 5 bits, by how much is not settled. */
  readonly old: boolean
  readonly rdmaCapable: boolean
  readonly basis: SpeedBasis
  /** false: nothing is known of the chip; the figures serve to compare, never to predict. */
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

/**
 * The speed of a node by its chip. A chip that is not listed takes the figures of the nearest generation of its class
 * (`Apple M7 Pro`: the newest Pro); what is not even named like one gets nominal figures and says so.
 */
export function nodeSpeed(info: NodeInfo, memoryBytes: number): NodeSpeed {
  const listed = findChip(info.chip, info.gpuCores, memoryBytes)
  const chip = listed ?? findChip(chipOfClass(info.chip) ?? '', info.gpuCores, memoryBytes)
  if (chip === undefined)
    return {
      bytesPerSecond: 100e9,
      flops: 4e12,
      decodeEfficiency: DEFAULT_DECODE_EFFICIENCY,
      ultra: false,
      old: false,
      rdmaCapable: false,
      basis: 'Unknown',
      known: false,
    }
  return {
    bytesPerSecond: chip.bandwidthGBps * 1e9,
    flops: chip.fp16Tflops * 1e12,
    decodeEfficiency: chip.decodeEfficiency,
    ...(chip.decodeEfficiencyBelow5Bit === undefined
      ? {}
      : { decodeEfficiencyBelow5Bit: chip.decodeEfficiencyBelow5Bit }),
    ultra: chip.name.endsWith('Ultra'),
    old: /^Apple M[12]\b/.test(chip.name),
    rdmaCapable: chip.rdmaCapable,
    basis: listed === undefined ? 'Class' : listed.efficiencyBasis === 'measured' ? 'Measured' : 'Listed',
    known: true,
  }
}

/** The listed chip of the same class (none, Pro, Max, Ultra) and the nearest generation, the newer of two. */
export function chipOfClass(name: string): string | undefined {
  const wanted = chipName.exec(name)
  if (wanted === null) return undefined
  const [, generation, kind = ''] = wanted
  const distance = (chip: string) => Math.abs(Number(chipName.exec(chip)?.[1]) - Number(generation))
  const same = chips.map((c) => c.name).filter((c) => (chipName.exec(c)?.[2] ?? '') === kind)
  return same.length === 0 ? undefined : same.reduce((best, c) => (distance(c) <= distance(best) ? c : best))
}
const chipName = /^Apple M(\d+)(?: (Pro|Max|Ultra))?$/

/** One request whose KV cache holds contextTokens tokens; aggregate with `concurrency` requests in flight. */
export function predict(input: CostInput, layout: Layout): Predicted {
  const step = decodeSeconds(input, layout)
  const prefill = prefillSeconds(input, layout)
  return {
    decodeTokensPerSecond: 1 / step,
    prefillTokensPerSecond: input.contextTokens / prefill,
    timeToFirstTokenSeconds: prefill + step,
    aggregateTokensPerSecond: aggregateRate(input, layout),
    saturatedTokensPerSecond: saturatedTokensPerSecond(input, layout),
  }
}

/** Seconds of one decode step of `batch` requests; for a pipeline, until its token leaves the last stage. */
export function decodeSeconds(input: CostInput, layout: Layout, batch = 1): number {
  switch (layout.strategy) {
    case 'Single':
      return dispatchSeconds(input) + weightSeconds(input, layout.node, batch) + kvSeconds(input, layout.node, batch)
    case 'Tensor':
      return (
        dispatchSeconds(input) +
        tensorReadSeconds(input, layout.nodes, batch) +
        allReduceSeconds(input, layout.nodes.length, layout.link, batch)
      )
    case 'Pipeline':
      return sum(stageSeconds(input, layout.stages, batch)) + sum(layout.hopSeconds)
  }
}

/** The terms of one decode step of one request on one node: what a search adds up again and again. */
export interface SeatSeconds {
  readonly dispatch: number
  /** All weights, or all of the cache, read by this node alone. */
  readonly weights: number
  readonly kv: number
  /** One layer of them all: what a pipeline split is made from. */
  readonly perLayer: number
}

export function seatSeconds(input: CostInput, node: NodeSpeed): SeatSeconds {
  const dispatch = dispatchSeconds(input)
  const weights = weightSeconds(input, node, 1)
  const kv = kvSeconds(input, node, 1)
  return { dispatch, weights, kv, perLayer: (dispatch + weights + kv) / input.shape.layers }
}

/** One decode step of one request on one rank of a tensor group, without its links; MLA's latent is not divided. */
export const tensorSeconds = ({ shape }: CostInput, degree: number, { dispatch, weights, kv }: SeatSeconds): number =>
  dispatch + weights / degree + kv / (shape.attention === 'Mla' ? 1 : degree)

/** All all-reduces of one decode step over this link. */
export function allReduceSeconds(input: CostInput, degree: number, link: LinkSpeed, batch = 1): number {
  const latency = 2 * input.shape.layers * link.allReduceSeconds * (1 + link.growthPerRank * (degree - 2))
  return latency + (batch * reducedBytesPerToken(input, degree)) / link.bytesPerSecond
}

/** Share of the time that each GPU works while one request is in flight, by position. */
export function busyShares(input: CostInput, layout: Layout): readonly number[] {
  const step = decodeSeconds(input, layout)
  switch (layout.strategy) {
    case 'Single':
      return [1]
    case 'Tensor':
      return layout.nodes.map((node) => tensorSeconds(input, layout.nodes.length, seatSeconds(input, node)) / step)
    case 'Pipeline':
      return stageSeconds(input, layout.stages, 1).map((seconds) => seconds / step)
  }
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

/**
 * Tokens per second with as many requests in flight as help: one batch at every stage, and the gain that batching adds
 * at most, which is taken to be the same for every layout.
 */
export function saturatedTokensPerSecond(input: CostInput, layout: Layout): number {
  const one =
    layout.strategy === 'Pipeline'
      ? saturatedRate(stageSeconds(input, layout.stages, 1), layout.hopSeconds, 1)
      : 1 / decodeSeconds(input, layout)
  return one * batchConstants.maxGainUntilProbed
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
  return shape.layers * Math.max(table[costKindOf(shape)], dispatchMicrosAtLeast(shape)) * MICRO
}

/** Architectures whose layers launch more kernels than their kind says. */
function dispatchMicrosAtLeast(shape: ModelShape): number {
  if (shape.architecture === 'gpt_oss' && bitsOf(shape) < 5) return GPT_OSS_DISPATCH_MICROS_PER_LAYER
  return /^gemma[23]/.test(shape.architecture) ? calibration.doubleNormDispatchMicros : 0
}

/** Reading the weights once serves the whole batch, until the arithmetic takes longer. */
function weightSeconds(input: CostInput, node: NodeSpeed, batch: number): number {
  const bits = bitsOf(input.shape)
  const efficiency = bits < 5 ? lowBitEfficiency(input, node) : node.decodeEfficiency
  const bytes = weightBytesRead(input.shape) * expertSpread(input.shape, batch)
  const read = bytes / (node.bytesPerSecond * efficiency * (quantizedReadEfficiency[bits] ?? 1))
  if (batch <= 1) return read
  const active = input.shape.activeParameters ?? input.shape.parameters
  return Math.max(read, (2 * active * batch) / (batchConstants.smallBatchComputeEfficiency * node.flops))
}

/** Dequantisation below 5 bits is bound by the ALUs on some chips, and by llama.cpp's kernels on Ultra chips. */
function lowBitEfficiency({ engine }: CostInput, node: NodeSpeed): number {
  if (node.decodeEfficiencyBelow5Bit !== undefined) return node.decodeEfficiencyBelow5Bit
  const factor = engine === 'llamacpp' && node.ultra ? calibration.llamacppUltraBelow5Bit : 1
  return node.decodeEfficiency * factor
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
  return (batch * kvBytesRead(shape, contextTokens)) / (node.bytesPerSecond * kvReadEfficiency(shape))
}

/** Of one request: every token that its layers still hold, and their constant states. */
function kvBytesRead(shape: ModelShape, tokens: number): number {
  const {
    kvBytesPerTokenPerLayer: exact,
    kvWindowTokensPerLayer: windows,
    stateBytesPerSequencePerLayer: states,
  } = shape
  if (exact === undefined && windows === undefined && states === undefined)
    return shape.layers * tokens * kvTokenBytes(shape, 0)
  let bytes = 0
  for (let layer = 0; layer < shape.layers; layer += 1) {
    const window = windows?.[layer] ?? 0
    bytes += (window === 0 ? tokens : Math.min(tokens, window)) * kvTokenBytes(shape, layer) + (states?.[layer] ?? 0)
  }
  return bytes
}

/** The slowest rank sets the pace. MLA's latent is not divided over the ranks. */
function tensorReadSeconds(input: CostInput, nodes: readonly NodeSpeed[], batch: number): number {
  const degree = nodes.length
  const kvShare = input.shape.attention === 'Mla' ? 1 : degree
  return Math.max(
    ...nodes.map((node) => weightSeconds(input, node, batch) / degree + kvSeconds(input, node, batch) / kvShare),
  )
}

const reducedBytesPerToken = ({ shape }: CostInput, degree: number): number =>
  2 * shape.layers * ((2 * (degree - 1)) / degree) * shape.hiddenSize * ACTIVATION_BYTES

function stageSeconds(input: CostInput, stages: readonly PipelineStage[], batch: number): readonly number[] {
  const whole = new Map<NodeSpeed, number>()
  return stages.map(({ node, layers }) => {
    let seconds = whole.get(node)
    if (seconds === undefined) {
      seconds = dispatchSeconds(input) + weightSeconds(input, node, batch) + kvSeconds(input, node, batch)
      whole.set(node, seconds)
    }
    return (layers / input.shape.layers) * seconds
  })
}

/** Compute of one prompt token on one node: the weights' products, and attention to the tokens before it. */
function promptTokenSeconds(input: CostInput, node: NodeSpeed): number {
  const { shape, contextTokens } = input
  const headDim = shape.attention === 'Mla' ? prefillConstants.mlaHeadDim : shape.headDim
  const active = shape.activeParameters ?? shape.parameters
  const attention = 2 * shape.layers * shape.attentionHeads * headDim * contextTokens
  const rate = node.flops * promptEfficiency(input)
  return (2 * active) / rate + attention / (rate * attentionShare(shape))
}

function promptEfficiency({ shape, engine }: CostInput): number {
  const kind = costKindOf(shape)
  if (kind === 'mla') return prefillConstants.computeEfficiencyMla
  const factor =
    (kind === 'moe' ? calibration.moePrefill : 1) * (engine === 'llamacpp' ? calibration.llamacppPrefill : 1)
  return prefillConstants.computeEfficiency * factor
}

/** Wide heads have no fused kernel: prompts pay for it in the same proportion as the reading of the cache does. */
const attentionShare = (shape: ModelShape): number =>
  shape.attention !== 'Mla' && shape.headDim >= 256 ? kvReadEfficiencies.headDim256 / kvReadEfficiencies.otherwise : 1

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
