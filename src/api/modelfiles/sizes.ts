/** The sizes of a model whole: what config.json says, and where it leaves something to the engine's defaults, the tensors. */
import type { ModelConfig } from './config.ts'
import { CONFIG } from './config.ts'
import { fileFault } from './files.ts'
import { isEmbedding, lastModule, layerOf, partOf } from './names.ts'
import type { Tensor } from './safetensors.ts'

export interface Sizes {
  readonly hiddenSize: number
  readonly attentionHeads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabSize: number
}

/** OpError Invalid names the key that is missing and that no tensor tells. */
export function sizesOf(config: ModelConfig, tensors: readonly Tensor[]): Sizes {
  const { mla } = config
  const rows = (module: string) => inLayers(tensors, module)?.shape.at(-2)
  const hiddenSize = config.hiddenSize ?? outside(tensors, (t) => t.shape.length === 1)?.shape[0]
  if (hiddenSize === undefined) throw fileFault(CONFIG, 'hidden_size is missing')
  const vocabSize = config.vocabSize ?? outside(tensors, ({ name }) => isEmbedding(name))?.shape[0]
  if (vocabSize === undefined) throw fileFault(CONFIG, 'vocab_size is missing')
  const headDim =
    mla === undefined
      ? (config.headDim ?? ratio(hiddenSize, config.attentionHeads) ?? inLayers(tensors, 'q_norm')?.shape[0])
      : mla.nopeHeadDim + mla.ropeHeadDim
  // State spaces have no heads of attention; one stands for them.
  const scans = tensors.some(({ name }) => partOf(name) === 'A_log')
  if (headDim === undefined && !scans)
    throw fileFault(CONFIG, 'num_attention_heads is missing, and no tensor tells the width of a head')
  const width = headDim ?? hiddenSize
  const heads = (of: string) => whole((rows(of) ?? 0) / width)
  const attentionHeads = config.attentionHeads ?? heads('q_proj') ?? (scans ? 1 : undefined)
  if (attentionHeads === undefined) throw fileFault(CONFIG, 'num_attention_heads is missing')
  const kvHeads = config.kvHeads ?? (mla === undefined ? heads('k_proj') : undefined) ?? attentionHeads
  return { hiddenSize, vocabSize, headDim: width, attentionHeads, kvHeads: Math.min(kvHeads, attentionHeads) }
}

function ratio(hiddenSize: number, heads: number | undefined): number | undefined {
  if (heads === undefined) return undefined
  if (hiddenSize % heads !== 0)
    throw fileFault(CONFIG, `hidden_size ${hiddenSize} does not divide by num_attention_heads ${heads}`)
  return hiddenSize / heads
}

const whole = (value: number): number | undefined => (Number.isInteger(value) && value > 0 ? value : undefined)

const inLayers = (tensors: readonly Tensor[], module: string): Tensor | undefined =>
  tensors.find(({ name }) => layerOf(name) !== undefined && lastModule(name) === module && partOf(name) === 'weight')

const outside = (tensors: readonly Tensor[], holds: (tensor: Tensor) => boolean): Tensor | undefined =>
  tensors.find((t) => layerOf(t.name) === undefined && partOf(t.name) === 'weight' && holds(t))
