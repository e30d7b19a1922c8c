/**
 * Safetensors headers: 8 bytes little-endian length, then JSON `name → {dtype, shape, data_offsets}`. Only headers are
 * read. Whatever would make a plan from wrong sizes (truncated, overlapping, missing) is refused with the file's name.
 */
import type { ModelFiles } from './files.ts'
import { fileFault, isCount, isMap, parseJsonMap, readExactly, readJsonMap, sizeOf } from './files.ts'

export interface Tensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
}

/** As the format's own reader. */
const MAX_HEADER_BYTES = 100_000_000
const MAX_INDEX_BYTES = 100_000_000
const INDEX = 'model.safetensors.index.json'

const dtypeBits: Readonly<Record<string, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
}

/** Headers read at once: most of the time goes by waiting for a far server. */
const READERS = 8

/** Every tensor of the model, from one file or from the files that the index names. */
export async function readTensors(model: ModelFiles): Promise<readonly Tensor[]> {
  const index = await indexOf(model)
  const files = filesIn(model, index)
  const headers = await inOrder(files, (file) => readHeader(model, file))
  const fileOfTensor = new Map<string, string>()
  for (const [at, file] of files.entries()) {
    for (const tensor of headers[at] ?? []) {
      const other = fileOfTensor.get(tensor.name)
      if (other !== undefined) throw fileFault(file, `tensor "${tensor.name}" stands in ${other}, too`)
      fileOfTensor.set(tensor.name, file)
    }
  }
  for (const [name, file] of index ?? [])
    if (fileOfTensor.get(name) !== file) throw fileFault(file, `tensor "${name}" of ${INDEX} is missing`)
  return headers.flat()
}

/** The weight files that the engine would load, in order of names. */
export const safetensorsFiles = async (model: ModelFiles): Promise<readonly string[]> =>
  filesIn(model, await indexOf(model))

const indexOf = async (model: ModelFiles) => (sizeOf(model, INDEX) === undefined ? undefined : readIndex(model))

const filesIn = (model: ModelFiles, index: ReadonlyMap<string, string> | undefined): readonly string[] =>
  index === undefined ? weightFiles(model) : [...new Set(index.values())].sort()

/** The results in the order of the items, some at a time; the first failure in that order ends it. */
async function inOrder<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += READERS) {
    const settled = await Promise.allSettled(items.slice(start, start + READERS).map(work))
    for (const result of settled) {
      if (result.status === 'rejected') throw result.reason
      results.push(result.value)
    }
  }
  return results
}

/** Without an index: what the engine would load. */
function weightFiles(model: ModelFiles): readonly string[] {
  const all = model.files.map((f) => f.name).filter((name) => /^[^/]*\.safetensors$/.test(name))
  const own = all.filter((name) => name.startsWith('model'))
  const files = own.length > 0 ? own : all
  if (files.length === 0) throw fileFault('model.safetensors', 'the file is missing, and there are no other weights')
  return files.sort()
}

/** Tensor → file, with every file there. */
async function readIndex(model: ModelFiles): Promise<ReadonlyMap<string, string>> {
  const { weight_map: weightMap } = await readJsonMap(model, INDEX, MAX_INDEX_BYTES)
  if (!isMap(weightMap) || Object.keys(weightMap).length === 0)
    throw fileFault(INDEX, 'weight_map must map tensors to files')
  const map = new Map<string, string>()
  for (const [name, file] of Object.entries(weightMap)) {
    if (typeof file !== 'string' || !/^[^/\\]+\.safetensors$/.test(file))
      throw fileFault(
        INDEX,
        `tensor "${name}": ${JSON.stringify(file)} is no name of a safetensors file in the same folder`,
      )
    map.set(name, file)
  }
  const missing = [...new Set(map.values())].filter((file) => sizeOf(model, file) === undefined).sort()
  if (missing.length > 0)
    throw fileFault(missing[0] ?? '', `missing, though ${INDEX} names it (missing: ${missing.join(', ')})`)
  return map
}

/** The tensors of one file, checked against its size. */
export async function readHeader(model: ModelFiles, file: string): Promise<readonly Tensor[]> {
  const sizeBytes = sizeOf(model, file) ?? 0
  if (sizeBytes < 8) throw fileFault(file, `the file is truncated: ${sizeBytes} bytes are too few for a header`)
  const prefix = await readExactly(model, file, 0, 8)
  const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true))
  if (headerBytes > MAX_HEADER_BYTES)
    throw fileFault(file, `no safetensors file: its header would be ${headerBytes} bytes, at most ${MAX_HEADER_BYTES}`)
  if (headerBytes < 2 || 8 + headerBytes > sizeBytes)
    throw fileFault(file, `the file is truncated: its header is ${headerBytes} bytes, the file ${sizeBytes}`)
  const header = parseJsonMap(file, await readExactly(model, file, 8, 8 + headerBytes))
  return checkLayout(file, header, sizeBytes - 8 - headerBytes)
}

function checkLayout(file: string, header: Readonly<Record<string, unknown>>, dataBytes: number): readonly Tensor[] {
  const placed = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => parseEntry(file, name, entry))
    .sort((a, b) => a.start - b.start || a.end - b.end)
  let taken = 0
  for (const { tensor, start, end } of placed) {
    if (start < taken) throw fileFault(file, `tensor "${tensor.name}" overlaps another one`)
    if (end > dataBytes)
      throw fileFault(
        file,
        `the file is truncated: tensor "${tensor.name}" ends at byte ${end} of the data, which has ${dataBytes}`,
      )
    taken = end
  }
  return placed.map(({ tensor }) => tensor)
}

interface Placed {
  readonly tensor: Tensor
  readonly start: number
  readonly end: number
}

function parseEntry(file: string, name: string, entry: unknown): Placed {
  const { dtype, shape, data_offsets: offsets } = isMap(entry) ? entry : {}
  if (typeof dtype !== 'string' || !Array.isArray(shape) || !Array.isArray(offsets) || offsets.length !== 2)
    throw fileFault(file, `tensor "${name}" must have dtype, shape and two data_offsets`)
  const [start, end] = offsets as readonly unknown[]
  if (!isCount(start) || !isCount(end) || end < start)
    throw fileFault(file, `tensor "${name}": data_offsets ${JSON.stringify(offsets)} are no range`)
  const dims = shape as readonly unknown[]
  if (!dims.every(isCount)) throw fileFault(file, `tensor "${name}": shape ${JSON.stringify(shape)} is none`)
  const bits = Object.hasOwn(dtypeBits, dtype) ? dtypeBits[dtype] : undefined
  const elements = dims.reduce((product, dim) => product * dim, 1)
  if (bits !== undefined && Math.ceil((elements * bits) / 8) !== end - start)
    throw fileFault(file, `tensor "${name}": ${dtype} ${JSON.stringify(shape)} does not fill its ${end - start} bytes`)
  return { tensor: { name, dtype, shape: dims, bytes: end - start }, start, end }
}
