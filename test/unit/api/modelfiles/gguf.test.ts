import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { validate } from '../../../../src/api/validate.ts'
import { isOpError } from '../../../../src/lib/errors.ts'
import { manifestOf } from '../manifests.ts'
import { json } from './folder.ts'
import type { GgufOptions, GgufSpec, GgufValue } from './gguffile.ts'
import { F16, F32, ggufFile, MXFP4, Q4_K, Q6_K, Q8_0 } from './gguffile.ts'
import type { VirtualFile } from './virtual.ts'
import { virtualFolder } from './virtual.ts'

const small: Record<string, GgufValue> = {
  'general.architecture': 'llama',
  'llama.block_count': 2,
  'llama.embedding_length': 256,
  'llama.feed_forward_length': 512,
  'llama.attention.head_count': 8,
  'llama.attention.head_count_kv': 2,
  'tokenizer.ggml.tokens': ['<s>', 'a', 'b'],
}
const block = (n: number): Record<string, GgufSpec> => ({
  [`blk.${n}.attn_norm.weight`]: [F32, 256],
  [`blk.${n}.attn_q.weight`]: [Q4_K, 256, 256],
  [`blk.${n}.attn_k.weight`]: [Q4_K, 256, 64],
  [`blk.${n}.attn_v.weight`]: [Q6_K, 256, 64],
  [`blk.${n}.attn_output.weight`]: [Q4_K, 256, 256],
  [`blk.${n}.ffn_up.weight`]: [Q4_K, 256, 512],
  [`blk.${n}.ffn_down.weight`]: [Q4_K, 512, 256],
})
const outer: Record<string, GgufSpec> = {
  'token_embd.weight': [Q8_0, 256, 3],
  'output_norm.weight': [F32, 256],
  'output.weight': [Q6_K, 256, 3],
}
const tensors = { ...outer, ...block(0), ...block(1) }
const BLOCK = 256 * 4 + 2 * ((256 * 256) / 256) * 144 + 64 * 144 + 64 * 210 + 2 * 512 * 144

const shapeOf = (files: Readonly<Record<string, VirtualFile | Uint8Array>>) => shapeOfModel(virtualFolder(files).model)
const single = (metadata = small, more: Record<string, GgufSpec> = tensors, options: GgufOptions = {}) =>
  ggufFile(metadata, more, options)

describe('one file', () => {
  test('gives exact bytes of every block, and KV cache in 16 bit', async () => {
    const shape = await shapeOf({ 'm.gguf': single() })
    expect(shape).toMatchObject({
      architecture: 'llama',
      format: 'Gguf',
      layers: 2,
      hiddenSize: 256,
      intermediateSize: 512,
      attentionHeads: 8,
      kvHeads: 2,
      headDim: 32,
      vocabSize: 3,
      tiedEmbeddings: false,
      layerBytes: [BLOCK, BLOCK],
      nonLayerBytes: 3 * 272 + 1024 + 3 * 210,
      weightBytes: 2 * BLOCK + 3 * 272 + 1024 + 3 * 210,
      quantization: { bits: 4 },
      kvBytesPerTokenPerLayer: [2 * 64 * 2, 2 * 64 * 2],
    })
    expect(validate(manifestOf('Model', { spec: { source: 'https://x.y/m.gguf' }, status: { shape } }))).toEqual([])
  })
  test('is read by its header, however large', async () => {
    const wide = Object.fromEntries(
      Array.from({ length: 2 }, (_, i) => [`blk.${i}.ffn_gate.weight`, [Q4_K, 2 ** 14, 2 ** 20] as GgufSpec]),
    )
    const file = single(small, { ...tensors, ...wide })
    const { model, bytesRead } = virtualFolder({ 'm.gguf': file })
    expect((await shapeOfModel(model)).weightBytes).toBeGreaterThan(19e9)
    expect(bytesRead()).toBeLessThan(3e6)
  })
  test('whose vocabulary is larger than one read', async () => {
    const tokens = Array.from({ length: 120_000 }, (_, i) => `token-number-${i}`)
    const { 'token_embd.weight': _, ...rest } = tensors
    expect((await shapeOf({ 'm.gguf': single({ ...small, 'tokenizer.ggml.tokens': tokens }, rest) })).vocabSize).toBe(
      120_000,
    )
  })
  test('without an output is tied; a projector beside it is no model', async () => {
    const { 'output.weight': _, ...headless } = tensors
    const shape = await shapeOf({
      'm.gguf': single(small, headless),
      'mmproj-m.gguf': new Uint8Array(9),
      'x.txt': json(1),
    })
    expect(shape.tiedEmbeddings).toBe(true)
  })
})

describe('other architectures', () => {
  const as = (architecture: string, more: Record<string, GgufValue>) => ({
    ...Object.fromEntries(
      Object.entries(small).map(([key, value]) => [key.replace(/^llama\./, `${architecture}.`), value]),
    ),
    'general.architecture': architecture,
    ...Object.fromEntries(Object.entries(more).map(([key, value]) => [`${architecture}.${key}`, value])),
  })
  test('a mixture uses some of its experts', async () => {
    const moe = {
      'blk.0.ffn_gate_exps.weight': [MXFP4, 256, 128, 8],
      'blk.0.ffn_gate_inp.weight': [F32, 256, 8],
    } as const
    const plain = await shapeOf({ 'm.gguf': single() })
    const metadata = as('gpt-oss', { expert_count: 8, expert_used_count: 2, 'attention.sliding_window': 128 })
    const shape = await shapeOf({ 'm.gguf': single(metadata, { ...tensors, ...moe }) })
    expect(shape).toMatchObject({ experts: { count: 8, perToken: 2 }, kvWindowTokensPerLayer: [128, 0] })
    expect(shape.parameters).toBe(plain.parameters + 256 * 128 * 8 + 256 * 8)
    expect(shape.activeParameters).toBe(plain.parameters + 256 * 128 * 2 + 256 * 8)
  })
  test('MLA keeps the latent alone', async () => {
    const metadata = as('deepseek2', {
      'attention.kv_lora_rank': 512,
      'attention.key_length': 576,
      'attention.value_length': 512,
      'attention.key_length_mla': 192,
      'attention.head_count_kv': 1,
    })
    const latent = {
      'blk.0.attn_kv_a_mqa.weight': [F16, 256, 576],
      'blk.1.attn_kv_a_mqa.weight': [F16, 256, 576],
    } as const
    expect(await shapeOf({ 'm.gguf': single(metadata, { ...tensors, ...latent }) })).toMatchObject({
      attention: 'Mla',
      kvBytesPerTokenPerLayer: [1152, 1152],
    })
  })
  test('a header that says which layers slide, and each layer its own heads', async () => {
    const metadata = as('step35', {
      'attention.sliding_window': 512,
      'attention.sliding_window_pattern': [true, false],
      'attention.head_count_kv': [4, 2],
    })
    expect(await shapeOf({ 'm.gguf': single(metadata) })).toMatchObject({
      kvBytesPerTokenPerLayer: [2 * 4 * 32 * 2, 2 * 2 * 32 * 2],
      kvWindowTokensPerLayer: [512, 0],
      kvHeads: 4,
    })
  })
  test('a window that no rule spreads over the layers bounds none', async () => {
    const shape = await shapeOf({ 'm.gguf': single(as('unheard', { 'attention.sliding_window': 512 })) })
    expect(shape.kvWindowTokensPerLayer).toBeUndefined()
  })
  test('a state space keeps a state and no tokens', async () => {
    const metadata = as('jamba', {
      'ssm.inner_size': 512,
      'ssm.state_size': 16,
      'ssm.conv_kernel': 4,
      'ssm.group_count': 1,
      'attention.head_count_kv': [0, 2],
    })
    const mixer = { 'blk.0.ssm_in.weight': [F16, 256, 1024], 'blk.0.ssm_a': [F32, 16, 512] } as const
    const { 'blk.0.attn_k.weight': _, 'blk.0.attn_v.weight': __, ...rest } = tensors
    expect(await shapeOf({ 'm.gguf': single(metadata, { ...rest, ...mixer }) })).toMatchObject({
      kvBytesPerTokenPerLayer: [0, 2 * 64 * 2],
      stateBytesPerSequencePerLayer: [(3 * (512 + 32) + 16 * 512) * 4, 0],
    })
  })
  test('prediction layers at the end are left out', async () => {
    expect(
      await shapeOf({ 'm.gguf': single(as('glm4moe', { block_count: 2, nextn_predict_layers: 1 })) }),
    ).toMatchObject({
      layers: 1,
      layerBytes: [BLOCK],
    })
  })
})

describe('a split model', () => {
  const split = (no: number, count: number, part: Record<string, GgufSpec>) =>
    ggufFile({ ...(no === 0 ? small : {}), 'split.no': no, 'split.count': count, 'split.tensors.count': 17 }, part)
  const parts = {
    'm-00001-of-00002.gguf': split(0, 2, { ...outer, ...block(0) }),
    'm-00002-of-00002.gguf': split(1, 2, block(1)),
  }
  test('has the shape of the whole', async () => {
    expect(await shapeOf(parts)).toEqual(await shapeOf({ 'm.gguf': single() }))
  })
  test.each([
    [{ 'm-00002-of-00002.gguf': parts['m-00002-of-00002.gguf'] }, 'm-00001-of-00002.gguf: the file is missing'],
    [{ 'm-00001-of-00002.gguf': parts['m-00001-of-00002.gguf'] }, 'm-00002-of-00002.gguf: the file is missing'],
    [{ 'm.gguf': parts['m-00001-of-00002.gguf'] }, 'm.gguf: its header says that the model has 2 files, 1 are there'],
    [
      { ...parts, 'm-00002-of-00002.gguf': split(1, 2, block(0)) },
      'm-00002-of-00002.gguf: tensor "blk.0.attn_norm.weight" stands in m-00001-of-00002.gguf, too',
    ],
    [
      { ...parts, 'm-00002-of-00002.gguf': split(1, 2, {}) },
      'm-00001-of-00002.gguf: its header says that the model has 17',
    ],
    [{ 'a-Q4.gguf': single(), 'b-Q8.gguf': single() }, 'the folder holds 2 GGUF models (a-Q4.gguf, b-Q8.gguf)'],
  ])('that is not whole is refused: %#', async (files, fault) => {
    await expect(shapeOf(files)).rejects.toThrow(fault)
  })
})

describe('a broken or hostile file is refused by name', () => {
  const bytes = Buffer.from(single().bytes)
  const patched = (at: number, value: bigint) => {
    const copy = Buffer.from(bytes)
    copy.writeBigUInt64LE(value, at)
    return copy
  }
  test.each<[string, VirtualFile | Uint8Array, string]>([
    ['empty', new Uint8Array(), 'the file is truncated: 0 bytes'],
    ['of another kind', Buffer.from('{"a": 1}'.repeat(9)), 'no GGUF file'],
    ['of an old version', single(small, tensors, { version: 1 }), 'GGUF version 1 cannot be read'],
    ['big-endian', single(small, tensors, { version: 0x03000000 }), 'GGUF version 50331648 cannot be read'],
    [
      'with 2^63 tensors',
      single(small, tensors, { tensorCount: 2n ** 63n }),
      'its header names 9223372036854775808 tensors',
    ],
    ['with 2^62 keys', single(small, tensors, { metadataCount: 2n ** 62n }), 'its header is broken: KV metadata count'],
    ['whose first key is 2^63 bytes long', patched(24, 2n ** 63n), 'its header is broken: String length'],
    ['cut in its header', bytes.subarray(0, 300), 'm.gguf: '],
    [
      'cut in its data',
      bytes.subarray(0, bytes.length - 40),
      'the file is truncated: tensor "blk.1.ffn_down.weight" ends',
    ],
    [
      'with overlapping tensors',
      single(small, tensors, { offset: (n, at) => (n === 'blk.1.attn_q.weight' ? at - 32 : at) }),
      'tensor "blk.1.attn_q.weight" overlaps another one',
    ],
    [
      'with a tensor behind its end',
      single(small, tensors, { offset: (n, at) => (n === 'output.weight' ? 2n ** 63n : at) }),
      'the file is truncated: tensor "output.weight"',
    ],
    ['of an unknown type', single(small, { ...tensors, 'blk.0.x': [99, 8] }), 'tensor "blk.0.x" has the type 99'],
    ['with half a block', single(small, { ...tensors, 'blk.0.x': [Q4_K, 100] }), 'rows of 100 do not divide'],
    ['of no architecture', single({ ...small, 'general.architecture': 7 }), 'general.architecture must name'],
    ['without layers', single({ ...small, 'llama.block_count': 0 }), 'llama.block_count is 0'],
    ['with a layer that is not there', single({ ...small, 'llama.block_count': 3 }), 'no weights of layer 2'],
    ['with a billion layers', single({ ...small, 'llama.block_count': 1e9 }), 'block_count leaves 1000000000 layers'],
    ['whose width is text', single({ ...small, 'llama.embedding_length': 'wide' }), 'llama.embedding_length is "wide"'],
  ])('%s', async (_, file, fault) => {
    const error: unknown = await shapeOf({ 'm.gguf': file }).catch((thrown: unknown) => thrown)
    expect(isOpError(error, 'Invalid')).toBe(true)
    const whole = error as Error & { cause?: Error }
    expect(`${whole.message}: ${whole.cause?.message ?? ''}`).toContain(fault)
    expect(whole.message).toContain('read model file m.gguf')
  })

  test('a header without an end is given up long before the file ends', async () => {
    const endless = { bytes: Buffer.alloc(50_000_000), sizeBytes: 2 ** 40 }
    single(small, tensors, { tensorCount: 90_000, metadataCount: 0 }).bytes.forEach(
      (b, i) => i < 24 && (endless.bytes[i] = b),
    )
    const { model, bytesRead } = virtualFolder({ 'm.gguf': endless })
    await expect(shapeOfModel(model)).rejects.toMatchObject({ code: 'Invalid' })
    expect(bytesRead()).toBeLessThan(41e6)
  })

  test('no bytes make it throw anything but an Invalid', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(1200), fc.nat(255), fc.uint8Array({ maxLength: 100 }), async (at, byte, noise) => {
        const bent = Uint8Array.from(bytes)
        bent[at] = byte
        for (const content of [bent, Buffer.concat([bytes.subarray(0, 24), noise])]) {
          const answer: unknown = await shapeOf({ 'm.gguf': content }).catch((thrown: unknown) => thrown)
          expect(isOpError(answer, 'Invalid') || (answer as { layers?: number }).layers === 2).toBe(true)
        }
      }),
      { numRuns: 40 },
    )
  })
})
