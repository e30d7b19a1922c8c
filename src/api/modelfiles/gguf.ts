/**
 * GGUF headers, of one file or of a split model: metadata and tensors with their exact bytes. The parser is
 * @huggingface/gguf, driven by `readRange`; what it does not look at (tensors that overlap or run out of the file, types
 * without a known size, splits that lack a file) is refused here.
 */
import type { ModelFiles } from './files.ts'
import { fileFault, isCount, readExactly, sizeOf } from './files.ts'
import { isOpError } from '../../lib/errors.ts'

export interface GgufTensor {
  readonly name: string
  /** ggml's number of the type. */
  readonly type: number
  /** The row's length first, as ggml counts. */
  readonly shape: readonly number[]
  readonly bytes: number
}

export interface GgufModel {
  /** The (first) file. */
  readonly file: string
  readonly metadata: ReadonlyMap<string, unknown>
  readonly tensors: readonly GgufTensor[]
}

/** Vocabulary and merges of the largest vocabularies are below 20 MB. */
const MAX_HEADER_BYTES = 40_000_000
const MAX_TENSORS = 100_000
const MAX_FILES = 1_000
const MAGIC = 'GGUF'

/** ggml type → weights per block and bytes per block (ggml-common.h). */
const blocks: Readonly<Record<number, readonly [weights: number, bytes: number]>> = {
  0: [1, 4], // F32
  1: [1, 2], // F16
  2: [32, 18], // Q4_0
  3: [32, 20], // Q4_1
  6: [32, 22], // Q5_0
  7: [32, 24], // Q5_1
  8: [32, 34], // Q8_0
  9: [32, 36], // Q8_1
  10: [256, 84], // Q2_K
  11: [256, 110], // Q3_K
  12: [256, 144], // Q4_K
  13: [256, 176], // Q5_K
  14: [256, 210], // Q6_K
  15: [256, 292], // Q8_K
  16: [256, 66], // IQ2_XXS
  17: [256, 74], // IQ2_XS
  18: [256, 98], // IQ3_XXS
  19: [256, 50], // IQ1_S
  20: [32, 18], // IQ4_NL
  21: [256, 110], // IQ3_S
  22: [256, 82], // IQ2_S
  23: [256, 136], // IQ4_XS
  24: [1, 1], // I8
  25: [1, 2], // I16
  26: [1, 4], // I32
  27: [1, 8], // I64
  28: [1, 8], // F64
  29: [256, 56], // IQ1_M
  30: [1, 2], // BF16
  34: [256, 54], // TQ1_0
  35: [256, 66], // TQ2_0
  39: [32, 17], // MXFP4
  40: [64, 36], // NVFP4
}

/** Bits of a weight of this type, without scales, and how many weights share a block. */
export function packingOfType(type: number): { readonly bits: number; readonly blockWeights: number } {
  const [weights, bytes] = blocks[type] ?? [1, 2]
  return { bits: Math.floor((bytes * 8) / weights), blockWeights: weights }
}

/** The whole model behind these files, in order of their numbers. OpError Invalid names the file and what is wrong. */
export async function readGguf(model: ModelFiles, files: readonly string[]): Promise<GgufModel> {
  const [first = '', ...others] = files
  if (files.length > MAX_FILES) throw fileFault(first, `split into ${files.length} files, at most ${MAX_FILES}`)
  const head = await readFile(model, first)
  const said = head.metadata.get('split.count')
  const count = isCount(said) && said > 0 ? said : 1
  if (count !== files.length)
    throw fileFault(first, `its header says that the model has ${count} files, ${files.length} are there`)
  const tensors = [...head.tensors]
  const fileOf = new Map(head.tensors.map(({ name }) => [name, first]))
  for (const file of others) {
    for (const tensor of (await readFile(model, file)).tensors) {
      const other = fileOf.get(tensor.name)
      if (other !== undefined) throw fileFault(file, `tensor "${tensor.name}" stands in ${other}, too`)
      fileOf.set(tensor.name, file)
      tensors.push(tensor)
    }
  }
  const total = head.metadata.get('split.tensors.count')
  if (isCount(total) && total !== tensors.length)
    throw fileFault(first, `its header says that the model has ${total} tensors, ${tensors.length} are there`)
  return { file: first, metadata: head.metadata, tensors }
}

async function readFile(model: ModelFiles, file: string): Promise<Omit<GgufModel, 'file'>> {
  const sizeBytes = sizeOf(model, file)
  if (sizeBytes === undefined) throw fileFault(file, 'the file is missing')
  await checkStart(model, file, sizeBytes)
  const parsed = await parse(model, file, sizeBytes)
  const metadata = new Map(Object.entries(parsed.metadata).map(([key, value]) => [key, plain(value)]))
  return { metadata, tensors: layout(file, parsed.tensorInfos, Number(parsed.tensorDataOffset), sizeBytes) }
}

/** What can be refused before anything is allocated for it. */
async function checkStart(model: ModelFiles, file: string, sizeBytes: number): Promise<void> {
  if (sizeBytes < 24) throw fileFault(file, `the file is truncated: ${sizeBytes} bytes are too few for a header`)
  const start = await readExactly(model, file, 0, 24)
  if (new TextDecoder('latin1').decode(start.subarray(0, 4)) !== MAGIC)
    throw fileFault(file, 'no GGUF file: it does not begin with GGUF')
  const view = new DataView(start.buffer, start.byteOffset, 24)
  const version = view.getUint32(4, true)
  if (version !== 2 && version !== 3)
    throw fileFault(file, `GGUF version ${version} cannot be read; versions 2 and 3 can, little-endian`)
  const tensors = view.getBigUint64(8, true)
  if (tensors > MAX_TENSORS) throw fileFault(file, `its header names ${tensors} tensors, at most ${MAX_TENSORS}`)
}

async function parse(model: ModelFiles, file: string, sizeBytes: number) {
  // Loaded when the first such file comes: it costs 90 ms and 11 MB.
  const { gguf } = await import('@huggingface/gguf')
  const readHeader = async (_: unknown, init?: { readonly headers?: unknown }): Promise<Response> => {
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(JSON.stringify(init?.headers)) ?? []
    const [start, end] = [Number(from), Math.min(Number(to) + 1, sizeBytes)]
    if (!(start < end)) throw fileFault(file, `the file is truncated: its header is longer than its ${sizeBytes} bytes`)
    if (end > MAX_HEADER_BYTES) throw fileFault(file, `its header is longer than ${MAX_HEADER_BYTES} bytes`)
    const bytes = await readExactly(model, file, start, end)
    return new Response(Uint8Array.from(bytes), {
      status: 206,
      headers: { 'content-range': `bytes ${start}-${end - 1}/${sizeBytes}` },
    })
  }
  try {
    return await gguf('https://model.invalid/', { fetch: readHeader as typeof fetch })
  } catch (cause) {
    if (isOpError(cause)) throw cause
    if (cause instanceof RangeError) throw fileFault(file, 'its header is broken: it ends in the middle of a value')
    throw fileFault(file, 'its header is broken', cause)
  }
}

/** 64-bit numbers as numbers where they fit. */
const plain = (value: unknown): unknown =>
  typeof value === 'bigint'
    ? Number(value)
    : Array.isArray(value) && typeof value[0] === 'bigint'
      ? value.map(Number)
      : value

interface TensorEntry {
  readonly name: string
  readonly shape: readonly bigint[]
  readonly dtype: number
  readonly offset: bigint
}

function layout(file: string, entries: readonly TensorEntry[], dataStart: number, sizeBytes: number) {
  const dataBytes = sizeBytes - dataStart
  if (entries.length > 0 && dataBytes <= 0)
    throw fileFault(file, `the file is truncated: its data would begin at byte ${dataStart} of ${sizeBytes}`)
  const names = new Set<string>()
  let taken = 0
  const sorted = [...entries].sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0))
  return sorted.map((entry): GgufTensor => {
    const { name, dtype, offset } = entry
    if (names.has(name)) throw fileFault(file, `tensor "${name}" stands twice in its header`)
    names.add(name)
    const shape = entry.shape.map(Number)
    const bytes = bytesOf(file, name, dtype, shape)
    const start = Number(offset)
    if (start < taken) throw fileFault(file, `tensor "${name}" overlaps another one`)
    if (start + bytes > dataBytes)
      throw fileFault(
        file,
        `the file is truncated: tensor "${name}" ends at byte ${start + bytes} of the data, which has ${dataBytes}`,
      )
    taken = start + bytes
    return { name, type: dtype, shape, bytes }
  })
}

function bytesOf(file: string, name: string, type: number, shape: readonly number[]): number {
  const block = blocks[type]
  if (block === undefined) throw fileFault(file, `tensor "${name}" has the type ${type}, whose size is not known`)
  const [row = 1, ...rest] = shape
  if (row % block[0] !== 0)
    throw fileFault(file, `tensor "${name}": rows of ${row} do not divide into blocks of ${block[0]}`)
  return rest.reduce((product, dim) => product * dim, (row / block[0]) * block[1])
}
