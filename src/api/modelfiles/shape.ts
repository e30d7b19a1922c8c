/**
 * A model's shape from its file headers: exact bytes per layer, of what every pipeline rank holds, and of what every
 * tensor rank holds whole (facts/engines.md §4; agrees with mlx's active memory). Exact for the llama, qwen2 and qwen3
 * families and others of the same layout; mixtures, MLA and hybrids by the same general rules.
 */
import { OpError } from '../../lib/errors.ts'
import type { ModelShape } from '../model.ts'
import type { ModelConfig } from './config.ts'
import { readConfig } from './config.ts'
import type { ModelFiles } from './files.ts'
import { fileFault } from './files.ts'
import type { Tensor } from './safetensors.ts'
import { readTensors } from './safetensors.ts'

export type { ModelFiles } from './files.ts'

/** The shape of the model; reads headers only. OpError Invalid names the file and what is wrong with it. */
export async function shapeOfModel(model: ModelFiles): Promise<ModelShape> {
  const names = model.files.map((f) => f.name)
  if (!names.includes('config.json') && names.some((name) => name.endsWith('.gguf')))
    throw new OpError(
      'Unimplemented',
      `read model file ${names.find((n) => n.endsWith('.gguf'))}: GGUF headers cannot be read yet; use a safetensors model or a Model with spec.shape`,
    )
  const config = await readConfig(model)
  return shapeFrom(config, await readTensors(model))
}

/** Pure: the sizes of the configuration and the tensors as a shape. */
export function shapeFrom(config: ModelConfig, all: readonly Tensor[]): ModelShape {
  const { layers } = config
  const hasHead = all.some(({ name }) => isHead(name))
  const tiedEmbeddings = config.tiedEmbeddings ?? !hasHead
  const tensors = all.filter(({ name }) => isLoaded(name, layers) && !(tiedEmbeddings && isHead(name)))
  const layerBytes = bytesPerLayer(tensors, layers)
  const nonLayerBytes = sum(tensors.filter(({ name }) => layerOf(name) === undefined))
  const scaled = new Set(tensors.filter(({ name }) => name.endsWith('.scales')).map(({ name }) => moduleOf(name)))
  const counted = tensors.map((tensor) => ({ tensor, count: parametersIn(tensor, config, scaled) }))
  const parameters = counted.reduce((total, { count }) => total + count, 0)
  const inExperts = counted.filter(({ tensor }) => isExpert(tensor.name)).reduce((total, { count }) => total + count, 0)
  const idle = config.experts === undefined ? 0 : 1 - config.experts.perToken / config.experts.count
  const { architecture, hiddenSize, intermediateSize, attentionHeads, kvHeads, headDim, vocabSize } = config
  const elementBytes = activationBytes(tensors)
  return {
    architecture,
    layers,
    hiddenSize,
    ...(intermediateSize === undefined ? {} : { intermediateSize }),
    attentionHeads,
    kvHeads,
    headDim,
    vocabSize,
    tiedEmbeddings,
    parameters,
    activeParameters: Math.round(parameters - inExperts * idle),
    weightBytes: nonLayerBytes + layerBytes.reduce((total, bytes) => total + bytes, 0),
    quantization: quantizationShape(config, elementBytes),
    ...(config.experts === undefined ? {} : { experts: config.experts }),
    attention: config.mla === undefined ? 'Full' : 'Mla',
    layerBytes,
    nonLayerBytes,
    replicatedBytes: sum(tensors.filter(({ name }) => layerOf(name) !== undefined && isReplicated(name))),
    kvBytesPerTokenPerLayer: layerBytes.map((_, layer) => (config.isLinear(layer) ? 0 : kvBytes(config, elementBytes))),
  }
}

const sum = (tensors: readonly Tensor[]): number => tensors.reduce((total, { bytes }) => total + bytes, 0)
const moduleOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('.')))

/** `model.layers.7.self_attn.q_proj.weight` → 7; undefined outside of the layers. */
function layerOf(name: string): number | undefined {
  const match = /(?:^|\.)layers\.(\d+)\./.exec(name)
  return match === null ? undefined : Number(match[1])
}

const otherTower =
  /(?:^|\.)(?:vision\w*|visual|audio\w*|multi_modal_projector|mm_projector|image_newline|embed_vision|embed_audio)(?:\.|$)/
const isHead = (name: string): boolean => /(?:^|\.)lm_head\./.test(name)

/** Whether the engine keeps the tensor: not eyes and ears, not draft heads, not what it computes itself. */
function isLoaded(name: string, layers: number): boolean {
  if (/(?:^|\.)mtp\./.test(name) || otherTower.test(name) || name.endsWith('rotary_emb.inv_freq')) return false
  return (layerOf(name) ?? 0) < layers
}

/** Norms, routers, the low-rank inputs of MLA, and the biases that are added after the sum over ranks. */
const isReplicated = (name: string): boolean =>
  /norm/.test(name) ||
  /\.(?:mlp|block_sparse_moe|feed_forward)\.(?:gate|router|shared_expert_gate)\./.test(name) ||
  /\.(?:kv_a_|q_a_)/.test(name) ||
  /\.(?:o_proj|down_proj)\.bias$/.test(name)

const isExpert = (name: string): boolean => /\.(?:switch_mlp|experts)\./.test(name) && !/shared_expert/.test(name)

function bytesPerLayer(tensors: readonly Tensor[], layers: number): readonly number[] {
  const bytes = new Array<number>(layers).fill(0)
  for (const tensor of tensors) {
    const layer = layerOf(tensor.name)
    if (layer !== undefined) bytes[layer] = (bytes[layer] ?? 0) + tensor.bytes
  }
  const empty = bytes.indexOf(0)
  if (empty >= 0)
    throw fileFault('config.json', `num_hidden_layers is ${layers}, but no weights of layer ${empty} are in the files`)
  return bytes
}

/** Weights that a tensor stands for: packed ones unpacked, scales and zero points none. */
function parametersIn(tensor: Tensor, config: ModelConfig, scaled: ReadonlySet<string>): number {
  const { name, dtype, shape } = tensor
  const module = moduleOf(name)
  const part = name.slice(module.length + 1)
  const elements = shape.reduce((product, dim) => product * dim, 1)
  if (part === 'scales' || part === 'qzeros' || part === 'g_idx' || part === 'weight_scale_inv') return 0
  if (part === 'biases' && scaled.has(module)) return 0
  const packed = (part === 'weight' && dtype === 'U32' && scaled.has(module)) || part === 'qweight'
  if (!packed) return elements
  const bits = config.quantization?.overrides.get(module)?.bits ?? config.quantization?.bits
  if (bits === undefined) throw fileFault('config.json', `quantization is missing, but tensor "${name}" is packed`)
  return Math.round((elements * 32) / bits)
}

/** Bytes of one activation: what comes out of the embedding, whose scales (or weights) have that type. */
function activationBytes(tensors: readonly Tensor[]): 2 | 4 {
  const embedding = tensors.filter(({ name }) => /(?:^|\.)embed_tokens\./.test(name))
  const source = embedding.find(({ name }) => name.endsWith('.scales')) ?? embedding[0]
  return source?.dtype === 'F32' ? 4 : 2
}

function quantizationShape(config: ModelConfig, elementBytes: number): NonNullable<ModelShape['quantization']> {
  if (config.quantization === undefined) return { bits: 8 * elementBytes }
  return { bits: config.quantization.bits, groupSize: config.quantization.groupSize }
}

/** KV cache of one token in one layer. MLA keeps the latent, except that deepseek_v2's code expands it. */
function kvBytes({ architecture, attentionHeads, kvHeads, headDim, mla }: ModelConfig, elementBytes: number): number {
  if (mla === undefined) return 2 * kvHeads * headDim * elementBytes
  if (architecture === 'deepseek_v2')
    return attentionHeads * (mla.nopeHeadDim + mla.ropeHeadDim + mla.valueHeadDim) * elementBytes
  return (mla.kvLoraRank + mla.ropeHeadDim + mla.indexHeadDim) * elementBytes
}
