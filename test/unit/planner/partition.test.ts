/** Layers to stages: the published example of unequal nodes, and the best split by brute force. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { greedySplit, partition, stagesOf } from '../../../src/planner/placement/partition.ts'

/** 80 layers of 0.5335 GB on 34 + 10 + 10 GB; 273, 120 and 120 GB/s at 70 % (facts/performance.md §4.2). */
const perLayer = [273e9, 120e9, 120e9].map((bandwidth) => 0.5335e9 / (bandwidth * 0.7))
const budgets = [34e9, 10e9, 10e9]
const fits = (stage: number, start: number, end: number) => (end - start) * 0.5335e9 <= (budgets[stage] ?? 0)

describe('unequal nodes', () => {
  test('Latency fills the fastest node to its cap', () => {
    const two = { layers: 80, layerSeconds: perLayer.slice(0, 2), fits, objective: 'Latency' } as const
    expect(partition(two)).toEqual([63, 17])
    expect(partition({ ...two, layerSeconds: perLayer })?.[0]).toBe(63)
  })
  test('Throughput levels the stage times: water-filling', () => {
    expect(partition({ layers: 80, layerSeconds: perLayer, fits, objective: 'Throughput' })).toEqual([44, 18, 18])
  })
})

test('equal nodes get equal shares, for either objective', () => {
  for (const objective of ['Latency', 'Throughput'] as const) {
    const always = () => true
    expect(partition({ layers: 30, layerSeconds: [1, 1, 1], fits: always, objective })).toEqual([10, 10, 10])
    expect(partition({ layers: 5, layerSeconds: [1, 1], fits: always, objective })?.toSorted()).toEqual([2, 3])
  }
})

test('every stage has a layer, or there is no split', () => {
  expect(partition({ layers: 2, layerSeconds: [1, 1, 1], fits: () => true, objective: 'Latency' })).toBeUndefined()
  expect(greedySplit(2, 3, () => true)).toBeUndefined()
  expect(greedySplit(3, 3, () => true)).toEqual([1, 1, 1])
})

test('stages are half-open and follow each other', () => {
  expect(stagesOf([20, 8])).toEqual([
    [0, 20],
    [20, 28],
  ])
})

const worlds = fc.record({
  weights: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 8 }),
  seats: fc.array(fc.record({ budget: fc.integer({ min: 1, max: 15 }), time: fc.integer({ min: 1, max: 4 }) }), {
    minLength: 1,
    maxLength: 4,
  }),
  objective: fc.constantFrom('Latency' as const, 'Throughput' as const),
})

test('no split is better than the one that is found, and one is found exactly when one fits', () => {
  fc.assert(
    fc.property(worlds, ({ weights, seats, objective }) => {
      const sum = (start: number, end: number) => weights.slice(start, end).reduce((a, b) => a + b, 0)
      const holds = (stage: number, start: number, end: number) => sum(start, end) <= (seats[stage]?.budget ?? 0)
      const cost = (counts: readonly number[]) => {
        const times = counts.map((count, i) => count * (seats[i]?.time ?? 0))
        return objective === 'Latency' ? times.reduce((a, b) => a + b, 0) : Math.max(...times)
      }
      const all = (stage: number, start: number): number[][] => {
        if (stage === seats.length) return start === weights.length ? [[]] : []
        const splits: number[][] = []
        for (let end = start + 1; end <= weights.length && holds(stage, start, end); end += 1)
          splits.push(...all(stage + 1, end).map((rest) => [end - start, ...rest]))
        return splits
      }
      const possible = all(0, 0)
      const found = partition({
        layers: weights.length,
        layerSeconds: seats.map((s) => s.time),
        fits: holds,
        objective,
      })
      expect(found === undefined).toBe(possible.length === 0)
      if (found !== undefined) expect(cost(found)).toBe(Math.min(...possible.map(cost)))
    }),
  )
})
