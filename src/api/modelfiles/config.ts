/** config.json: the sizes that the tensors do not tell. Models that also see or hear keep the language part in `text_config`. */
import type { ModelFiles } from './files.ts'
import { fileFault, isCount, isMap, readJsonMap } from './files.ts'

const CONFIG = 'config.json'
const MAX_CONFIG_BYTES = 10_000_000
const MAX_LAYERS = 10_000

type Fields = Readonly<Record<string, unknown>>

export interface ModelConfig {
  /** model_type: what the engine names its code by. */
  readonly architecture: string
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize: number | undefined
  readonly attentionHeads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabSize: number
  /** undefined: not said; then a missing output head tells. */
  readonly tiedEmbeddings: boolean | undefined
  readonly quantization: Quantization | undefined
  readonly experts: { readonly count: number; readonly perToken: number } | undefined
  readonly mla: MlaSizes | undefined
  /** Layers that keep no keys and values per token (linear attention, state spaces). */
  readonly isLinear: (layer: number) => boolean
}

export interface Quantization {
  readonly bits: number
  readonly groupSize: number
  /** Modules that are packed differently, by the name of the module. */
  readonly overrides: ReadonlyMap<string, { readonly bits: number; readonly groupSize: number }>
}

export interface MlaSizes {
  readonly kvLoraRank: number
  readonly ropeHeadDim: number
  readonly nopeHeadDim: number
  readonly valueHeadDim: number
  readonly indexHeadDim: number
}

/** The sizes of config.json; Invalid names the first key that is missing or makes no sense. */
export async function readConfig(model: ModelFiles): Promise<ModelConfig> {
  const whole = await readJsonMap(model, CONFIG, MAX_CONFIG_BYTES)
  const text = isMap(whole['text_config']) ? whole['text_config'] : whole
  const architecture = whole['model_type'] ?? text['model_type']
  if (typeof architecture !== 'string' || !/^[A-Za-z0-9][\w.-]{0,127}$/.test(architecture))
    throw fileFault(CONFIG, 'model_type must name the architecture')
  const size = (key: string) => positive(text, key)
  const optional = (key: string) => (text[key] === undefined || text[key] === null ? undefined : positive(text, key))
  const layers = size('num_hidden_layers')
  if (layers > MAX_LAYERS) throw fileFault(CONFIG, `num_hidden_layers is ${layers}, at most ${MAX_LAYERS}`)
  const hiddenSize = size('hidden_size')
  const attentionHeads = size('num_attention_heads')
  const mla = mlaSizes(text)
  const headDim =
    mla === undefined ? (optional('head_dim') ?? hiddenSize / attentionHeads) : mla.nopeHeadDim + mla.ropeHeadDim
  if (!isCount(headDim) || headDim === 0)
    throw fileFault(CONFIG, `hidden_size ${hiddenSize} does not divide by num_attention_heads ${attentionHeads}`)
  const tied = text['tie_word_embeddings'] ?? whole['tie_word_embeddings']
  return {
    architecture,
    layers,
    hiddenSize,
    intermediateSize: optional('intermediate_size') ?? optional('moe_intermediate_size'),
    attentionHeads,
    kvHeads: optional('num_key_value_heads') ?? attentionHeads,
    headDim,
    vocabSize: size('vocab_size'),
    tiedEmbeddings: typeof tied === 'boolean' ? tied : undefined,
    quantization: quantizationOf(whole) ?? quantizationOf(text),
    experts: expertsOf(text),
    mla,
    isLinear: linearLayers(text),
  }
}

function positive(fields: Fields, key: string): number {
  const value = fields[key]
  if (value === undefined || value === null) throw fileFault(CONFIG, `${key} is missing`)
  if (!isCount(value) || value === 0)
    throw fileFault(CONFIG, `${key} is ${JSON.stringify(value)}, must be a whole number above 0`)
  return value
}

const firstCount = (fields: Fields, keys: readonly string[]): number | undefined =>
  keys.map((key) => fields[key]).find(isCount)

function expertsOf(text: Fields): ModelConfig['experts'] {
  const count = firstCount(text, ['num_experts', 'num_local_experts', 'n_routed_experts', 'moe_num_experts'])
  if (count === undefined || count === 0) return undefined
  const perToken = firstCount(text, ['num_experts_per_tok', 'num_experts_per_token', 'moe_topk', 'moe_k']) ?? count
  return { count, perToken: Math.min(count, perToken) }
}

function mlaSizes(text: Fields): MlaSizes | undefined {
  if (!isCount(text['kv_lora_rank'])) return undefined
  return {
    kvLoraRank: positive(text, 'kv_lora_rank'),
    ropeHeadDim: positive(text, 'qk_rope_head_dim'),
    nopeHeadDim: positive(text, 'qk_nope_head_dim'),
    valueHeadDim: positive(text, 'v_head_dim'),
    indexHeadDim: firstCount(text, ['index_head_dim']) ?? 0,
  }
}

/** `layer_types` where it is given, else every layer but each n-th of `full_attention_interval`. */
function linearLayers(text: Fields): (layer: number) => boolean {
  const types = text['layer_types']
  if (Array.isArray(types)) return (layer) => types[layer] === 'linear_attention' || types[layer] === 'mamba'
  const interval = text['full_attention_interval']
  return isCount(interval) && interval > 0 ? (layer) => (layer + 1) % interval !== 0 : () => false
}

function quantizationOf(config: Fields): Quantization | undefined {
  const found = config['quantization'] ?? config['quantization_config']
  if (!isMap(found)) return undefined
  const own = packing(found)
  if (own === undefined) return undefined
  const overrides = new Map<string, { bits: number; groupSize: number }>()
  for (const [module, entry] of Object.entries(found)) {
    const other = isMap(entry) ? packing(entry, own) : undefined
    if (other !== undefined) overrides.set(module, other)
  }
  return { ...own, overrides }
}

function packing(
  fields: Fields,
  above?: { readonly bits: number; readonly groupSize: number },
): { readonly bits: number; readonly groupSize: number } | undefined {
  const bits = fields['bits'] ?? above?.bits
  const groupSize = fields['group_size'] ?? above?.groupSize ?? 64
  if (!isCount(bits) || bits === 0 || bits > 64 || !isCount(groupSize) || groupSize === 0) return undefined
  return { bits, groupSize }
}
