/**
 * Headers with the real tensor shapes of real models, against the table of known sizes (facts/performance.md §7). Not one
 * byte of weights exists, so none can be read.
 */
import { expect, test } from 'vitest'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { kvBytesOf } from '../../../../src/api/modelkv.ts'
import type { ModelShape } from '../../../../src/api/model.ts'
import type { TensorSpec } from './folder.ts'
import { json } from './folder.ts'
import type { Packing } from './virtual.ts'
import { headerOnly, linear, vector, virtualFolder } from './virtual.ts'

const fourBit: Packing = { bits: 4, groupSize: 64 }
const GB = 1e9

interface Dense {
  readonly model_type: string
  readonly hidden_size: number
  readonly num_hidden_layers: number
  readonly intermediate_size: number
  readonly num_attention_heads: number
  readonly num_key_value_heads: number
  readonly head_dim: number
  readonly vocab_size: number
  readonly tie_word_embeddings: boolean
}

function attention(at: string, c: Dense, packing: Packing | undefined, bias = false): Record<string, TensorSpec> {
  const [q, kv] = [c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim]
  return {
    ...linear(`${at}.self_attn.q_proj`, packing, q, c.hidden_size),
    ...linear(`${at}.self_attn.k_proj`, packing, kv, c.hidden_size),
    ...linear(`${at}.self_attn.v_proj`, packing, kv, c.hidden_size),
    ...linear(`${at}.self_attn.o_proj`, packing, c.hidden_size, q),
    ...(bias
      ? {
          ...vector(`${at}.self_attn.q_proj.bias`, q),
          ...vector(`${at}.self_attn.k_proj.bias`, kv),
          ...vector(`${at}.self_attn.v_proj.bias`, kv),
        }
      : {}),
    ...vector(`${at}.input_layernorm.weight`, c.hidden_size),
    ...vector(`${at}.post_attention_layernorm.weight`, c.hidden_size),
  }
}

const outer = (c: Dense, packing: Packing | undefined): Record<string, TensorSpec> => ({
  ...linear('model.embed_tokens', packing, c.vocab_size, c.hidden_size),
  ...vector('model.norm.weight', c.hidden_size),
  ...(c.tie_word_embeddings ? {} : linear('lm_head', packing, c.vocab_size, c.hidden_size)),
})

const mlp = (at: string, hidden: number, width: number, packing: Packing | undefined): Record<string, TensorSpec> => ({
  ...linear(`${at}.gate_proj`, packing, width, hidden),
  ...linear(`${at}.up_proj`, packing, width, hidden),
  ...linear(`${at}.down_proj`, packing, hidden, width),
})

const experts = (at: string, count: number, hidden: number, width: number, packing: Packing) => ({
  ...linear(`${at}.gate_proj`, packing, count, width, hidden),
  ...linear(`${at}.up_proj`, packing, count, width, hidden),
  ...linear(`${at}.down_proj`, packing, count, hidden, width),
})

const layersOf = (count: number, layer: (index: number, at: string) => Record<string, TensorSpec>) =>
  Object.assign({}, ...Array.from({ length: count }, (_, i) => layer(i, `model.layers.${i}`))) as Record<
    string,
    TensorSpec
  >

/** In files of some layers each with an index, as the hub keeps them. */
async function shapeOf(config: object, tensors: Readonly<Record<string, TensorSpec>>, files = 4): Promise<ModelShape> {
  const names = Object.keys(tensors)
  const map = new Map(names.map((name, i) => [name, `model-${Math.floor((i * files) / names.length)}.safetensors`]))
  const parts = new Map<string, Record<string, TensorSpec>>()
  for (const [name, file] of map) parts.set(file, { ...parts.get(file), [name]: tensors[name] ?? ['F32'] })
  const { model, bytesRead } = virtualFolder({
    'config.json': json(config),
    'model.safetensors.index.json': json({ weight_map: Object.fromEntries(map) }),
    ...Object.fromEntries([...parts].map(([file, part]) => [file, headerOnly(part)])),
  })
  const shape = await shapeOfModel(model)
  expect(bytesRead()).toBeLessThan(0.001 * shape.weightBytes)
  return shape
}

const kvPerToken = (shape: ModelShape): number => (shape.kvBytesPerTokenPerLayer ?? []).reduce((a, b) => a + b, 0)

interface Fact {
  readonly parameters: number
  readonly active?: number
  readonly weightGB: number
  readonly kvPerToken: number
}

/** The table is rounded: sizes to 0.5 %, KV exactly. */
function agrees(shape: ModelShape, fact: Fact): void {
  const close = (value: number, known: number) => expect(Math.abs(value / known - 1)).toBeLessThan(0.005)
  close(shape.parameters, fact.parameters)
  close(shape.weightBytes, fact.weightGB * GB)
  expect(kvPerToken(shape)).toBe(fact.kvPerToken)
  if (fact.active !== undefined) expect(Math.abs((shape.activeParameters ?? 0) / fact.active - 1)).toBeLessThan(0.03)
}

const llama32: Dense = {
  model_type: 'llama',
  hidden_size: 3072,
  num_hidden_layers: 28,
  intermediate_size: 8192,
  num_attention_heads: 24,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 128256,
  tie_word_embeddings: true,
}
const dense = (c: Dense, packing: Packing | undefined, bias = false) => ({
  ...outer(c, packing),
  ...layersOf(c.num_hidden_layers, (_, at) => ({
    ...attention(at, c, packing, bias),
    ...mlp(`${at}.mlp`, c.hidden_size, c.intermediate_size, packing),
  })),
})
const quantization = { group_size: 64, bits: 4 }

test('Llama-3.2-3B, 4 bit, tied', async () => {
  const shape = await shapeOf({ ...llama32, quantization }, dense(llama32, fourBit))
  agrees(shape, { parameters: 3.213e9, weightGB: 1.81, kvPerToken: 114_688 })
  expect(shape).toMatchObject({ tiedEmbeddings: true, quantization: { bits: 4, groupSize: 64 } })
})
test('Llama-3.2-3B, 16 bit', async () => {
  const shape = await shapeOf(llama32, dense(llama32, undefined))
  agrees(shape, { parameters: 3.213e9, weightGB: 6.426, kvPerToken: 114_688 })
})
test('Qwen2.5-32B, 4 bit', async () => {
  const qwen: Dense = {
    model_type: 'qwen2',
    hidden_size: 5120,
    num_hidden_layers: 64,
    intermediate_size: 27648,
    num_attention_heads: 40,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 152064,
    tie_word_embeddings: false,
  }
  const shape = await shapeOf({ ...qwen, quantization }, dense(qwen, fourBit, true))
  agrees(shape, { parameters: 32.764e9, weightGB: 18.43, kvPerToken: 262_144 })
})
test('R1-Distill-Qwen-7B, 8 bit', async () => {
  const qwen: Dense = {
    model_type: 'qwen2',
    hidden_size: 3584,
    num_hidden_layers: 28,
    intermediate_size: 18944,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    head_dim: 128,
    vocab_size: 152064,
    tie_word_embeddings: false,
  }
  const eightBit = { bits: 8, groupSize: 64 }
  const shape = await shapeOf({ ...qwen, quantization: { group_size: 64, bits: 8 } }, dense(qwen, eightBit, true))
  agrees(shape, { parameters: 7.616e9, weightGB: 8.09, kvPerToken: 57_344 })
})
test('Qwen3-30B-A3B, 4 bit: 8 of 128 experts', async () => {
  const qwen: Dense = {
    model_type: 'qwen3_moe',
    hidden_size: 2048,
    num_hidden_layers: 48,
    intermediate_size: 6144,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    head_dim: 128,
    vocab_size: 151936,
    tie_word_embeddings: false,
  }
  const tensors = {
    ...outer(qwen, fourBit),
    ...layersOf(48, (_, at) => ({
      ...attention(at, qwen, fourBit),
      ...vector(`${at}.self_attn.q_norm.weight`, 128),
      ...vector(`${at}.self_attn.k_norm.weight`, 128),
      ...linear(`${at}.mlp.gate`, { bits: 8, groupSize: 64 }, 128, 2048),
      ...experts(`${at}.mlp.switch_mlp`, 128, 2048, 768, fourBit),
    })),
  }
  const packed = {
    ...quantization,
    ...Object.fromEntries(
      Array.from({ length: 48 }, (_, i) => [`model.layers.${i}.mlp.gate`, { group_size: 64, bits: 8 }]),
    ),
  }
  const config = { ...qwen, num_experts: 128, num_experts_per_tok: 8, quantization: packed }
  const shape = await shapeOf(config, tensors)
  agrees(shape, { parameters: 30.53e9, active: 3.35e9, weightGB: 17.17, kvPerToken: 98_304 })
})
test('DeepSeek-V3, 4 bit: MLA, three dense layers, 8 of 256 experts, its prediction layer left out', async () => {
  const layer = (i: number, at: string) => ({
    ...linear(`${at}.self_attn.q_a_proj`, fourBit, 1536, 7168),
    ...vector(`${at}.self_attn.q_a_layernorm.weight`, 1536),
    ...linear(`${at}.self_attn.q_b_proj`, fourBit, 128 * 192, 1536),
    ...linear(`${at}.self_attn.kv_a_proj_with_mqa`, fourBit, 576, 7168),
    ...vector(`${at}.self_attn.kv_a_layernorm.weight`, 512),
    ...linear(`${at}.self_attn.kv_b_proj`, fourBit, 128 * 256, 512),
    ...linear(`${at}.self_attn.o_proj`, fourBit, 7168, 128 * 128),
    ...vector(`${at}.input_layernorm.weight`, 7168),
    ...vector(`${at}.post_attention_layernorm.weight`, 7168),
    ...(i < 3
      ? mlp(`${at}.mlp`, 7168, 18432, fourBit)
      : {
          [`${at}.mlp.gate.weight`]: ['BF16', 256, 7168] as TensorSpec,
          ...vector(`${at}.mlp.gate.e_score_correction_bias`, 256),
          ...experts(`${at}.mlp.switch_mlp`, 256, 7168, 2048, fourBit),
          ...mlp(`${at}.mlp.shared_experts`, 7168, 2048, fourBit),
        }),
  })
  const config = {
    model_type: 'deepseek_v3',
    hidden_size: 7168,
    num_hidden_layers: 61,
    intermediate_size: 18432,
    moe_intermediate_size: 2048,
    num_attention_heads: 128,
    num_key_value_heads: 128,
    vocab_size: 129280,
    tie_word_embeddings: false,
    n_routed_experts: 256,
    num_experts_per_tok: 8,
    kv_lora_rank: 512,
    qk_rope_head_dim: 64,
    qk_nope_head_dim: 128,
    v_head_dim: 128,
    num_nextn_predict_layers: 1,
    quantization,
  }
  const outside = { ...linear('model.embed_tokens', fourBit, 129280, 7168), ...vector('model.norm.weight', 7168) }
  const tensors = { ...outside, ...linear('lm_head', fourBit, 129280, 7168), ...layersOf(62, layer) }
  const shape = await shapeOf(config, tensors, 80)
  agrees(shape, { parameters: 671.0e9, active: 37.6e9, weightGB: 377.5, kvPerToken: 70_272 })
  expect(shape).toMatchObject({ attention: 'Mla', layers: 61, experts: { count: 256, perToken: 8 } })
})
test('gpt-oss-120b: mxfp4 experts, 16-bit rest, every other layer sees 128 tokens', async () => {
  const mxfp4: Packing = { bits: 4, groupSize: 32, mxfp4: true }
  const config = {
    model_type: 'gpt_oss',
    hidden_size: 2880,
    num_hidden_layers: 36,
    intermediate_size: 2880,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    head_dim: 64,
    vocab_size: 201088,
    tie_word_embeddings: false,
    num_local_experts: 128,
    num_experts_per_tok: 4,
    sliding_window: 128,
    layer_types: Array.from({ length: 36 }, (_, i) => (i % 2 === 0 ? 'sliding_attention' : 'full_attention')),
    quantization: { group_size: 32, bits: 4, mode: 'mxfp4' },
  }
  const tensors = {
    ...outer(config, undefined),
    ...layersOf(36, (_, at) => ({
      ...attention(at, config, undefined, true),
      ...vector(`${at}.self_attn.o_proj.bias`, 2880),
      ...vector(`${at}.self_attn.sinks`, 64),
      ...linear(`${at}.mlp.router`, undefined, 128, 2880),
      ...vector(`${at}.mlp.router.bias`, 128),
      ...experts(`${at}.mlp.experts`, 128, 2880, 2880, mxfp4),
      ...Object.fromEntries(
        ['gate', 'up', 'down'].map((p) => [`${at}.mlp.experts.${p}_proj.bias`, ['BF16', 128, 2880] as TensorSpec]),
      ),
    })),
  }
  const shape = await shapeOf(config, tensors, 8)
  // The table's 63.4 GB and 5.13e9 leave out the 16-bit embedding; the repository's own index says 65.25 GB.
  agrees(shape, { parameters: 116.8e9, active: 5.7e9, weightGB: 65.25, kvPerToken: 73_728 })
  expect(shape.quantization).toEqual({ bits: 4, groupSize: 32 })
  expect(shape.slidingWindow).toBe(128)
  // At 8,192 tokens half of the layers keep 128 of them.
  const whole = Array.from({ length: 36 }, (_, i) => kvBytesOf(shape, i, 8192, 1)).reduce((a, b) => a + b, 0)
  expect(whole).toBe(18 * 2048 * (8192 + 128))
})
