/**
 * What each layer keeps of what it saw: everything, the last tokens only, or a state of constant size. As mlx-lm 0.32.2
 * makes its caches (`make_cache`): a window in a configuration means nothing where the engine's code does not use it.
 * test/e2e/mlx/families.test.ts compares with the engine itself.
 */
import { isCount, isMap } from './files.ts'

export type LayerKind = 'Full' | 'Sliding' | 'Recurrent'

export interface LayerKinds {
  readonly of: (layer: number) => LayerKind
  /** Tokens that a Sliding layer keeps. */
  readonly windowTokens: number
  /** The last layers, that read the keys and values of an earlier one and keep none. */
  readonly sharedLayers: number
}

type Fields = Readonly<Record<string, unknown>>

/** Families whose sliding layers keep no more than their window; the others keep all tokens whatever they attend to. */
const bounded: Readonly<Record<string, { readonly window?: number; readonly pattern?: number }>> = {
  afmoe: {},
  baichuan_m1: {},
  cohere2: { window: 4096, pattern: 4 },
  exaone4: {},
  exaone_moe: {},
  gemma3_text: { window: 512, pattern: 6 },
  gemma3n: {},
  gemma3n_text: {},
  gemma4_text: { window: 512, pattern: 5 },
  gpt_oss: { window: 128, pattern: 2 },
  iquestcoder: {},
  laguna: {},
  llama: {},
  mellum: {},
  mimo_v2_flash: {},
  ministral3: {},
  mistral: {},
  muse_glimmer: {},
  muse_spark: {},
  muse_spark_text: {},
  olmo3: { pattern: 4 },
  plamo3: { window: 2048, pattern: 8 },
  recurrent_gemma: {},
  spark2_5: {},
  step3p5: { window: 512 },
}

export function layerKinds(family: string, text: Fields, layers: number): LayerKinds {
  const rule = Object.hasOwn(bounded, family) ? bounded[family] : undefined
  const windowTokens =
    ['sliding_window', 'sliding_window_size', 'window_size', 'attention_window_size']
      .map((key) => text[key])
      .find((value): value is number => isCount(value) && value > 0) ?? rule?.window
  const said = saidKind(family, text, layers, rule?.pattern)
  const slides = rule !== undefined && windowTokens !== undefined
  const shared = text['num_kv_shared_layers']
  return {
    of(layer) {
      const kind = said(layer)
      return kind === 'Sliding' && !slides ? 'Full' : kind
    },
    windowTokens: slides ? windowTokens : 0,
    sharedLayers: isCount(shared) ? Math.min(shared, layers) : 0,
  }
}

function saidKind(family: string, text: Fields, layers: number, pattern?: number): (layer: number) => LayerKind {
  if (/^rwkv|^mamba|^falcon_mamba/.test(family)) return () => 'Recurrent'
  if (family === 'recurrent_gemma') return () => 'Sliding'
  const { sliding_window_pattern: own, sliding_window_layers: listed, hybrid_layer_pattern: flags } = text
  const { layer_types: types, full_attention_interval: interval, layer_group_size: group } = text
  if (typeof own === 'string' && own !== '') return (layer) => (own[layer % own.length] === 'L' ? 'Sliding' : 'Full')
  if (isCount(own) && own > 0) return everyNthFull(own, 'Sliding')
  if (Array.isArray(listed)) return (layer) => (listed.includes(layer) ? 'Sliding' : 'Full')
  if (Array.isArray(flags)) return (layer) => (flags[layer] === 1 ? 'Sliding' : 'Full')
  if (Array.isArray(types)) return (layer) => kindOfType(types[layer])
  const delta = isMap(text['linear_attn_config']) ? text['linear_attn_config']['kda_layers'] : undefined
  // Counted from 1.
  if (Array.isArray(delta)) return (layer) => (delta.includes(layer + 1) ? 'Recurrent' : 'Full')
  if (isCount(interval) && interval > 0) return everyNthFull(interval, 'Recurrent')
  if (isCount(group) && group > 0) {
    const nth = everyNthFull(group, 'Recurrent')
    return (layer) => (layer >= Math.floor(layers / group) * group ? 'Full' : nth(layer))
  }
  return pattern === undefined ? () => 'Full' : everyNthFull(pattern, 'Sliding')
}

const everyNthFull =
  (n: number, other: LayerKind) =>
  (layer: number): LayerKind =>
    (layer + 1) % n === 0 ? 'Full' : other

function kindOfType(type: unknown): LayerKind {
  const text = typeof type === 'string' ? type : ''
  if (/sliding/.test(text)) return 'Sliding'
  return /linear|mamba|conv|recurrent/.test(text) ? 'Recurrent' : 'Full'
}
