/** A model's shape from GGUF headers, as llama.cpp loads it: bytes per block, and KV cache in 16 bit (its default). */
import type { ModelShape } from '../model.ts'
import type { LayerCache } from './caches.ts'
import { cacheShape } from './caches.ts'
import type { ModelFiles } from './files.ts'
import { fileFault, isCount } from './files.ts'
import type { GgufModel, GgufTensor } from './gguf.ts'
import { packingOfType, readGguf } from './gguf.ts'
import { isExpert, isHead, isReplicated, layerOf } from './names.ts'
import { bytesPerLayer, mostly } from './packing.ts'

const MAX_LAYERS = 10_000
const KV_ELEMENT_BYTES = 2
const STATE_ELEMENT_BYTES = 4
const splitName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** Architectures whose n-th layer sees everything and whose others slide, where the header does not say which. */
const slidingPattern: Readonly<Record<string, number>> = {
  afmoe: 4,
  cohere2: 4,
  exaone4: 4,
  gemma2: 2,
  gemma3: 6,
  gemma3n: 5,
  'gpt-oss': 2,
  olmo2: 4,
}

/** The GGUF files of the folder that hold weights of a language model (no projector of a vision tower). */
export const ggufFiles = (model: ModelFiles): readonly string[] =>
  model.files.map(({ name }) => name).filter((name) => /^[^/]*\.gguf$/.test(name) && !/^mmproj|[-.]mmproj/i.test(name))

/** The files of the one model in the folder, in order. OpError Invalid when there are several models, or files lack. */
export function ggufParts(model: ModelFiles): readonly string[] {
  const groups = new Map<string, string[]>()
  for (const name of ggufFiles(model)) {
    const split = splitName.exec(name)
    const key = split === null ? name : `${split[1]}-of-${split[3]}`
    groups.set(key, [...(groups.get(key) ?? []), name])
  }
  const [parts = [], ...others] = groups.values()
  if (others.length > 0)
    throw fileFault(
      parts[0] ?? '',
      `the folder holds ${groups.size} GGUF models (${[...groups.values()].map((g) => g[0]).join(', ')}); name one that holds a single one, or one file by https://`,
    )
  const sorted = [...parts].sort()
  const total = Number(splitName.exec(sorted[0] ?? '')?.[3] ?? 1)
  const prefix = splitName.exec(sorted[0] ?? '')?.[1]
  for (let number = 1; prefix !== undefined && number <= total; number += 1) {
    const name = `${prefix}-${String(number).padStart(5, '0')}-of-${String(total).padStart(5, '0')}.gguf`
    if (sorted[number - 1] !== name) throw fileFault(name, `the file is missing; the model has ${total} files`)
  }
  return sorted
}

export const shapeOfGguf = async (model: ModelFiles): Promise<ModelShape> =>
  shapeFromGguf(await readGguf(model, ggufParts(model)))

/** Pure: metadata and tensors as a shape. Invalid names the first key that is missing or makes no sense. */
export function shapeFromGguf(model: GgufModel): ModelShape {
  const keys = metadataOf(model)
  const { architecture } = keys
  const layers = keys.must('block_count') - (keys.count('nextn_predict_layers') ?? 0)
  if (layers < 1 || layers > MAX_LAYERS) throw fileFault(model.file, `block_count leaves ${layers} layers`)
  const tensors = model.tensors.filter(
    ({ name }) => (layerOf(name) ?? 0) < layers && !/rope_freqs\.weight$|rope_factors/.test(name),
  )
  const tiedEmbeddings = !tensors.some(({ name }) => isHead(name))
  const hiddenSize = keys.must('embedding_length')
  const attentionHeads = keys.largest('attention.head_count') ?? 1
  const kvHeads = keys.largest('attention.head_count_kv') ?? attentionHeads
  const intermediateSize = keys.largest('feed_forward_length') ?? keys.largest('expert_feed_forward_length')
  const vocabSize = vocabularyOf(model, keys)
  const expertCount = keys.count('expert_count') ?? 0
  const experts = {
    count: expertCount,
    perToken: Math.min(expertCount, keys.count('expert_used_count') ?? expertCount),
  }
  const held = tensors.map((t) => ({ ...t, ...weightsOf(t) }))
  const parameters = held.reduce((sum, t) => sum + t.parameters, 0)
  const routed = held.filter(({ name }) => isExpert(name)).reduce((sum, t) => sum + t.parameters, 0)
  const layerBytes = bytesPerLayer(tensors, layers, model.file)
  const nonLayerBytes = bytesIn(tensors.filter(({ name }) => layerOf(name) === undefined))
  const idle = expertCount === 0 ? 0 : 1 - experts.perToken / expertCount
  const latent = keys.count('attention.kv_lora_rank') !== undefined
  const { bits } = mostly(held.map((t) => ({ ...t, dtype: '' })))
  return {
    architecture,
    format: 'Gguf',
    layers,
    hiddenSize,
    attentionHeads,
    kvHeads: Math.min(kvHeads, attentionHeads),
    headDim: keys.count('attention.key_length') ?? Math.max(1, Math.floor(hiddenSize / attentionHeads)),
    vocabSize,
    ...(intermediateSize === undefined ? {} : { intermediateSize }),
    tiedEmbeddings,
    parameters,
    activeParameters: Math.round(parameters - routed * idle),
    weightBytes: nonLayerBytes + layerBytes.reduce((sum, bytes) => sum + bytes, 0),
    quantization: { bits },
    ...(expertCount === 0 ? {} : { experts }),
    attention: latent ? 'Mla' : 'Full',
    layerBytes,
    nonLayerBytes,
    replicatedBytes: bytesIn(tensors.filter(({ name }) => layerOf(name) !== undefined && isReplicated(name))),
    ...cacheShape(cachesOf(keys, layers, tensors, { hiddenSize, attentionHeads })),
  }
}

const bytesIn = (tensors: readonly GgufTensor[]): number => tensors.reduce((sum, { bytes }) => sum + bytes, 0)

function weightsOf({ type, shape }: GgufTensor) {
  const { bits, blockWeights } = packingOfType(type)
  const parameters = shape.reduce((product, dim) => product * dim, 1)
  return { parameters, bits, groupSize: blockWeights > 1 ? blockWeights : undefined }
}

interface Metadata {
  readonly architecture: string
  readonly must: (key: string) => number
  readonly count: (key: string) => number | undefined
  /** The value of a layer where each has one of its own. */
  readonly ofLayer: (key: string, layer: number) => number | boolean | undefined
  readonly largest: (key: string) => number | undefined
  readonly has: (key: string) => boolean
}

function metadataOf({ file, metadata }: GgufModel): Metadata {
  const architecture = metadata.get('general.architecture')
  if (typeof architecture !== 'string' || !/^[A-Za-z0-9][\w.-]{0,127}$/.test(architecture))
    throw fileFault(file, 'general.architecture must name the architecture')
  const value = (key: string) => metadata.get(`${architecture}.${key}`)
  const fault = (key: string) =>
    fileFault(
      file,
      `${architecture}.${key} is ${JSON.stringify(value(key)) ?? 'missing'}, must be a whole number above 0`,
    )
  const count = (key: string) => {
    const found = value(key)
    if (found === undefined || Array.isArray(found)) return undefined
    if (!isCount(found)) throw fault(key)
    return found
  }
  return {
    architecture,
    count,
    must(key) {
      const found = count(key)
      if (found === undefined || found === 0) throw fault(key)
      return found
    },
    ofLayer(key, layer) {
      const found = value(key)
      const own: unknown = Array.isArray(found) ? found[layer] : found
      return typeof own === 'boolean' || isCount(own) ? own : undefined
    },
    largest(key) {
      const found = value(key)
      const all = (Array.isArray(found) ? found : [found]).filter(isCount).filter((n) => n > 0)
      return all.length === 0 ? undefined : all.reduce((a, b) => Math.max(a, b))
    },
    has: (key) => value(key) !== undefined,
  }
}

function vocabularyOf({ file, metadata, tensors }: GgufModel, keys: Metadata): number {
  const tokens = metadata.get('tokenizer.ggml.tokens')
  const rows = tensors.find(({ name }) => name === 'token_embd.weight')?.shape[1]
  const size = keys.count('vocab_size') ?? rows ?? (Array.isArray(tokens) ? tokens.length : undefined)
  if (size === undefined || size === 0) throw fileFault(file, `${keys.architecture}.vocab_size is missing`)
  return size
}

interface Widths {
  readonly hiddenSize: number
  readonly attentionHeads: number
}

/** KV = n_kv · (k_len + v_len) per token and layer (facts/engines.md §6.5); with the latent of MLA there are no values. */
function cachesOf(
  keys: Metadata,
  layers: number,
  tensors: readonly GgufTensor[],
  widths: Widths,
): readonly LayerCache[] {
  const byLayer = Array.from({ length: layers }, (): GgufTensor[] => [])
  for (const tensor of tensors) byLayer[layerOf(tensor.name) ?? -1]?.push(tensor)
  const window = keys.count('attention.sliding_window') ?? 0
  const plainWidth = Math.floor(widths.hiddenSize / widths.attentionHeads)
  return byLayer.map((layer, index): LayerCache => {
    const has = (pattern: RegExp) => layer.some(({ name }) => pattern.test(name))
    const recurrent = has(/\.(?:ssm_|time_mix_|shortconv)/)
    const attends = has(/\.attn_k(?:v_a\w*)?\.|\.attn_k\./) || (!recurrent && has(/\.attn_/))
    const slides = window > 0 && slidesAt(keys, index)
    const length = (which: 'key' | 'value') => {
      const own = slides ? keys.count(`attention.${which}_length_swa`) : undefined
      return own ?? keys.count(`attention.${which}_length`) ?? plainWidth
    }
    const heads = Number(keys.ofLayer('attention.head_count_kv', index) ?? widths.attentionHeads)
    const values = keys.has('attention.key_length_mla') ? 0 : length('value')
    return {
      tokenBytes: attends ? heads * (length('key') + values) * KV_ELEMENT_BYTES : 0,
      windowTokens: attends && slides ? window : 0,
      stateBytes: recurrent ? stateElements(keys, widths, has) * STATE_ELEMENT_BYTES : 0,
    }
  })
}

function slidesAt(keys: Metadata, layer: number): boolean {
  const own = keys.ofLayer('attention.sliding_window_pattern', layer)
  if (typeof own === 'boolean') return own
  const pattern = own ?? (Object.hasOwn(slidingPattern, keys.architecture) ? slidingPattern[keys.architecture] : 1) ?? 1
  // A number is a rule for all layers; 1 is no rule that we know, so nothing slides.
  return pattern > 1 && (layer + 1) % pattern !== 0
}

function stateElements(keys: Metadata, { hiddenSize }: Widths, has: (pattern: RegExp) => boolean): number {
  if (has(/\.shortconv/)) return ((keys.count('shortconv.l_cache') ?? 1) - 1) * hiddenSize
  if (has(/\.time_mix_/)) return hiddenSize * (keys.count('wkv.head_size') ?? 64) + 2 * hiddenSize
  const inner = keys.count('ssm.inner_size') ?? 0
  const state = keys.count('ssm.state_size') ?? 0
  const convolved = inner + 2 * (keys.count('ssm.group_count') ?? 0) * state
  return ((keys.count('ssm.conv_kernel') ?? 1) - 1) * convolved + state * inner
}
