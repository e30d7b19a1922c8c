/**
 * Apple chips, links and constants of the cost and memory models, transcribed from data/hardware.json (November 2026).
 * Every value is a default: what a node reports or a probe measured wins. Look-ups are in hardware.ts.
 * Units: GBps 1e9 bytes/s; fp16Tflops 1e12 flop/s ± 10 %; Micros microseconds; GiB 2^30 bytes.
 */
import type { LinkType } from './node.ts'

export interface ChipVariant {
  readonly gpuCores: number
  readonly bandwidthGBps: number
  readonly fp16Tflops: number
  /** Matmul rate with the GPU's neural accelerators, where the chip has them. */
  readonly fp16TflopsNeuralAccelerator?: number
  /** Where a variant is sold with less memory than the chip's maximum. */
  readonly maxMemoryGiB?: number
}

export interface ChipFacts {
  readonly name: string
  /** Share of the memory bandwidth that a decode step reaches. */
  readonly decodeEfficiency: number
  readonly efficiencyBasis: 'measured' | 'default'
  /** Replaces decodeEfficiency for weights under 5 bits: dequantisation is bound by the ALUs there. */
  readonly decodeEfficiencyBelow5Bit?: number
  readonly maxMemoryGiB: number
  readonly thunderbolt: 3 | 4 | 5
  readonly rdmaCapable: boolean
  readonly variants: readonly ChipVariant[]
}

export interface LinkClass {
  readonly class: string
  readonly type: LinkType
  readonly transport: 'TCP' | 'RDMA'
  /** One all-reduce of 2 ranks inside a running model. */
  readonly allReduceMicros: number
  /** α(t) = allReduceMicros · (1 + growth · (t − 2)) */
  readonly allReduceGrowthPerRank: number
  /** One pipeline stage boundary. */
  readonly hopMicros: number
  readonly bandwidthGBps: number
  readonly basis: 'measured' | 'inferred'
}

export const chips: readonly ChipFacts[] = [
  {
    name: 'Apple M1',
    decodeEfficiency: 0.7,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 16,
    thunderbolt: 3,
    rdmaCapable: false,
    variants: [
      { gpuCores: 7, bandwidthGBps: 68.25, fp16Tflops: 2.3 },
      { gpuCores: 8, bandwidthGBps: 68.25, fp16Tflops: 2.6 },
    ],
  },
  {
    name: 'Apple M1 Pro',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 32,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 16, bandwidthGBps: 200, fp16Tflops: 5.2 }],
  },
  {
    name: 'Apple M1 Max',
    decodeEfficiency: 0.7,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 64,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 32, bandwidthGBps: 400, fp16Tflops: 10.4 }],
    decodeEfficiencyBelow5Bit: 0.45,
  },
  {
    name: 'Apple M1 Ultra',
    decodeEfficiency: 0.65,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 128,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [
      { gpuCores: 48, bandwidthGBps: 800, fp16Tflops: 15.6 },
      { gpuCores: 64, bandwidthGBps: 800, fp16Tflops: 20.8 },
    ],
    decodeEfficiencyBelow5Bit: 0.45,
  },
  {
    name: 'Apple M2',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 24,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 10, bandwidthGBps: 100, fp16Tflops: 3.6 }],
  },
  {
    name: 'Apple M2 Pro',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 32,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 19, bandwidthGBps: 200, fp16Tflops: 6.8 }],
  },
  {
    name: 'Apple M2 Max',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 96,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 38, bandwidthGBps: 400, fp16Tflops: 13.6 }],
  },
  {
    name: 'Apple M2 Ultra',
    decodeEfficiency: 0.8,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 192,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 76, bandwidthGBps: 800, fp16Tflops: 27.2 }],
  },
  {
    name: 'Apple M3',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 24,
    thunderbolt: 3,
    rdmaCapable: false,
    variants: [{ gpuCores: 10, bandwidthGBps: 100, fp16Tflops: 3.6 }],
  },
  {
    name: 'Apple M3 Pro',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 36,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 18, bandwidthGBps: 150, fp16Tflops: 6.4 }],
  },
  {
    name: 'Apple M3 Max',
    decodeEfficiency: 0.88,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 128,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [
      { gpuCores: 30, bandwidthGBps: 300, fp16Tflops: 10.7 },
      { gpuCores: 40, bandwidthGBps: 400, fp16Tflops: 14.3 },
    ],
  },
  {
    name: 'Apple M3 Ultra',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 512,
    thunderbolt: 5,
    rdmaCapable: true,
    variants: [
      { gpuCores: 60, bandwidthGBps: 819, fp16Tflops: 21.5 },
      { gpuCores: 80, bandwidthGBps: 819, fp16Tflops: 28.6 },
    ],
  },
  {
    name: 'Apple M4',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 32,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 10, bandwidthGBps: 120, fp16Tflops: 4.3 }],
  },
  {
    name: 'Apple M4 Pro',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 64,
    thunderbolt: 5,
    rdmaCapable: true,
    variants: [
      { gpuCores: 16, bandwidthGBps: 273, fp16Tflops: 6.9 },
      { gpuCores: 20, bandwidthGBps: 273, fp16Tflops: 8.6 },
    ],
  },
  {
    name: 'Apple M4 Max',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 128,
    thunderbolt: 5,
    rdmaCapable: true,
    variants: [
      { gpuCores: 32, bandwidthGBps: 410, fp16Tflops: 13.7, maxMemoryGiB: 36 },
      { gpuCores: 40, bandwidthGBps: 546, fp16Tflops: 17.2 },
    ],
  },
  {
    name: 'Apple M5',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 32,
    thunderbolt: 4,
    rdmaCapable: false,
    variants: [{ gpuCores: 10, bandwidthGBps: 153, fp16Tflops: 4.3, fp16TflopsNeuralAccelerator: 17.2 }],
  },
  {
    name: 'Apple M5 Pro',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'default',
    maxMemoryGiB: 64,
    thunderbolt: 5,
    rdmaCapable: true,
    variants: [{ gpuCores: 20, bandwidthGBps: 307, fp16Tflops: 8.6 }],
  },
  {
    name: 'Apple M5 Max',
    decodeEfficiency: 0.85,
    efficiencyBasis: 'measured',
    maxMemoryGiB: 128,
    thunderbolt: 5,
    rdmaCapable: true,
    variants: [{ gpuCores: 40, bandwidthGBps: 614, fp16Tflops: 19.0, fp16TflopsNeuralAccelerator: 55.0 }],
  },
]

export const linkClasses: readonly LinkClass[] = [
  {
    class: 'tb5-rdma-fs',
    type: 'Thunderbolt5',
    transport: 'RDMA',
    allReduceMicros: 50,
    allReduceGrowthPerRank: 0.12,
    hopMicros: 1800,
    bandwidthGBps: 5.0,
    basis: 'measured',
  },
  {
    class: 'tb5-rdma',
    type: 'Thunderbolt5',
    transport: 'RDMA',
    allReduceMicros: 240,
    allReduceGrowthPerRank: 0.05,
    hopMicros: 1200,
    bandwidthGBps: 5.0,
    basis: 'measured',
  },
  {
    class: 'tb5-tcp',
    type: 'Thunderbolt5',
    transport: 'TCP',
    allReduceMicros: 340,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 2.5,
    basis: 'measured',
  },
  {
    class: 'tb4-tcp',
    type: 'Thunderbolt4',
    transport: 'TCP',
    allReduceMicros: 340,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 2.0,
    basis: 'inferred',
  },
  {
    class: '10gbe',
    type: 'Ethernet10G',
    transport: 'TCP',
    allReduceMicros: 400,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 1.1,
    basis: 'inferred',
  },
  {
    class: '2.5gbe',
    type: 'Ethernet2.5G',
    transport: 'TCP',
    allReduceMicros: 400,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 0.28,
    basis: 'inferred',
  },
  {
    class: '1gbe',
    type: 'Ethernet1G',
    transport: 'TCP',
    allReduceMicros: 400,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 0.117,
    basis: 'inferred',
  },
  {
    class: 'wifi',
    type: 'WiFi',
    transport: 'TCP',
    allReduceMicros: 8000,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 25000,
    bandwidthGBps: 0.06,
    basis: 'measured',
  },
  // Not in hardware.json: agents of one machine (`mctl dev`). The runtime's own cost dominates, as over Thunderbolt.
  {
    class: 'loopback',
    type: 'Loopback',
    transport: 'TCP',
    allReduceMicros: 340,
    allReduceGrowthPerRank: 0.15,
    hopMicros: 3500,
    bandwidthGBps: 5.0,
    basis: 'inferred',
  },
]

/** Replaces hopMicros of the link where llama.cpp's RPC carries the pipeline over TCP (measured 3,500 to 9,000). */
export const LLAMACPP_RPC_HOP_MICROS = 7000

/** For a chip that is not listed. */
export const DEFAULT_DECODE_EFFICIENCY = 0.85

export type ModelCostKind = 'dense' | 'moe' | 'mla'

/** GPU dispatch per layer and decode step. */
export const dispatchMicrosPerLayer: Readonly<Record<'mlx' | 'llamacpp', Readonly<Record<ModelCostKind, number>>>> = {
  mlx: { dense: 45, moe: 105, mla: 280 },
  llamacpp: { dense: 100, moe: 150, mla: 280 },
}

/** gpt-oss with MXFP4 weights behaves like this instead. */
export const GPT_OSS_DISPATCH_MICROS_PER_LAYER = 170

/** Share of the bandwidth that reading the KV cache reaches: a matter of the attention kernel, not of memory. */
export const kvReadEfficiencies = {
  mla: 0.3,
  headDim256: 0.42,
  headsPerKvHead16: 0.29,
  headsPerKvHeadOver4: 0.5,
  otherwise: 0.75,
}

/** Divides the effective bandwidth for weights only; other widths 1. */
export const quantizedReadEfficiency: Readonly<Record<number, number>> = { 2: 0.72, 3: 0.9 }

/** MLX affine, group 64, fp16 scale and bias per group. */
export const bitsPerWeightMlx: Readonly<Record<number, number>> = {
  2: 2.5,
  3: 3.5,
  4: 4.5,
  5: 5.5,
  6: 6.5,
  8: 8.5,
  16: 16,
}

export const prefillConstants = {
  computeEfficiency: 0.8,
  computeEfficiencyMla: 0.52,
  chunkTokens: 2048,
  meshBandwidthFactor: 1.6,
  mlaHeadDim: 192,
}

export const batchConstants = { smallBatchComputeEfficiency: 0.3, moeSharedFraction: 0.35, maxGainUntilProbed: 4.0 }

/** Fraction of RAM that Metal recommends as working set, by macOS major version: a fallback, the node's own answer wins. */
export const gpuWorkingSetFractions: readonly {
  readonly memoryGiB: number
  readonly macOS15: number
  readonly macOS26: number
}[] = [
  { memoryGiB: 8, macOS15: 0.6667, macOS26: 0.6667 },
  { memoryGiB: 16, macOS15: 0.6667, macOS26: 0.74 },
  { memoryGiB: 18, macOS15: 0.6667, macOS26: 0.6667 },
  { memoryGiB: 24, macOS15: 0.6667, macOS26: 0.6667 },
  { memoryGiB: 32, macOS15: 0.6667, macOS26: 0.6667 },
  { memoryGiB: 36, macOS15: 0.75, macOS26: 0.75 },
  { memoryGiB: 48, macOS15: 0.725, macOS26: 0.725 },
  { memoryGiB: 64, macOS15: 0.75, macOS26: 0.75 },
  { memoryGiB: 96, macOS15: 0.75, macOS26: 0.75 },
  { memoryGiB: 128, macOS15: 0.75, macOS26: 0.84 },
  { memoryGiB: 192, macOS15: 0.75, macOS26: 0.75 },
  { memoryGiB: 256, macOS15: 0.75, macOS26: 0.87 },
  { memoryGiB: 512, macOS15: 0.75, macOS26: 0.75 },
]
export const gpuWorkingSetFallback = { atMost32GiB: 0.6667, above32GiB: 0.75 }

export const memoryConstants = {
  allocatableFactor: 0.95,
  liveHeadroomGiB: 1,
  runtimeGB: { denseSingleOrPipeline: 1.0, denseTensor: 1.5, moeSingleOrPipeline: 1.0, moeTensor: 2.5 },
  mlaTensorWeightFactor: 1.12,
}
