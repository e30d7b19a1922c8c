/**
 * What a Mac is, by its chip and memory: look-ups over hardwaretable.ts, and the memory a node may promise (DESIGN §7).
 * Figures that a node reports always win over these.
 */
import { parseBytes } from '../lib/quantity.ts'
import type { ChipFacts, ChipVariant, LinkClass, ModelCostKind } from './hardwaretable.ts'
import {
  chips,
  gpuWorkingSetFallback,
  gpuWorkingSetFractions,
  kvReadEfficiencies,
  linkClasses,
  memoryConstants,
} from './hardwaretable.ts'
import type { ModelShape } from './model.ts'
import type { LinkType } from './node.ts'

export * from './hardwaretable.ts'

const GIB = 2 ** 30

/** A chip in the build that a node has. */
export interface Chip extends Omit<ChipFacts, 'variants'>, ChipVariant {
  readonly maxMemoryGiB: number
}

/**
 * The chip by its brand string (`Apple M4 Pro`), in the variant with so many GPU cores; undefined for a chip that is not
 * listed: then speeds are not predicted. A count that is not listed takes the bandwidth of the nearest variant and
 * compute in proportion to cores. No count: the smallest variant that is sold with that much memory.
 */
export function findChip(name: string, gpuCores?: number, memoryBytes = 0): Chip | undefined {
  const facts = chips.find((c) => c.name === name)
  if (facts === undefined) return undefined
  const { variants, ...chip } = facts
  const fitting = variants.filter((v) => (v.maxMemoryGiB ?? facts.maxMemoryGiB) * GIB >= memoryBytes)
  const candidates = gpuCores === undefined && fitting.length > 0 ? fitting : variants
  const [first, ...others] = candidates
  if (first === undefined) return undefined
  if (gpuCores === undefined) return { ...chip, ...first }
  const distance = (v: ChipVariant) => Math.abs(v.gpuCores - gpuCores)
  const nearest = others.reduce((best, v) => (distance(v) < distance(best) ? v : best), first)
  return { ...chip, ...scaleVariant(nearest, gpuCores) }
}

function scaleVariant(variant: ChipVariant, gpuCores: number): ChipVariant {
  const factor = gpuCores / variant.gpuCores
  const scaled = { ...variant, gpuCores, fp16Tflops: variant.fp16Tflops * factor }
  const accelerated = variant.fp16TflopsNeuralAccelerator
  return accelerated === undefined ? scaled : { ...scaled, fp16TflopsNeuralAccelerator: accelerated * factor }
}

/**
 * The default figures of a link. RDMA means JACCL without fast-sync, because our shim switches that off (it can wedge
 * the GPU). Thunderbolt 3 counts as Thunderbolt 4; a type that has no RDMA class falls back to its TCP class.
 */
export function findLinkClass(type: LinkType, transport: 'TCP' | 'RDMA'): LinkClass {
  const own = type === 'Thunderbolt3' ? 'Thunderbolt4' : type
  const matches = linkClasses.filter((l) => l.type === own && l.class !== 'tb5-rdma-fs')
  const found = matches.find((l) => l.transport === transport) ?? matches[0]
  if (found === undefined) throw new Error(`bug: no link class for ${type} ${transport}`)
  return found
}

/** Growth of an all-reduce per rank over 2 for a measured α: that of the nearest class of the same transport. */
export const allReduceGrowthPerRank = (transport: 'TCP' | 'RDMA', allReduceMicros: number): number =>
  transport === 'TCP' ? 0.15 : allReduceMicros < 110 ? 0.12 : 0.05

export const costKindOf = (shape: Pick<ModelShape, 'attention' | 'experts'>): ModelCostKind =>
  shape.attention === 'Mla' ? 'mla' : (shape.experts?.count ?? 0) > 0 ? 'moe' : 'dense'

/** Share of the memory bandwidth that reading this model's KV cache reaches; the first rule that matches. */
export function kvReadEfficiency(
  shape: Pick<ModelShape, 'attention' | 'headDim' | 'attentionHeads' | 'kvHeads'>,
): number {
  const headsPerKvHead = shape.attentionHeads / shape.kvHeads
  if (shape.attention === 'Mla') return kvReadEfficiencies.mla
  if (shape.headDim >= 256) return kvReadEfficiencies.headDim256
  if (headsPerKvHead >= 16) return kvReadEfficiencies.headsPerKvHead16
  return headsPerKvHead > 4 ? kvReadEfficiencies.headsPerKvHeadOver4 : kvReadEfficiencies.otherwise
}

/**
 * The GPU working-set limit that Metal would recommend, where no node reported it. `osVersion` like `15.3` or
 * `macOS 26.1`; absent: the macOS 15 column, which is never the larger one.
 */
export function defaultGpuMemoryBytes(memoryBytes: number, osVersion?: string): number {
  const major = Number(/\d+/.exec(osVersion ?? '')?.[0] ?? 15)
  const row = gpuWorkingSetFractions.find((r) => r.memoryGiB * GIB === memoryBytes)
  const fallback = memoryBytes <= 32 * GIB ? gpuWorkingSetFallback.atMost32GiB : gpuWorkingSetFallback.above32GiB
  const fraction = row === undefined ? fallback : major >= 26 ? row.macOS26 : row.macOS15
  return Math.floor(memoryBytes * fraction)
}

/** What macOS keeps for itself: `spec` (Node.spec.systemReserve, a quantity) when it is set, else clamp(2 GiB + RAM/8, 4 GiB, 16 GiB). */
export function systemReserveBytes(memoryBytes: number, spec?: string): number {
  if (spec !== undefined) return parseBytes(spec)
  return Math.min(16 * GIB, Math.max(4 * GIB, 2 * GIB + Math.floor(memoryBytes / 8)))
}

export interface NodeMemory {
  readonly memoryBytes: number
  /** The limit that the node queried; absent: the table by memory and macOS version. */
  readonly gpuMemoryBytes?: number
  readonly osVersion?: string
  /** Absent: the default reserve. */
  readonly systemReserveBytes?: number
}

/** What a node may promise to shards: floor(0.95 × min(RAM − reserve, GPU limit)), never negative. */
export function allocatableBytes(memory: NodeMemory): number {
  const reserve = memory.systemReserveBytes ?? systemReserveBytes(memory.memoryBytes)
  const gpu = memory.gpuMemoryBytes ?? defaultGpuMemoryBytes(memory.memoryBytes, memory.osVersion)
  const usable = Math.max(0, Math.min(memory.memoryBytes - reserve, gpu))
  return Math.floor(memoryConstants.allocatableFactor * usable)
}
