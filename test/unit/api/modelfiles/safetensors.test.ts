import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { readTensors } from '../../../../src/api/modelfiles/safetensors.ts'
import { isOpError } from '../../../../src/lib/errors.ts'
import { folder, json, llamaConfig, safetensors } from './folder.ts'
import { virtualFolder } from './virtual.ts'

const two = { a: ['F16', 2, 3], b: ['F32', 4] } as const
const read = (contents: Readonly<Record<string, Uint8Array>>) => readTensors(folder(contents))
const INDEX = 'model.safetensors.index.json'

test('tensors with their sizes, metadata left out', async () => {
  expect(await read({ 'model.safetensors': safetensors(two) })).toEqual([
    { name: 'a', dtype: 'F16', shape: [2, 3], bytes: 12 },
    { name: 'b', dtype: 'F32', shape: [4], bytes: 16 },
  ])
})
test('without an index the files that the engine would load', async () => {
  const contents = {
    'model-1.safetensors': safetensors({ a: ['U8', 1] }),
    'adapters.safetensors': safetensors({ b: ['U8', 1] }),
  }
  expect((await read(contents)).map(({ name }) => name)).toEqual(['a'])
})

describe('a file is refused by name', () => {
  const refuse = async (contents: Readonly<Record<string, Uint8Array>>, fault: string) => {
    const error: unknown = await read(contents).catch((thrown: unknown) => thrown)
    expect(isOpError(error, 'Invalid')).toBe(true)
    expect(String(error)).toContain(`read model file ${fault}`)
  }
  const model = (bytes: Uint8Array) => ({ 'model.safetensors': bytes })

  test('that is missing, empty, cut or of another kind', async () => {
    const bytes = safetensors(two)
    await refuse({}, 'model.safetensors: the file is missing')
    await refuse(model(new Uint8Array()), 'model.safetensors: the file is truncated')
    await refuse(model(bytes.slice(0, 20)), 'model.safetensors: the file is truncated: its header')
    await refuse(
      model(bytes.slice(0, bytes.length - 1)),
      'model.safetensors: the file is truncated: tensor "b" ends at byte 28',
    )
    await refuse(model(Buffer.from('GGUF'.repeat(100))), 'model.safetensors: no safetensors file: its header would be')
    await refuse(
      model(Buffer.concat([Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('nope')])),
      'model.safetensors: no valid JSON',
    )
  })
  test('that is shorter than its folder says', async () => {
    const bytes = safetensors(two)
    const files = [{ name: 'model.safetensors', sizeBytes: bytes.length }]
    const lying = {
      files,
      readRange: (_: string, start: number, end: number) => Promise.resolve(bytes.slice(start, Math.min(end, 10))),
    }
    await expect(readTensors(lying)).rejects.toThrow('model.safetensors: the file is truncated: bytes 8 to')
  })
  test.each([
    ['overlaps', { data_offsets: [10, 26] }, 'tensor "b" overlaps another one'],
    ['runs backwards', { data_offsets: [20, 10] }, 'are no range'],
    ['has negative offsets', { data_offsets: [-4, 12] }, 'are no range'],
    ['has half offsets', { data_offsets: [0.5, 16.5] }, 'are no range'],
    ['has no offsets', { data_offsets: undefined }, 'must have dtype, shape and two data_offsets'],
    ['lies about its shape', { shape: [5] }, 'F32 [5] does not fill its 16 bytes'],
    ['has a wild shape', { shape: [-4] }, 'shape [-4] is none'],
    ['is huge', { shape: [2 ** 40, 2 ** 40] }, 'does not fill its 16 bytes'],
  ])('whose tensor %s', async (_, bent, fault) => {
    const bytes = safetensors(two, (header) => Object.assign(header['b'] ?? {}, bent))
    await refuse(model(bytes), `model.safetensors: tensor "b"`)
    await expect(read(model(bytes))).rejects.toThrow(fault)
  })
  test('that the index names and the folder lacks, with all that are missing', async () => {
    const index = json({ weight_map: { a: 'x-1.safetensors', b: 'x-3.safetensors', c: 'x-2.safetensors' } })
    await refuse(
      { [INDEX]: index, 'x-1.safetensors': safetensors({ a: ['U8', 1] }) },
      'x-2.safetensors: missing, though model.safetensors.index.json names it (missing: x-2.safetensors, x-3.safetensors)',
    )
  })
  test('that lacks a tensor of the index, or holds one that another file has', async () => {
    const index = json({ weight_map: { a: 'x.safetensors', b: 'x.safetensors' } })
    await refuse({ [INDEX]: index, 'x.safetensors': safetensors({ a: ['U8', 1] }) }, 'x.safetensors: tensor "b" of')
    const same = safetensors({ a: ['U8', 1] })
    await refuse(
      { 'model-1.safetensors': same, 'model-2.safetensors': same },
      'model-2.safetensors: tensor "a" stands in model-1',
    )
  })
  test.each(['../secret.safetensors', '/etc/a.safetensors', 'sub/a.safetensors', 'a.bin', 7])(
    'an index that leads to %j is not followed',
    async (file) => {
      await refuse({ [INDEX]: json({ weight_map: { a: file } }) }, `${INDEX}: tensor "a"`)
    },
  )
})

test('no bytes make it throw anything but an Invalid', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat(60), fc.nat(255), async (noise, at, byte) => {
      const bent = Uint8Array.from(safetensors(two))
      bent[at] = byte
      for (const bytes of [noise, bent]) {
        const error: unknown = await read({ 'model.safetensors': bytes }).catch((thrown: unknown) => thrown)
        expect(Array.isArray(error) || isOpError(error, 'Invalid')).toBe(true)
      }
    }),
  )
})

describe('hostile lengths are refused before anything is read for them', () => {
  const claims = (headerBytes: bigint, sizeBytes: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(headerBytes)
    return virtualFolder({ 'config.json': json(llamaConfig), 'model.safetensors': { bytes, sizeBytes } })
  }
  test.each([
    ['2^63', 2n ** 63n, 2 ** 40],
    ['2^64 − 1', 2n ** 64n - 1n, 2 ** 40],
    ['a gigabyte of JSON', 1_000_000_000n, 2 ** 40],
    ['more than the file', 90_000_000n, 1000],
  ])('a header of %s', async (_, headerBytes, sizeBytes) => {
    const { model, bytesRead } = claims(headerBytes, sizeBytes)
    await expect(shapeOfModel(model)).rejects.toThrow('read model file model.safetensors: ')
    expect(bytesRead()).toBeLessThan(1000)
  })
  test.each(['config.json', INDEX])('a gigabyte of JSON as %s', async (name) => {
    const files = { 'config.json': json(llamaConfig), 'model.safetensors': safetensors(two) }
    const { model, bytesRead } = virtualFolder({ ...files, [name]: { bytes: new Uint8Array(), sizeBytes: 1e9 } })
    await expect(shapeOfModel(model)).rejects.toThrow(
      `read model file ${name}: the file is too large: 1000000000 bytes`,
    )
    expect(bytesRead()).toBeLessThan(1000)
  })
})
