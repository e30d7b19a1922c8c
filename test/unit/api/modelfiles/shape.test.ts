import { describe, expect, test } from 'vitest'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { validate } from '../../../../src/api/validate.ts'
import { manifestOf } from '../manifests.ts'
import type { TensorSpec } from './folder.ts'
import {
  folder,
  json,
  LAYER_PARAMETERS,
  llama,
  llamaConfig,
  llamaLayer,
  llamaOuter,
  OUTER_PARAMETERS,
  safetensors,
} from './folder.ts'

const shapeOf = (config: object, tensors: Readonly<Record<string, TensorSpec>>) =>
  shapeOfModel(folder({ 'config.json': json(config), 'model.safetensors': safetensors(tensors) }))

describe('a plain model', () => {
  test('every byte is in a layer or outside of them', async () => {
    const shape = await shapeOf(llamaConfig, llama())
    expect(shape).toEqual({
      architecture: 'llama',
      layers: 2,
      hiddenSize: 8,
      intermediateSize: 16,
      attentionHeads: 4,
      kvHeads: 2,
      headDim: 2,
      vocabSize: 32,
      tiedEmbeddings: false,
      parameters: 2 * LAYER_PARAMETERS + OUTER_PARAMETERS,
      activeParameters: 2 * LAYER_PARAMETERS + OUTER_PARAMETERS,
      weightBytes: 2 * (2 * LAYER_PARAMETERS + OUTER_PARAMETERS),
      quantization: { bits: 16 },
      attention: 'Full',
      layerBytes: [2 * LAYER_PARAMETERS, 2 * LAYER_PARAMETERS],
      nonLayerBytes: 2 * OUTER_PARAMETERS,
      replicatedBytes: 2 * 2 * 2 * 8,
      kvBytesPerTokenPerLayer: [2 * 2 * 2 * 2, 2 * 2 * 2 * 2],
    })
    expect(validate(manifestOf('Model', { spec: { source: 'file:a' }, status: { shape } }))).toEqual([])
  })
  test('float32 activations double the cache', async () => {
    expect((await shapeOf(llamaConfig, llama('F32'))).kvBytesPerTokenPerLayer).toEqual([32, 32])
  })
  test('a head of its own width', async () => {
    expect((await shapeOf({ ...llamaConfig, head_dim: 16 }, llama())).headDim).toBe(16)
  })
  test('the same sizes whether in one file or in several with an index', async () => {
    const several = {
      'config.json': json(llamaConfig),
      'model-1.safetensors': safetensors({ ...llamaOuter(), ...llamaLayer(0) }),
      'model-2.safetensors': safetensors(llamaLayer(1)),
      'model.safetensors.index.json': json({
        weight_map: {
          ...Object.fromEntries(
            Object.keys({ ...llamaOuter(), ...llamaLayer(0) }).map((n) => [n, 'model-1.safetensors']),
          ),
          ...Object.fromEntries(Object.keys(llamaLayer(1)).map((n) => [n, 'model-2.safetensors'])),
        },
      }),
    }
    expect(await shapeOfModel(folder(several))).toEqual(await shapeOf(llamaConfig, llama()))
  })
})

describe('what the engine does not keep is not counted', () => {
  test.each([
    ['a vision tower', 'vision_tower.encoder.layers.0.mlp.weight'],
    ['eyes inside the model', 'model.visual.blocks.0.weight'],
    ['ears', 'audio_tower.layers.0.weight'],
    ['draft heads', 'mtp.layers.0.weight'],
    ['layers behind the last one', 'model.layers.2.mlp.up_proj.weight'],
    ['rotary tables', 'model.layers.0.self_attn.rotary_emb.inv_freq'],
  ])('%s', async (_, name) => {
    expect(await shapeOf(llamaConfig, { ...llama(), [name]: ['F16', 1000] })).toEqual(
      await shapeOf(llamaConfig, llama()),
    )
  })
  test('an output head that is tied to the embedding, even where the file has one', async () => {
    const tied = await shapeOf({ ...llamaConfig, tie_word_embeddings: true }, llama())
    expect(tied).toMatchObject({ tiedEmbeddings: true, nonLayerBytes: 2 * (OUTER_PARAMETERS - 32 * 8) })
  })
  test('where the configuration does not say, a missing head means tied', async () => {
    const { tie_word_embeddings: _, ...silent } = llamaConfig
    const { 'lm_head.weight': __, ...headless } = llama()
    expect((await shapeOf(silent, llama())).tiedEmbeddings).toBe(false)
    expect((await shapeOf(silent, headless)).tiedEmbeddings).toBe(true)
  })
})

describe('quantised weights', () => {
  /** 4 bit, group 32: 32 columns are 4 words, one scale and one bias per row. */
  const packed = (rows: number, bits: number): Record<string, TensorSpec> => ({
    weight: ['U32', rows, bits],
    scales: ['F16', rows, 1],
    biases: ['F16', rows, 1],
  })
  const module = (name: string, rows: number, bits = 4) =>
    Object.fromEntries(Object.entries(packed(rows, bits)).map(([part, tensor]) => [`${name}.${part}`, tensor]))
  const config = {
    ...llamaConfig,
    num_hidden_layers: 1,
    quantization: { bits: 4, group_size: 32, 'model.embed_tokens': { bits: 8, group_size: 32 } },
  }
  const tensors: Record<string, TensorSpec> = {
    ...module('model.embed_tokens', 10, 8),
    ...module('lm_head', 10),
    ...module('model.layers.0.self_attn.q_proj', 6),
    'model.layers.0.self_attn.q_proj.bias': ['F16', 6],
  }
  test('are counted unpacked, with a module that is packed otherwise', async () => {
    const shape = await shapeOf(config, tensors)
    expect(shape.parameters).toBe(10 * 32 + 10 * 32 + 6 * 32 + 6)
    expect(shape.quantization).toEqual({ bits: 4, groupSize: 32 })
    expect(shape.layerBytes).toEqual([6 * (16 + 2 + 2) + 12])
  })
  test('whose words and scales contradict the configuration are refused', async () => {
    const wrong = { ...config, quantization: { bits: 4, group_size: 64 } }
    await expect(shapeOf(wrong, tensors)).rejects.toThrow(
      'read model file config.json: quantization of 4 bits in groups of 64 does not fit the words and scales of tensor "lm_head.weight"',
    )
  })
  test('need a configuration that says how', async () => {
    await expect(shapeOf({ ...config, quantization: undefined }, tensors)).rejects.toThrow(
      'read model file config.json: quantization is missing, but tensor "model.embed_tokens.weight" is packed',
    )
  })
})

describe('what the configuration leaves to the engine, the tensors tell', () => {
  test('heads, their width and the vocabulary of a gemma3', async () => {
    const text_config = { model_type: 'gemma3_text', hidden_size: 8, num_hidden_layers: 2, intermediate_size: 16 }
    const { 'lm_head.weight': _, ...headless } = llama()
    const norms = { 'model.layers.0.self_attn.q_norm.weight': ['F16', 2] } as const
    const shape = await shapeOf({ model_type: 'gemma3', text_config }, { ...headless, ...norms })
    expect(shape).toMatchObject({ attentionHeads: 4, kvHeads: 2, headDim: 2, vocabSize: 32, tiedEmbeddings: true })
    expect(shape).toMatchObject({ slidingWindow: 512, kvWindowTokensPerLayer: [512, 512] })
  })
  test('a width that no tensor tells is asked for', async () => {
    const { num_attention_heads: _, ...silent } = llamaConfig
    await expect(shapeOf(silent, llama())).rejects.toThrow('config.json: num_attention_heads is missing')
  })
})

describe('other architectures by general rules', () => {
  test('windows count only where the engine keeps to them', async () => {
    const sliding = { sliding_window: 64, layer_types: ['sliding_attention', 'full_attention'] }
    expect(await shapeOf({ ...llamaConfig, ...sliding }, llama())).toMatchObject({
      slidingWindow: 64,
      kvWindowTokensPerLayer: [64, 0],
    })
    const mixtral = await shapeOf({ ...llamaConfig, ...sliding, model_type: 'mixtral' }, llama())
    expect(mixtral.kvWindowTokensPerLayer).toBeUndefined()
  })
  test('8-bit floats with a scale are unpacked to 16 bits when they are loaded', async () => {
    const at = 'model.layers.0.mlp.extra'
    const shape = await shapeOf(llamaConfig, {
      ...llama(),
      [`${at}.weight`]: ['U8', 100] as TensorSpec,
    })
    const float8 = await shapeOf(llamaConfig, {
      ...llama(),
      [`${at}.weight`]: ['F8_E4M3', 100],
      [`${at}.weight_scale_inv`]: ['F32', 1],
    })
    expect(float8.weightBytes - shape.weightBytes).toBe(100)
    expect(float8.parameters).toBe(shape.parameters)
  })
  test('a mixture uses a part of its experts', async () => {
    const experts: Record<string, TensorSpec> = {
      'model.layers.0.mlp.switch_mlp.up_proj.weight': ['F16', 8, 16, 8],
      'model.layers.0.mlp.gate.weight': ['F16', 8, 8],
    }
    const config = { ...llamaConfig, model_type: 'qwen3_moe', num_experts: 8, num_experts_per_tok: 2 }
    const plain = await shapeOf(llamaConfig, llama())
    const shape = await shapeOf(config, { ...llama(), ...experts })
    expect(shape).toMatchObject({ experts: { count: 8, perToken: 2 }, parameters: plain.parameters + 1024 + 64 })
    expect(shape.activeParameters).toBe(plain.parameters + 64 + 256)
    expect(shape.replicatedBytes).toBe((plain.replicatedBytes ?? 0) + 128)
  })
  const mla = { ...llamaConfig, kv_lora_rank: 16, qk_rope_head_dim: 4, qk_nope_head_dim: 8, v_head_dim: 8 }
  test.each([
    ['deepseek_v3', {}, (16 + 4) * 2],
    ['deepseek_v32', { index_head_dim: 6 }, (16 + 4) * 2],
    ['deepseek_v2', {}, 4 * (8 + 4 + 8) * 2],
  ])('the cache of %s', async (model_type, more, bytes) => {
    const shape = await shapeOf({ ...mla, ...more, model_type }, llama())
    expect(shape).toMatchObject({ attention: 'Mla', headDim: 12, kvBytesPerTokenPerLayer: [bytes, bytes] })
  })
  test('layers of linear attention keep nothing per token', async () => {
    const kinds = { ...llamaConfig, layer_types: ['linear_attention', 'full_attention'] }
    expect((await shapeOf(kinds, llama())).kvBytesPerTokenPerLayer).toEqual([0, 16])
    expect((await shapeOf({ ...llamaConfig, full_attention_interval: 2 }, llama())).kvBytesPerTokenPerLayer).toEqual([
      0, 16,
    ])
  })
  test('the language part of a model that sees', async () => {
    const { model_type: _, ...text } = llamaConfig
    const nested = {
      ...llamaOuter('F16', 'language_model.model.'),
      ...llamaLayer(0, 'F16', 'language_model.model.'),
      ...llamaLayer(1, 'F16', 'language_model.model.'),
    }
    const shape = await shapeOf({ model_type: 'mistral3', text_config: text }, nested)
    expect(shape).toMatchObject({
      architecture: 'mistral3',
      weightBytes: 2 * (2 * LAYER_PARAMETERS + OUTER_PARAMETERS),
    })
  })
})

describe('what makes no sense is refused', () => {
  test.each([
    [{ model_type: undefined }, 'config.json: model_type must name the architecture'],
    [{ num_hidden_layers: 0 }, 'config.json: num_hidden_layers is 0, must be a whole number above 0'],
    [{ num_hidden_layers: 1e9 }, 'config.json: num_hidden_layers is 1000000000, at most 10000'],
    [{ hidden_size: '8' }, 'config.json: hidden_size is "8", must be a whole number above 0'],
    [{ num_hidden_layers: undefined }, 'config.json: num_hidden_layers is missing'],
    [{ num_attention_heads: 3 }, 'config.json: hidden_size 8 does not divide by num_attention_heads 3'],
    [{ num_hidden_layers: 3 }, 'config.json: num_hidden_layers is 3, but no weights of layer 2 are in the files'],
  ])('a configuration with %j', async (bent, fault) => {
    await expect(shapeOf({ ...llamaConfig, ...bent }, llama())).rejects.toThrow(`read model file ${fault}`)
  })
  test('no configuration, or one that is no JSON', async () => {
    const weights = { 'model.safetensors': safetensors(llama()) }
    await expect(shapeOfModel(folder(weights))).rejects.toThrow('read model file config.json: the file is missing')
    await expect(shapeOfModel(folder({ ...weights, 'config.json': Buffer.from('{') }))).rejects.toThrow(
      'config.json: no valid JSON',
    )
    await expect(shapeOfModel(folder({ ...weights, 'config.json': json([]) }))).rejects.toThrow('must hold a JSON map')
  })
})
