import { expect, test } from 'vitest'
import type { ModelShape } from '../../../src/api/model.ts'
import { kvBytesOf } from '../../../src/api/modelkv.ts'

const shape: ModelShape = {
  architecture: 'gemma3_text',
  layers: 3,
  hiddenSize: 8,
  attentionHeads: 2,
  kvHeads: 2,
  headDim: 4,
  vocabSize: 10,
  parameters: 1000,
  weightBytes: 2000,
  kvBytesPerTokenPerLayer: [10, 10, 0],
  kvWindowTokensPerLayer: [512, 0, 0],
  stateBytesPerSequencePerLayer: [0, 0, 7],
}

test('caches grow in steps of 256 tokens, one per sequence', () => {
  expect(kvBytesOf(shape, 1, 1000, 3)).toBe(3 * 1024 * 10)
  expect(kvBytesOf(shape, 1, 0, 3)).toBe(0)
})
test('a window bounds its layer, a state costs the same whatever the length', () => {
  expect(kvBytesOf(shape, 0, 8192, 2)).toBe(2 * 512 * 10)
  expect(kvBytesOf(shape, 0, 256, 2)).toBe(2 * 256 * 10)
  expect(kvBytesOf(shape, 2, 8192, 2)).toBe(2 * 7)
})
test('the prompt that is being read fills more than the window, but no more than there is', () => {
  expect(kvBytesOf(shape, 0, 8192, 2, 512)).toBe((2 * 512 + 511) * 10)
  expect(kvBytesOf(shape, 0, 512, 2, 512)).toBe(2 * 512 * 10)
  expect(kvBytesOf(shape, 1, 8192, 2, 512)).toBe(2 * 8192 * 10)
})
test('a shape without exact figures goes by its heads, or by the latent of MLA', () => {
  const { kvBytesPerTokenPerLayer: _, kvWindowTokensPerLayer: __, ...plain } = shape
  expect(kvBytesOf(plain, 0, 256, 1)).toBe(256 * 2 * 2 * 4 * 2)
  expect(kvBytesOf({ ...plain, attention: 'Mla' }, 0, 256, 1)).toBe(256 * 576 * 2)
})
