/** What the engine itself says of each architecture (model_families.py), in words of our own. */
import type { Tensor } from '../../src/api/modelfiles/safetensors.ts'
import { runPython } from './mlx.ts'

export interface Family {
  readonly family: string
  readonly quantized: boolean
  readonly config: Readonly<Record<string, unknown>>
  readonly tensors: readonly Tensor[]
  readonly activeBytes: number
  /** Per cache of the engine, in order of layers. */
  readonly caches: readonly (readonly CachePart[])[]
}

export interface CachePart {
  readonly tokenBytes?: number
  readonly windowTokens?: number
  readonly stateBytes?: number
}

const dtypes: Readonly<Record<string, readonly [name: string, bytes: number]>> = {
  bfloat16: ['BF16', 2],
  float16: ['F16', 2],
  float32: ['F32', 4],
  uint32: ['U32', 4],
  uint8: ['U8', 1],
  int32: ['I32', 4],
  int64: ['I64', 8],
}

type Told = Omit<Family, 'tensors'> & { readonly tensors: readonly (readonly [string, string, ...number[]])[] }

/** Builds every family with the engine's own classes: some 10 s. */
export function engineFamilies(): readonly Family[] {
  const script = new URL('model_families.py', import.meta.url).pathname
  const { families } = JSON.parse(runPython([script])) as { families: readonly Told[] }
  return families.map((told) => ({
    ...told,
    tensors: told.tensors.map(([name, type, ...shape]) => {
      const [dtype, size] = dtypes[type] ?? ['?', 0]
      return { name, dtype, shape, bytes: shape.reduce((product, dim) => product * dim, 1) * size }
    }),
  }))
}
