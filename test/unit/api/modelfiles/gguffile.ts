/** GGUF files in memory: real headers, no weights. */
import type { VirtualFile } from './virtual.ts'

export type GgufValue = string | number | boolean | readonly string[] | readonly number[] | readonly boolean[]
/** ggml type, then the shape with the row's length first. */
export type GgufSpec = readonly [type: number, ...shape: number[]]

export const F32 = 0
export const F16 = 1
export const Q8_0 = 8
export const Q4_K = 12
export const Q6_K = 14
export const MXFP4 = 39

const blocks: Readonly<Record<number, readonly [number, number]>> = {
  [F32]: [1, 4],
  [F16]: [1, 2],
  [Q8_0]: [32, 34],
  [Q4_K]: [256, 144],
  [Q6_K]: [256, 210],
  [MXFP4]: [32, 17],
}
const UINT32 = 4
const BOOL = 7
const STRING = 8
const ARRAY = 9
const ALIGNMENT = 32

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
export const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])

const typeOf = (value: string | number | boolean): number =>
  typeof value === 'string' ? STRING : typeof value === 'boolean' ? BOOL : UINT32
const scalar = (value: string | number | boolean): Buffer =>
  typeof value === 'string' ? text(value) : typeof value === 'boolean' ? Buffer.from([Number(value)]) : u32(value)

function metadataValue(value: GgufValue): Buffer {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return Buffer.concat([u32(typeOf(value)), scalar(value)])
  return Buffer.concat([u32(ARRAY), u32(typeOf(value[0] ?? 0)), u64(value.length), ...value.map(scalar)])
}

export interface GgufOptions {
  /** Spoils the place of a tensor. */
  readonly offset?: (name: string, offset: number) => number | bigint
  /** What the header says instead of the truth. */
  readonly version?: number
  readonly tensorCount?: number | bigint
  readonly metadataCount?: number | bigint
}

export function ggufFile(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: Readonly<Record<string, GgufSpec>>,
  options: GgufOptions = {},
): VirtualFile {
  const parts = [Buffer.from('GGUF'), u32(options.version ?? 3)]
  parts.push(u64(options.tensorCount ?? Object.keys(tensors).length))
  parts.push(u64(options.metadataCount ?? Object.keys(metadata).length))
  for (const [key, value] of Object.entries(metadata)) parts.push(text(key), metadataValue(value))
  let offset = 0
  for (const [name, [type, ...shape]] of Object.entries(tensors)) {
    parts.push(text(name), u32(shape.length), ...shape.map(u64), u32(type))
    parts.push(u64(options.offset?.(name, offset) ?? offset))
    const [weights, bytes] = blocks[type] ?? [1, 1]
    const size = (shape.reduce((product, dim) => product * dim, 1) / weights) * bytes
    offset = Math.ceil((offset + size) / ALIGNMENT) * ALIGNMENT
  }
  const header = Buffer.concat(parts)
  const padded = Buffer.concat([header, Buffer.alloc((ALIGNMENT - (header.length % ALIGNMENT)) % ALIGNMENT)])
  // The parser reads in pieces of 2 MB: as many zeros can be read behind the header.
  const sizeBytes = padded.length + offset
  return { bytes: Buffer.concat([padded, Buffer.alloc(Math.min(offset, 4_100_000))]), sizeBytes }
}
