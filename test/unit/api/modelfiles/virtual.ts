/** Models of any size as headers alone: files that know their length and hold nothing where the weights would be. */
import type { ModelFiles } from '../../../../src/api/modelfiles/files.ts'
import type { TensorSpec } from './folder.ts'

export interface VirtualFile {
  readonly bytes: Uint8Array
  /** Length of the file; what is behind `bytes` cannot be read. */
  readonly sizeBytes: number
}

/** The folder, and how many bytes were read from it. Reading a weight throws. */
export function virtualFolder(files: Readonly<Record<string, VirtualFile | Uint8Array>>) {
  let bytesRead = 0
  const fileOf = (name: string): VirtualFile => {
    const file = files[name]
    return file instanceof Uint8Array
      ? { bytes: file, sizeBytes: file.byteLength }
      : (file ?? { bytes: new Uint8Array(), sizeBytes: 0 })
  }
  const model: ModelFiles = {
    files: Object.keys(files).map((name) => ({ name, sizeBytes: fileOf(name).sizeBytes })),
    readRange(name, start, end) {
      const { bytes, sizeBytes } = fileOf(name)
      if (Math.min(end, sizeBytes) > bytes.byteLength && bytes.byteLength < sizeBytes)
        return Promise.reject(new Error(`bug: bytes ${start} to ${end} of ${name} are weights`))
      bytesRead += Math.min(end, bytes.byteLength) - start
      return Promise.resolve(bytes.subarray(start, end))
    },
  }
  return { model, bytesRead: () => bytesRead }
}

const widths: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, U32: 4, U8: 1, I32: 4, F8_E4M3: 1 }

/** A safetensors file of these tensors, without their data. */
export function headerOnly(tensors: Readonly<Record<string, TensorSpec>>): VirtualFile {
  const header: Record<string, unknown> = {}
  let offset = 0
  for (const [name, [dtype, ...shape]] of Object.entries(tensors)) {
    const bytes = shape.reduce((product, dim) => product * dim, 1) * (widths[dtype] ?? 0)
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(json.length))
  return { bytes: Buffer.concat([prefix, json]), sizeBytes: 8 + json.length + offset }
}

export interface Packing {
  readonly bits: number
  readonly groupSize: number
  /** mxfp4: scales of one byte and no zero points. */
  readonly mxfp4?: boolean
}

/** A linear layer (or a stack of them) as mlx-lm saves it: packed with scales and biases, or plain in 16 bit. */
export function linear(name: string, packing: Packing | undefined, ...shape: number[]): Record<string, TensorSpec> {
  if (packing === undefined) return { [`${name}.weight`]: ['BF16', ...shape] }
  const { bits, groupSize, mxfp4 = false } = packing
  const rows = shape.slice(0, -1)
  const columns = shape.at(-1) ?? 0
  const scales = [...rows, columns / groupSize]
  return {
    [`${name}.weight`]: ['U32', ...rows, (columns * bits) / 32],
    [`${name}.scales`]: [mxfp4 ? 'U8' : 'BF16', ...scales],
    ...(mxfp4 ? {} : { [`${name}.biases`]: ['BF16', ...scales] as TensorSpec }),
  }
}

export const vector = (name: string, length: number): Record<string, TensorSpec> => ({ [name]: ['BF16', length] })

export interface LayerWidths {
  readonly hidden: number
  /** Of keys and values. */
  readonly kv: number
  readonly feedForward: number
}

/** The tensors of one layer of a llama, under `at`: `model.layers.0`. */
export const llamaLayer = (
  at: string,
  packing: Packing,
  { hidden, kv, feedForward }: LayerWidths,
): Record<string, TensorSpec> => ({
  ...linear(`${at}.self_attn.q_proj`, packing, hidden, hidden),
  ...linear(`${at}.self_attn.k_proj`, packing, kv, hidden),
  ...linear(`${at}.self_attn.v_proj`, packing, kv, hidden),
  ...linear(`${at}.self_attn.o_proj`, packing, hidden, hidden),
  ...linear(`${at}.mlp.gate_proj`, packing, feedForward, hidden),
  ...linear(`${at}.mlp.up_proj`, packing, feedForward, hidden),
  ...linear(`${at}.mlp.down_proj`, packing, hidden, feedForward),
  ...vector(`${at}.input_layernorm.weight`, hidden),
  ...vector(`${at}.post_attention_layernorm.weight`, hidden),
})
