/**
 * What sequences cost in one layer of a model: the one reading of the shape's figures on KV caches. As mlx-lm allocates:
 * in steps of 256 tokens, no more than a window where a layer has one, constant states beside them.
 */
import type { ModelShape } from './model.ts'

/** MLX grows a KV cache in steps of so many tokens. */
export const KV_STEP_TOKENS = 256
/** Latent of MLA where the shape has no exact figures: kv_lora_rank 512 + rope 64, fp16. */
const MLA_TOKEN_BYTES = 576 * 2

/** Bytes that one token adds in this layer while no window bounds it. */
export function kvTokenBytes(shape: ModelShape, layer: number): number {
  const exact = shape.kvBytesPerTokenPerLayer
  if (exact?.length === shape.layers) return exact[layer] ?? 0
  return shape.attention === 'Mla' ? MLA_TOKEN_BYTES : 2 * shape.kvHeads * shape.headDim * 2
}

/**
 * Bytes of `sequences` sequences that hold `tokens` tokens each, in this layer, on a rank that holds the layer whole.
 * `prefillTokens`: of the one prompt that is being read (mlx reads one at a time) a window keeps that many more, less
 * one, until the next token; 0 where it is counted elsewhere. A tensor rank holds 1/degree of it, but the latent of MLA
 * whole.
 */
export function kvBytesOf(
  shape: ModelShape,
  layer: number,
  tokens: number,
  sequences: number,
  prefillTokens = 0,
): number {
  const tokenBytes = kvTokenBytes(shape, layer)
  const window = perLayer(shape, shape.kvWindowTokensPerLayer, layer)
  const stateBytes = perLayer(shape, shape.stateBytesPerSequencePerLayer, layer)
  const held = Math.ceil(tokens / KV_STEP_TOKENS) * KV_STEP_TOKENS
  const kept = window === 0 ? held : Math.min(held, window)
  const reading = Math.min(held - kept, Math.max(0, prefillTokens - 1))
  return sequences * (kept * tokenBytes + stateBytes) + (sequences > 0 ? reading * tokenBytes : 0)
}

const perLayer = (shape: ModelShape, list: readonly number[] | undefined, layer: number): number =>
  list?.length === shape.layers ? (list[layer] ?? 0) : 0
