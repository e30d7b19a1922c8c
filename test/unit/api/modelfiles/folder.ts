/** Model folders in memory: real safetensors bytes without the weights' content. */
import type { ModelFiles } from '../../../../src/api/modelfiles/files.ts'

export type TensorSpec = readonly [dtype: string, ...shape: number[]]

const bits: Readonly<Record<string, number>> = { F32: 32, F16: 16, BF16: 16, U32: 32, U8: 8 }

/** A safetensors file with these tensors, one behind the other. `bend` may spoil the header's entries. */
export function safetensors(
  tensors: Readonly<Record<string, TensorSpec>>,
  bend: (header: Record<string, Record<string, unknown>>) => void = () => {},
): Uint8Array {
  const header: Record<string, Record<string, unknown>> = { __metadata__: { format: 'mlx' } }
  let offset = 0
  for (const [name, [dtype, ...shape]] of Object.entries(tensors)) {
    const bytes = (shape.reduce((product, dim) => product * dim, 1) * (bits[dtype] ?? 8)) / 8
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  bend(header)
  const json = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([prefix, json, Buffer.alloc(offset)])
}

export const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))

export function folder(contents: Readonly<Record<string, Uint8Array>>): ModelFiles {
  return {
    files: Object.entries(contents).map(([name, bytes]) => ({ name, sizeBytes: bytes.byteLength })),
    readRange: (file, start, end) => Promise.resolve((contents[file] ?? new Uint8Array()).slice(start, end)),
  }
}

export const llamaConfig = {
  model_type: 'llama',
  hidden_size: 8,
  num_hidden_layers: 2,
  intermediate_size: 16,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 32,
  tie_word_embeddings: false,
}

/** The tensors of one layer of a small llama. */
export const llamaLayer = (layer: number, dtype = 'F16', prefix = 'model.'): Record<string, TensorSpec> => {
  const at = (name: string) => `${prefix}layers.${layer}.${name}`
  return {
    [at('input_layernorm.weight')]: [dtype, 8],
    [at('self_attn.q_proj.weight')]: [dtype, 8, 8],
    [at('self_attn.k_proj.weight')]: [dtype, 4, 8],
    [at('self_attn.v_proj.weight')]: [dtype, 4, 8],
    [at('self_attn.o_proj.weight')]: [dtype, 8, 8],
    [at('post_attention_layernorm.weight')]: [dtype, 8],
    [at('mlp.gate_proj.weight')]: [dtype, 16, 8],
    [at('mlp.up_proj.weight')]: [dtype, 16, 8],
    [at('mlp.down_proj.weight')]: [dtype, 8, 16],
  }
}
/** Weights in one layer of it, and outside of the layers. */
export const LAYER_PARAMETERS = 2 * 8 + 64 + 32 + 32 + 64 + 3 * 128
export const OUTER_PARAMETERS = 2 * 32 * 8 + 8

export const llamaOuter = (dtype = 'F16', prefix = 'model.'): Record<string, TensorSpec> => ({
  [`${prefix}embed_tokens.weight`]: [dtype, 32, 8],
  [`${prefix}norm.weight`]: [dtype, 8],
  'lm_head.weight': [dtype, 32, 8],
})
export const llama = (dtype = 'F16'): Record<string, TensorSpec> => ({
  ...llamaOuter(dtype),
  ...llamaLayer(0, dtype),
  ...llamaLayer(1, dtype),
})
