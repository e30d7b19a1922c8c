/**
 * config.json: the sizes that the tensors do not tell. Models that also see or hear keep the language part in
 * `text_config`. What mlx-lm's own classes leave to defaults may be missing here; sizes.ts reads it off the tensors.
 */
import type { ModelFiles } from './files.ts'
import { fileFault, isCount, isMap, readJsonMap } from './files.ts'
import type { LayerKinds } from './layerkinds.ts'
import { layerKinds } from './layerkinds.ts'

export const CONFIG = 'config.json'
const MAX_CONFIG_BYTES = 10_000_000
const MAX_LAYERS = 10_000

export type Fields = Readonly<Record<string, unknown>>

export interface ModelConfig {
  /** model_type: what the engine names its code by. */
  readonly architecture: string
  /** model_type of the language part: what computes the layers. The same where there is only one part. */
  readonly family: string
  readonly layers: number
  readonly hiddenSize: number | undefined
  readonly intermediateSize: number | undefined
  readonly attentionHeads: number | undefined
  readonly kvHeads: number | undefined
  readonly headDim: number | undefined
  readonly vocabSize: number | undefined
  /** undefined: not said; then a missing output head tells. */
  readonly tiedEmbeddings: boolean | undefined
  readonly quantization: Quantization | undefined
  readonly experts: { readonly count: number; readonly perToken: number } | undefined
  readonly mla: MlaSizes | undefined
  readonly kinds: LayerKinds
  /** The language part itself, for sizes that only one family has. */
  readonly text: Fields
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
  const text = ['text_config', 'llm_config', 'language_config'].map((key) => whole[key]).find(isMap) ?? whole
  const architecture = typeName(whole['model_type'] ?? text['model_type'])
  const family = typeName(text['model_type'] ?? architecture)
  const size = (...keys: readonly string[]) => optional(text, keys)
  const layers = size('num_hidden_layers', 'n_layer', 'n_layers', 'num_layers') ?? patternLength(text)
  if (layers === undefined) throw fileFault(CONFIG, 'num_hidden_layers is missing')
  if (layers > MAX_LAYERS) throw fileFault(CONFIG, `num_hidden_layers is ${layers}, at most ${MAX_LAYERS}`)
  const tied = text['tie_word_embeddings'] ?? whole['tie_word_embeddings']
  const attention = isMap(text['attn_config']) ? text['attn_config'] : {}
  return {
    architecture,
    family,
    layers,
    hiddenSize: size('hidden_size', 'n_embd', 'd_model', 'model_dim', 'dim'),
    intermediateSize: size('intermediate_size', 'ffn_hidden_size', 'n_inner', 'block_ff_dim', 'moe_intermediate_size'),
    attentionHeads: size('num_attention_heads', 'n_head', 'n_heads', 'num_heads'),
    kvHeads: size('num_key_value_heads', 'num_attention_groups', 'n_head_kv') ?? optional(attention, ['kv_n_heads']),
    headDim: size('head_dim', 'kv_channels'),
    vocabSize: size('vocab_size', 'padded_vocab_size'),
    tiedEmbeddings: typeof tied === 'boolean' ? tied : undefined,
    quantization: quantizationOf(whole) ?? quantizationOf(text),
    experts: expertsOf(text),
    mla: mlaSizes(text),
    kinds: layerKinds(family, text, layers),
    text,
  }
}

function typeName(value: unknown): string {
  if (typeof value !== 'string' || !/^[A-Za-z0-9][\w.-]{0,127}$/.test(value))
    throw fileFault(CONFIG, 'model_type must name the architecture')
  return value
}

/** The first of the keys that says something; Invalid when that is no whole number above 0. */
function optional(fields: Fields, keys: readonly string[]): number | undefined {
  for (const key of keys) {
    const value = fields[key]
    // Some conversions keep a list where every layer has a size of its own (openelm): the tensors tell.
    if (value === undefined || value === null || Array.isArray(value)) continue
    if (!isCount(value) || value === 0)
      throw fileFault(CONFIG, `${key} is ${JSON.stringify(value)}, must be a whole number above 0`)
    return value
  }
  return undefined
}

function positive(fields: Fields, key: string): number {
  const value = optional(fields, [key])
  if (value === undefined) throw fileFault(CONFIG, `${key} is missing`)
  return value
}

/** nemotron_h: one letter per layer. */
function patternLength(text: Fields): number | undefined {
  const pattern = text['hybrid_override_pattern']
  return typeof pattern === 'string' && pattern !== '' ? pattern.length : undefined
}

const firstCount = (fields: Fields, keys: readonly string[]): number | undefined =>
  keys.map((key) => fields[key]).find(isCount)

function expertsOf(text: Fields): ModelConfig['experts'] {
  const inner = isMap(text['ffn_config']) ? text['ffn_config'] : {}
  const fields = { ...inner, ...text }
  const counts = ['num_experts', 'num_local_experts', 'n_routed_experts', 'moe_num_experts']
  const count = firstCount(fields, counts)
  if (count === undefined || count === 0) return undefined
  const used = ['num_experts_per_tok', 'num_experts_per_token', 'moe_topk', 'moe_top_k', 'moe_k', 'top_k_experts']
  const perToken = firstCount(fields, used) ?? count
  return { count, perToken: Math.min(count, perToken) }
}

function mlaSizes(text: Fields): MlaSizes | undefined {
  if (!isCount(text['kv_lora_rank']) || text['kv_lora_rank'] === 0) return undefined
  const ropeHeadDim = optional(text, ['qk_rope_head_dim']) ?? 64
  return {
    kvLoraRank: text['kv_lora_rank'],
    ropeHeadDim,
    nopeHeadDim: positive(text, 'qk_nope_head_dim'),
    // minicpm3 has no key for it: hidden_size / num_attention_heads.
    valueHeadDim:
      optional(text, ['v_head_dim']) ?? positive(text, 'hidden_size') / positive(text, 'num_attention_heads'),
    indexHeadDim: firstCount(text, ['index_head_dim']) ?? 0,
  }
}

function quantizationOf(config: Fields): Quantization | undefined {
  const found = config['quantization'] ?? config['quantization_config']
  if (!isMap(found)) return undefined
  const own = packing(found) ?? packing(compressedTensors(found))
  if (own === undefined) return undefined
  const overrides = new Map<string, { bits: number; groupSize: number }>()
  for (const [module, entry] of Object.entries(found)) {
    const other = isMap(entry) ? packing(entry, own) : undefined
    if (other !== undefined) overrides.set(module, other)
  }
  return { ...own, overrides }
}

/** The form of the compressed-tensors format: `config_groups.group_0.weights.num_bits`. */
function compressedTensors(found: Fields): Fields {
  const groups = isMap(found['config_groups']) ? found['config_groups'] : {}
  const group = isMap(groups['group_0']) ? groups['group_0'] : {}
  const weights = isMap(group['weights']) ? group['weights'] : {}
  return { bits: weights['num_bits'], group_size: weights['group_size'] ?? undefined }
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
