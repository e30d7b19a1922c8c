/**
 * Packed weights: how many parameters a tensor stands for, at how many bits, and the bytes that the engine keeps of it.
 * MLX packs a row into 32-bit words with one scale per group, so the scales tell the parameters exactly, whatever mixture
 * of bits and groups the modules have.
 */
import type { ModelConfig, Quantization } from './config.ts'
import { CONFIG } from './config.ts'
import { fileFault } from './files.ts'
import { layerOf, moduleOf, partOf } from './names.ts'
import type { Tensor } from './safetensors.ts'

/** A tensor as the engine holds it. */
export interface Held {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
  /** Weights that it stands for; scales and zero points stand for none. */
  readonly parameters: number
  /** Bits of one weight, without scales. */
  readonly bits: number
  /** Weights that share a scale; undefined: not packed. */
  readonly groupSize: number | undefined
}

type Packing = Pick<Quantization, 'bits' | 'groupSize'>

const floatBits: Readonly<Record<string, number>> = { F64: 64, F32: 32, F16: 16, BF16: 16, F8_E4M3: 8, F8_E5M2: 8 }
const scaleParts = new Set([
  'scales',
  'qzeros',
  'g_idx',
  'weight_scale',
  'weight_scale_inv',
  'weight_scale_2',
  'weight_shape',
  'weight_zero_point',
  'input_scale',
])
/** mlx-lm keeps these in 8 bit; elsewhere it unpacks 8-bit floats with a scale into 16 bits when it loads them. */
const keepsFloat8 = new Set(['minimax_m3_vl'])

export function heldTensors(config: ModelConfig, tensors: readonly Tensor[]): readonly Held[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  return tensors.map((tensor) => held(config, tensor, (part) => byName.get(`${moduleOf(tensor.name)}.${part}`)))
}

function held(config: ModelConfig, tensor: Tensor, beside: (part: string) => Tensor | undefined): Held {
  const { name, dtype, shape, bytes } = tensor
  const part = partOf(name)
  const elements = elementsOf(tensor)
  const of = (parameters: number, bits: number, groupSize?: number, kept = bytes): Held => ({
    name,
    dtype,
    shape,
    bytes: kept,
    parameters,
    bits,
    groupSize,
  })
  const unpacks = !keepsFloat8.has(config.architecture) && !keepsFloat8.has(config.family)
  if (part === 'weight_scale_inv') return of(0, 0, undefined, unpacks ? 0 : bytes)
  if (scaleParts.has(part) || (part.endsWith('_scales') && dtype === 'U8')) return of(0, 0)
  if (part === 'biases' && beside('scales') !== undefined) return of(0, 0)
  if (part.endsWith('_blocks') && dtype === 'U8') return of(2 * elements, 4, 32)
  if (part === 'qweight' || part === 'weight_packed') {
    const { bits, groupSize } = packingOf(config, name)
    return of(Math.round((elements * 32) / bits), bits, groupSize)
  }
  const scales = part === 'weight' && dtype === 'U32' ? beside('scales') : undefined
  if (scales !== undefined) return packed(config, tensor, scales, of)
  const float8 = dtype.startsWith('F8_E') && beside('weight_scale_inv') !== undefined
  return of(elements, floatBits[dtype] ?? 16, undefined, float8 && unpacks ? 2 * elements : bytes)
}

function packed(
  config: ModelConfig,
  tensor: Tensor,
  scales: Tensor,
  of: (parameters: number, bits: number, groupSize?: number) => Held,
): Held {
  const own = packingOf(config, tensor.name)
  // The words and the scales must tell of the same number of weights. A module may have another name in the files than
  // in the configuration, so any of the packings that stand there may be its own.
  const fits = ({ bits, groupSize }: Packing) => elementsOf(tensor) * 32 === elementsOf(scales) * groupSize * bits
  const found = [own, ...(config.quantization?.overrides.values() ?? [])].find(fits)
  if (found === undefined)
    throw fileFault(
      CONFIG,
      `quantization of ${own.bits} bits in groups of ${own.groupSize} does not fit the words and scales of tensor "${tensor.name}"`,
    )
  return of(elementsOf(scales) * found.groupSize, found.bits, found.groupSize)
}

/** The packing of the tensor's own module, or else the general one. */
function packingOf({ quantization }: ModelConfig, name: string): Packing {
  if (quantization === undefined) throw fileFault(CONFIG, `quantization is missing, but tensor "${name}" is packed`)
  return quantization.overrides.get(moduleOf(name)) ?? quantization
}

const elementsOf = ({ shape }: Pick<Tensor, 'shape'>): number => shape.reduce((product, dim) => product * dim, 1)

/** Bits and group of most of the weights: what a person calls the model's quantisation. */
export function mostly(tensors: readonly Held[]): { readonly bits: number; readonly groupSize?: number } {
  const votes = new Map<string, { bits: number; groupSize: number | undefined; parameters: number }>()
  for (const { bits, groupSize, parameters } of tensors) {
    const key = `${bits}/${groupSize ?? 0}`
    const vote = votes.get(key) ?? { bits, groupSize, parameters: 0 }
    votes.set(key, { ...vote, parameters: vote.parameters + parameters })
  }
  const [first] = [...votes.values()].sort((a, b) => b.parameters - a.parameters)
  const { bits = 16, groupSize } = first ?? {}
  return { bits, ...(groupSize === undefined ? {} : { groupSize }) }
}

/** Bytes of each layer's tensors; Invalid names the first layer without any. */
export function bytesPerLayer(
  tensors: readonly { readonly name: string; readonly bytes: number }[],
  layers: number,
  file: string = CONFIG,
): readonly number[] {
  const bytes = new Array<number>(layers).fill(0)
  for (const tensor of tensors) {
    const layer = layerOf(tensor.name)
    if (layer !== undefined) bytes[layer] = (bytes[layer] ?? 0) + tensor.bytes
  }
  const empty = bytes.indexOf(0)
  if (empty >= 0)
    throw fileFault(file, `num_hidden_layers is ${layers}, but no weights of layer ${empty} are in the files`)
  return bytes
}
