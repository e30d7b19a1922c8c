/**
 * What one sequence costs in each layer: bytes per token, the window that bounds them, and constant state. The widths of
 * the layer's own key and value projections tell, so that layers may differ; config.json stands in where they are fused.
 */
import type { ModelShape } from '../model.ts'
import type { Fields, ModelConfig } from './config.ts'
import { isAttention, lastModule, layerOf, moduleOf, partOf } from './names.ts'
import { isCount, isMap } from './files.ts'
import type { Sizes } from './sizes.ts'
import type { Tensor } from './safetensors.ts'

export interface LayerCache {
  readonly tokenBytes: number
  /** Tokens that are kept at most; 0: all. */
  readonly windowTokens: number
  /** Bytes of a sequence whatever its length. */
  readonly stateBytes: number
}

/** Windows and states are told only where there are some. */
export function cacheShape(
  caches: readonly LayerCache[],
): Pick<
  ModelShape,
  'kvBytesPerTokenPerLayer' | 'slidingWindow' | 'kvWindowTokensPerLayer' | 'stateBytesPerSequencePerLayer'
> {
  const windows = caches.map(({ windowTokens }) => windowTokens)
  const states = caches.map(({ stateBytes }) => stateBytes)
  const window = Math.max(...windows)
  return {
    kvBytesPerTokenPerLayer: caches.map(({ tokenBytes }) => tokenBytes),
    ...(window === 0 ? {} : { slidingWindow: window, kvWindowTokensPerLayer: windows }),
    ...(states.every((bytes) => bytes === 0) ? {} : { stateBytesPerSequencePerLayer: states }),
  }
}

const FLOAT32 = 4

/** One entry per layer. `elementBytes`: of an activation. */
export function cachesOf(
  config: ModelConfig,
  sizes: Sizes,
  tensors: readonly Tensor[],
  elementBytes: number,
): readonly LayerCache[] {
  const layers = Array.from({ length: config.layers }, (): Tensor[] => [])
  for (const tensor of tensors) layers[layerOf(tensor.name) ?? -1]?.push(tensor)
  // Names that nobody knows: then every layer keeps what config.json says.
  const known = layers.some((layer) => layer.some(({ name }) => isAttention(name)))
  const apart = layers.some((layer) => layer.some((tensor) => isWeightOf(tensor, 'k_proj')))
  const { kinds } = config
  return layers.map((layer, index) => {
    const kind = kinds.of(index)
    const keeps = kind !== 'Recurrent' && index < config.layers - kinds.sharedLayers
    const attends = keeps && (!known || layer.some(({ name }) => isAttention(name)))
    const elements = attends ? attentionElements(config, sizes, layer, apart) : 0
    const tokenBytes = elements * elementBytes
    return {
      tokenBytes,
      windowTokens: kind === 'Sliding' && tokenBytes > 0 ? kinds.windowTokens : 0,
      stateBytes: stateBytes(config, sizes, layer, elementBytes, kind === 'Recurrent', tokenBytes),
    }
  })
}

/** Families whose code expands the latent of MLA before it caches it. */
const expandsLatent = new Set(['deepseek_v2', 'kimi_vl', 'minicpm3', 'youtu_llm'])

/** Values that one token adds. */
function attentionElements(config: ModelConfig, sizes: Sizes, layer: readonly Tensor[], apart: boolean): number {
  const { family, mla, text } = config
  const { attentionHeads, kvHeads, headDim } = sizes
  if (mla !== undefined) {
    if (expandsLatent.has(family)) return attentionHeads * (mla.nopeHeadDim + mla.ropeHeadDim + mla.valueHeadDim)
    const parts = layer.filter(({ name }) => /^kv_a_proj/.test(lastModule(name)) && partOf(name) === 'weight').length
    // The indexer of sparse attention caches its keys, and mlx-lm the same again as values.
    const indexed = layer.some(({ name }) => name.includes('.indexer.')) ? 2 * mla.indexHeadDim : 0
    return Math.max(1, parts) * (mla.kvLoraRank + mla.ropeHeadDim + indexed)
  }
  const loops = family === 'nanbeige' && isCount(text['num_loops']) ? Math.max(1, text['num_loops']) : 1
  if (apart) {
    const keys = rowsOf(layer, 'k_proj')
    // Where there is no projection for values, the keys are cached as values.
    return loops * (keys + (rowsOf(layer, 'v_proj') || keys))
  }
  const fused = layer.find((t) => isWeightOf(t, 'qkv_proj', 'query_key_value', 'c_attn', 'Wqkv', 'wqkv', 'W_pack'))
  const beside = (fused?.shape[0] ?? 0) - attentionHeads * headDim
  const most = 2 * attentionHeads * headDim
  return loops * (beside > 0 && beside <= most ? beside : 2 * kvHeads * headDim)
}

const isWeightOf = ({ name }: Tensor, ...modules: readonly string[]): boolean =>
  partOf(name) === 'weight' && modules.includes(lastModule(name)) && isAttention(name)

const rowsOf = (layer: readonly Tensor[], module: string): number =>
  layer.filter((t) => isWeightOf(t, module)).reduce((sum, { shape }) => sum + (shape.at(-2) ?? 0), 0)

/** Convolution windows and recurrent states: what `ArraysCache` holds. */
function stateBytes(
  config: ModelConfig,
  sizes: Sizes,
  layer: readonly Tensor[],
  elementBytes: number,
  recurrent: boolean,
  tokenBytes: number,
): number {
  const convolved = layer.reduce((sum, tensor) => sum + convolutionElements(tensor), 0)
  const { family, text } = config
  const { attentionHeads, headDim, hiddenSize } = sizes
  if (family === 'baichuan_m1') return tokenBytes
  if (family.startsWith('rwkv')) return (hiddenSize * headDim + 2 * hiddenSize) * elementBytes
  const decay = layer.find(({ name }) => partOf(name) === 'A_log')
  const gate = layer.find(({ name }) => partOf(name) === 'recurrent_param')
  if (decay !== undefined) return convolved * elementBytes + scanBytes(decay, text, elementBytes)
  if (gate !== undefined) return (convolved + elementsOf(gate)) * elementBytes
  const linear = recurrent && convolved === 0 && layer.some(({ name }) => /attn|attention/.test(moduleOf(name)))
  return convolved * elementBytes + (linear ? attentionHeads * headDim * headDim * FLOAT32 : 0)
}

/** A causal convolution over K tokens keeps K − 1 of them. */
function convolutionElements({ name, shape }: Tensor): number {
  if (!/conv/.test(moduleOf(name)) || partOf(name) !== 'weight' || shape.length !== 3) return 0
  const [channels = 0, ...rest] = shape
  return channels * (Math.max(...rest) - 1)
}

/** The state of a scan: `A_log` has one entry per value of it (mamba), or one per head (mamba2 and gated delta rules). */
function scanBytes(decay: Tensor, text: Fields, elementBytes: number): number {
  const heads = elementsOf(decay)
  if (decay.shape.filter((dim) => dim > 1).length > 1) return heads * elementBytes
  const count = (...keys: readonly string[]) => keys.map((key) => text[key]).find(isCount)
  const delta = isMap(text['linear_attn_config']) ? text['linear_attn_config']['head_dim'] : undefined
  if (isCount(delta)) return heads * delta ** 2 * FLOAT32
  const [keyDim, valueDim] = [count('linear_key_head_dim'), count('linear_value_head_dim')]
  // Gated delta rules name their module so; mamba's is a mixer.
  if (keyDim !== undefined && valueDim !== undefined && /linear_attn/.test(decay.name))
    return heads * keyDim * valueDim * FLOAT32
  const width = count('mamba_d_head', 'mamba_head_dim', 'hidden_size_per_head', 'head_dim') ?? 0
  const state = count('ssm_state_size', 'mamba_d_state', 'state_size') ?? 0
  return heads * width * state * FLOAT32
}

const elementsOf = ({ shape }: Tensor): number => shape.reduce((product, dim) => product * dim, 1)
