import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  allocatableBytes,
  allReduceGrowthPerRank,
  chips,
  costKindOf,
  defaultGpuMemoryBytes,
  findChip,
  findLinkClass,
  kvReadEfficiency,
  systemReserveBytes,
} from '../../../src/api/hardware.ts'
import { formatBytes } from '../../../src/lib/quantity.ts'

const GIB = 2 ** 30

describe('what a node may promise', () => {
  test('an M4 mini with 16 GiB under macOS 15 has 10.88 GB, shown as 10.1Gi', () => {
    const bytes = allocatableBytes({ memoryBytes: 16 * GIB, osVersion: '15.3' })
    expect(bytes / 1e9).toBeCloseTo(10.88, 2)
    expect(formatBytes(bytes)).toBe('10.1Gi')
  })
  test('the limit that the node queried wins over the table', () => {
    expect(allocatableBytes({ memoryBytes: 16 * GIB, gpuMemoryBytes: 10922 * 2 ** 20 })).toBe(10879919718)
  })
  test('newer macOS allows more; an unknown version counts as 15', () => {
    expect(allocatableBytes({ memoryBytes: 16 * GIB, osVersion: 'macOS 26.1' }) / 1e9).toBeCloseTo(12.08, 2)
    expect(allocatableBytes({ memoryBytes: 16 * GIB })).toBe(
      allocatableBytes({ memoryBytes: 16 * GIB, osVersion: '15.0' }),
    )
  })
  test('the reserve grows with the memory, from 4 to 16 GiB, unless it is given', () => {
    const reserves = [8, 16, 24, 32, 48, 64, 96, 112, 512].map((gib) => systemReserveBytes(gib * GIB) / GIB)
    expect(reserves).toEqual([4, 4, 5, 6, 8, 10, 14, 16, 16])
    expect(systemReserveBytes(16 * GIB, '6Gi')).toBe(6 * GIB)
  })
  test('a memory that is not in the table takes two thirds, from 33 GiB on three quarters', () => {
    expect(defaultGpuMemoryBytes(20 * GIB) / GIB).toBeCloseTo(13.33, 2)
    expect(defaultGpuMemoryBytes(40 * GIB) / GIB).toBe(30)
  })
  test('is never negative and never more than 0.95 of the memory', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 40),
        fc.option(fc.nat(2 ** 40), { nil: 0 }),
        fc.nat(2 ** 40),
        (memoryBytes, gpuMemoryBytes, reserve) => {
          const bytes = allocatableBytes({ memoryBytes, gpuMemoryBytes, systemReserveBytes: reserve })
          return Number.isSafeInteger(bytes) && bytes >= 0 && bytes <= 0.95 * Math.max(0, memoryBytes - reserve)
        },
      ),
    )
  })
})

describe('chips', () => {
  test('a variant by its GPU cores', () => {
    expect(findChip('Apple M4 Max', 32)).toMatchObject({ bandwidthGBps: 410, fp16Tflops: 13.7, rdmaCapable: true })
    expect(findChip('Apple M4 Max', 40)?.bandwidthGBps).toBe(546)
  })
  test('a count that is not listed: bandwidth of the nearest, compute in proportion', () => {
    const chip = findChip('Apple M4', 8)
    expect(chip?.bandwidthGBps).toBe(120)
    expect(chip?.fp16Tflops).toBeCloseTo(3.44)
  })
  test('no count: the smallest variant that is sold with the memory', () => {
    expect(findChip('Apple M4 Max')?.gpuCores).toBe(32)
    expect(findChip('Apple M4 Max', undefined, 64 * GIB)?.gpuCores).toBe(40)
  })
  test('a chip that is not listed is not guessed', () => {
    expect(findChip('Apple M9')).toBeUndefined()
  })
  test('every chip has plausible variants', () => {
    for (const chip of chips) {
      expect(chip.variants.length).toBeGreaterThan(0)
      expect(chip.decodeEfficiency).toBeGreaterThan(0.5)
    }
  })
})

test('links and models by the first rule that matches', () => {
  expect(findLinkClass('Thunderbolt4', 'TCP')).toMatchObject({ class: 'tb4-tcp', bandwidthGBps: 2 })
  expect(findLinkClass('Thunderbolt5', 'RDMA').class).toBe('tb5-rdma')
  expect(findLinkClass('Thunderbolt4', 'RDMA').class).toBe('tb4-tcp')
  expect(findLinkClass('Thunderbolt3', 'TCP').class).toBe('tb4-tcp')
  expect(findLinkClass('Loopback', 'TCP').class).toBe('loopback')
  expect([
    allReduceGrowthPerRank('TCP', 50),
    allReduceGrowthPerRank('RDMA', 50),
    allReduceGrowthPerRank('RDMA', 240),
  ]).toEqual([0.15, 0.12, 0.05])
  const heads = { attentionHeads: 28, kvHeads: 4, headDim: 128 }
  expect(kvReadEfficiency(heads)).toBe(0.5)
  expect(kvReadEfficiency({ ...heads, kvHeads: 8 })).toBe(0.75)
  expect(kvReadEfficiency({ ...heads, headDim: 256 })).toBe(0.42)
  expect(kvReadEfficiency({ ...heads, attention: 'Mla' })).toBe(0.3)
  expect(costKindOf({ experts: { count: 8, perToken: 2 } })).toBe('moe')
  expect(costKindOf({ attention: 'Mla', experts: { count: 8, perToken: 2 } })).toBe('mla')
  expect(costKindOf({ experts: { count: 0, perToken: 0 } })).toBe('dense')
})
