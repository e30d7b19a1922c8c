/** Model shapes of facts/performance.md §7 and nodes of §4, for the planner's tests. */
import type { ModelShape } from '../../../src/api/model.ts'

const bitsPerWeight: Readonly<Record<number, number>> = { 2: 2.5, 3: 3.5, 4: 4.5, 6: 6.5, 8: 8.5, 16: 16 }

interface Base extends Omit<ModelShape, 'weightBytes'> {
  readonly weightBytes?: number
}
/** `shape` at so many bits per weight (MLX, group 64). */
export function atBits(shape: Base, bits: number): ModelShape {
  const weightBytes = Math.round((shape.parameters * (bitsPerWeight[bits] ?? bits)) / 8)
  return { ...shape, weightBytes, quantization: { bits, groupSize: 64 } }
}

export const llama3b: Base = {
  architecture: 'llama',
  layers: 28,
  hiddenSize: 3072,
  intermediateSize: 8192,
  attentionHeads: 24,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 128256,
  tiedEmbeddings: true,
  parameters: 3.213e9,
}
export const qwen7b: Base = {
  architecture: 'qwen2',
  layers: 28,
  hiddenSize: 3584,
  intermediateSize: 18944,
  attentionHeads: 28,
  kvHeads: 4,
  headDim: 128,
  vocabSize: 152064,
  tiedEmbeddings: false,
  parameters: 7.616e9,
}
export const qwen32b: Base = {
  architecture: 'qwen2',
  layers: 64,
  hiddenSize: 5120,
  intermediateSize: 27648,
  attentionHeads: 40,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 152064,
  tiedEmbeddings: false,
  parameters: 32.764e9,
}
export const llama405b: Base = {
  architecture: 'llama',
  layers: 126,
  hiddenSize: 16384,
  intermediateSize: 53248,
  attentionHeads: 128,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 128256,
  tiedEmbeddings: false,
  parameters: 405.85e9,
}
export const mixtral: Base = {
  architecture: 'mixtral',
  layers: 32,
  hiddenSize: 4096,
  intermediateSize: 14336,
  attentionHeads: 32,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 32000,
  tiedEmbeddings: false,
  parameters: 46.7e9,
  activeParameters: 12.88e9,
  experts: { count: 8, perToken: 2 },
}
export const deepseekV32: Base = {
  architecture: 'deepseek_v32',
  layers: 61,
  hiddenSize: 7168,
  attentionHeads: 128,
  kvHeads: 128,
  headDim: 128,
  vocabSize: 129280,
  tiedEmbeddings: false,
  parameters: 671e9,
  activeParameters: 37.6e9,
  experts: { count: 256, perToken: 8 },
  attention: 'Mla',
}
export const scout: Base = {
  architecture: 'llama4',
  layers: 48,
  hiddenSize: 5120,
  attentionHeads: 40,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 202048,
  tiedEmbeddings: false,
  parameters: 108.6e9,
  activeParameters: 17.2e9,
  experts: { count: 16, perToken: 1 },
}
export const gptOss120b: Base = {
  architecture: 'gpt_oss',
  layers: 36,
  hiddenSize: 2880,
  attentionHeads: 64,
  kvHeads: 8,
  headDim: 64,
  vocabSize: 201088,
  tiedEmbeddings: false,
  parameters: 116.8e9,
  activeParameters: 5.13e9,
  experts: { count: 128, perToken: 4 },
}
