/** The cost model against published measurements: how far off it may be, and that it names the fastest cut. */
import { expect, test } from 'vitest'
import { nodeSpeed } from '../../../src/planner/cost.ts'
import { contests, readMeasured, score, summary } from './throughput.ts'

const rows = score(readMeasured(new URL('../../fixtures/throughput-train.csv', import.meta.url)))
const meanOf = (part: typeof rows) =>
  summary(
    '',
    part.map((row) => row.error),
  ).mean

test('decode is off by 7 % or less on average, and by 10 % or less for each strategy and engine', () => {
  expect(rows).toHaveLength(107)
  expect(meanOf(rows)).toBeLessThanOrEqual(0.07)
  for (const strategy of ['Single', 'Tensor', 'Pipeline'])
    expect(meanOf(rows.filter((row) => row.strategy === strategy))).toBeLessThanOrEqual(0.1)
  for (const engine of ['mlx', 'llamacpp'])
    expect(meanOf(rows.filter((row) => row.input.engine === engine))).toBeLessThanOrEqual(0.1)
})

test('prefill is off by 10 % or less on average', () => {
  const errors = rows.flatMap((row) => row.prefillError ?? [])
  expect(summary('', errors).mean).toBeLessThanOrEqual(0.1)
})

test('the fastest cut is named in every group of rows that differ in their cut alone', () => {
  const held = contests(rows)
  expect(held.length).toBeGreaterThan(10)
  expect(held.filter((contest) => !contest.hit)).toEqual([])
})

test('the score is carried by both halves of the rows alike', () => {
  const [even, odd] = [rows.filter((_, i) => i % 2 === 0), rows.filter((_, i) => i % 2 === 1)]
  expect(Math.abs(meanOf(even) - meanOf(odd))).toBeLessThan(0.025)
})

test('a chip that is not listed takes the figures of the nearest generation of its class', () => {
  const speed = (chip: string) => nodeSpeed({ chip }, 2 ** 35)
  expect(speed('Apple M7 Pro')).toMatchObject({ basis: 'Class', known: true, bytesPerSecond: 307e9 })
  expect(speed('Apple M4 Ultra')).toMatchObject({ basis: 'Class', bytesPerSecond: 819e9 })
  expect(speed('Apple M4 Pro').basis).toBe('Measured')
  expect(speed('Apple M2 Pro').basis).toBe('Listed')
  expect(speed('AMD EPYC')).toMatchObject({ basis: 'Unknown', known: false })
})
