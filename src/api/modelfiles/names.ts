/** What a tensor is, by its name: the names of mlx-lm's modules, and those of the repositories that it converts from. */

/** `model.layers.7.self_attn.q_proj.weight` → 7; undefined outside of the layers. */
export function layerOf(name: string): number | undefined {
  const match = /(?:^|\.)(?:layers|h|blocks|blk)\.(\d+)\./.exec(name)
  return match === null ? undefined : Number(match[1])
}

/** `model.norm.weight` → `model.norm`. */
export const moduleOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('.')))
/** `model.norm.weight` → `weight`. */
export const partOf = (name: string): string => name.slice(name.lastIndexOf('.') + 1)
/** `model.layers.7.self_attn.q_proj.weight` → `q_proj`. */
export const lastModule = (name: string): string => partOf(moduleOf(name))

const otherTower =
  /(?:^|\.)(?:vision\w*|visual|vit|audio\w*|speech\w*|multi_modal_projector|mm_projector|connector|patch_merge_mlp|image_newline|embed_vision|embed_audio)(?:\.|$)/

/** Whether the engine keeps the tensor: not eyes and ears, not draft heads, not what it computes itself. */
export function isLoaded(name: string, layers: number): boolean {
  if (/(?:^|\.)mtp\w*\./.test(name) || otherTower.test(name)) return false
  if (name.endsWith('rotary_emb.inv_freq') || name.endsWith('rope_freqs.weight')) return false
  return (layerOf(name) ?? 0) < layers
}

export const isHead = (name: string): boolean => /(?:^|\.)(?:lm_head|embed_out)\.|^output\./.test(name)

export const isEmbedding = (name: string): boolean =>
  /(?:^|\.)(?:embed_tokens|tok_embeddings|word_embeddings|embeddings?|wte|token_embd)\.\w+$/.test(name) &&
  layerOf(name) === undefined

/** Norms, routers, the low-rank inputs and the indexer of MLA, and the biases that are added after the sum over ranks. */
export const isReplicated = (name: string): boolean =>
  /norm/.test(name) ||
  /\.(?:mlp|block_sparse_moe|feed_forward|mixer|moe)\.(?:gate|router|shared_expert_gate)\./.test(name) ||
  /\.(?:kv_a_|q_a_|indexer\.|ffn_gate_inp\.|attn_kv_a_|attn_q_a\.)/.test(name) ||
  /\.(?:o_proj|down_proj)\.bias$/.test(name)

/** One of the routed experts, stacked into one tensor or numbered; shared experts are no such ones. */
export const isExpert = (name: string): boolean =>
  /\.(?:switch_mlp|switch_glu|experts)\.|_exps\./.test(name) && !/shared_expert/.test(name)

/** Part of attention that keeps keys and values; norms are beside the point, linear attention is something else. */
export const isAttention = (name: string): boolean =>
  !/linear_attn\./.test(name) &&
  !/norm/.test(lastModule(name)) &&
  /attn|attention|(?:k|v|qkv)_proj\.|query_key_value|c_attn|Wqkv|wqkv|W_pack/.test(name)
