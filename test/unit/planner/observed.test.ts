/** What groups did corrects what is predicted of later ones. */
import { describe, expect, test } from 'vitest'
import type { ObservedRate } from '../../../src/api/model.ts'
import { correctionOf, isNews, withObservation } from '../../../src/planner/observed.ts'
import { speedOfGroup } from '../../../src/planner/groupspeed.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import { planReport } from '../../../src/planner/report.ts'
import { uncertaintyOf } from '../../../src/planner/uncertainty.ts'
import { validate } from '../../../src/api/validate.ts'
import { aDemand, aNode } from './builders.ts'
import { atBits, llama3b, qwen7b } from './models.ts'
import type { SpecWish } from './objects.ts'
import { aDeployment, aModelOf, cabled } from './objects.ts'
import { readMeasured, score } from './throughput.ts'

const single = { strategy: 'Single', degree: 1, engine: 'mlx', linkClass: 'none' } as const
const seen = (rate: Partial<ObservedRate>): ObservedRate => ({ ...single, tokensPerSecond: 40, samples: 1000, ...rate })
const minis = cabled(['mini-1', 'mini-2'], { type: 'Thunderbolt4', transport: 'TCP' })
const plan = (observed: readonly ObservedRate[], wish: SpecWish = {}, shape = atBits(llama3b, 4)) => {
  const models = [aModelOf('m', shape, { observed })]
  const [item] = planReport({ nodes: minis, models, deployments: [aDeployment('d', wish)] }).items
  if (item === undefined) throw new Error('no item')
  return item
}

describe('a correction', () => {
  test('is the ratio of seen to predicted, the nearer the more samples there are', () => {
    const factor = (samples: number) =>
      correctionOf([seen({ predictedTokensPerSecond: 50, samples })], single, 50).factor
    expect(factor(1)).toBeGreaterThan(0.9)
    expect(factor(1)).toBeLessThan(1)
    expect(factor(1000)).toBeCloseTo(0.8, 2)
    expect(correctionOf([], single, 50)).toEqual({ factor: 1, samples: 0 })
  })
  test('carries over to other machines by its ratio, and to other degrees of the strategy', () => {
    const slow = [
      seen({ strategy: 'Tensor', degree: 2, linkClass: 'tb4-tcp', tokensPerSecond: 8, predictedTokensPerSecond: 10 }),
    ]
    expect(
      correctionOf(slow, { ...single, strategy: 'Tensor', degree: 4, linkClass: 'tb4-tcp' }, 300).factor,
    ).toBeCloseTo(0.8, 2)
  })
  test('of a rate that does not say what was predicted: for its own degree alone', () => {
    const bare = [seen({ tokensPerSecond: 25 })]
    expect(correctionOf(bare, single, 50).factor).toBeCloseTo(0.5, 2)
    expect(correctionOf(bare, { ...single, degree: 2 }, 50).factor).toBe(1)
  })
  test('does not reach over to another strategy, link class or engine', () => {
    const tensor = { ...single, strategy: 'Tensor', degree: 2, linkClass: 'tb4-tcp' } as const
    const rate = [seen({ ...tensor, predictedTokensPerSecond: 100 })]
    expect(correctionOf(rate, tensor, 50).factor).toBeLessThan(0.5)
    expect(correctionOf(rate, { ...tensor, linkClass: '1gbe' }, 50).factor).toBe(1)
    expect(correctionOf(rate, { ...tensor, engine: 'fake' }, 50).factor).toBe(1)
    expect(correctionOf(rate, single, 50).factor).toBe(1)
  })
  test('beyond a factor of five is a fault somewhere, and goes no further', () => {
    expect(correctionOf([seen({ tokensPerSecond: 1, predictedTokensPerSecond: 100 })], single, 100).factor).toBe(0.2)
  })
})

describe('observations', () => {
  const rate = (tokensPerSecond: number, samples = 1) => ({
    ...single,
    tokensPerSecond,
    predictedTokensPerSecond: 50,
    samples,
  })
  test('are averaged per kind of group, in an order that does not depend on when they came', () => {
    const two = withObservation(withObservation([], rate(40)), rate(44))
    expect(two).toEqual([rate(42, 2)])
    expect(withObservation([rate(40)], rate(46, 2))).toEqual([rate(44, 3)])
    const pipeline = { ...rate(30), strategy: 'Pipeline', degree: 2, linkClass: '1gbe' } as const
    const [a, b] = [
      withObservation(two, pipeline),
      withObservation(withObservation(withObservation([], pipeline), rate(40)), rate(44)),
    ]
    expect(a).toEqual(b)
  })
  test('of late count more than those of long ago', () => {
    let observed: readonly ObservedRate[] = []
    for (let i = 0; i < 500; i += 1) observed = withObservation(observed, rate(40))
    for (let i = 0; i < 200; i += 1) observed = withObservation(observed, rate(60))
    expect(observed[0]?.tokensPerSecond).toBeGreaterThan(58)
    expect(observed[0]?.samples).toBe(700)
  })
  test('are news when the speed moved, when they grew by half, or when their kind is new', () => {
    const written = [rate(40, 10)]
    expect(isNews(written, [rate(40.5, 12)])).toBe(false)
    expect(isNews(written, [rate(41, 12)])).toBe(true)
    expect(isNews(written, [rate(40, 15)])).toBe(true)
    expect(isNews([], written)).toBe(true)
    expect(isNews(written, [{ ...rate(40, 10), degree: 2 }])).toBe(true)
  })
  test('are valid in a Model', () => {
    const model = aModelOf('m', atBits(llama3b, 4), { observed: withObservation([], rate(40)) })
    expect(validate(model as never)).toEqual([])
  })
})

describe('a plan of a model that was seen at work', () => {
  test('predicts what was seen, says so, and is surer of it', () => {
    const before = plan([])
    const after = plan([seen({ predictedTokensPerSecond: 50 })])
    expect(after.predicted?.decodeTokensPerSecond).toBeCloseTo(
      0.8 * (before.predicted?.decodeTokensPerSecond ?? NaN),
      0,
    )
    expect(after.predicted?.prefillTokensPerSecond).toBe(before.predicted?.prefillTokensPerSecond)
    expect(after.predicted?.uncertainty).toBeLessThan(before.predicted?.uncertainty ?? NaN)
    expect(after.why.join('\n')).toContain('corrected by 1000 observations of Single over none')
  })
  test('chooses by what was seen: a tensor group that disappointed gives way', () => {
    const shape = atBits(qwen7b, 8)
    expect(plan([], {}, shape)).toMatchObject({ strategy: 'Tensor', degree: 2 })
    const slow = seen({
      strategy: 'Tensor',
      degree: 2,
      linkClass: 'tb4-tcp',
      tokensPerSecond: 5,
      predictedTokensPerSecond: 10,
    })
    expect(plan([slow], {}, shape)).toMatchObject({ strategy: 'Single', degree: 1 })
  })
})

describe('the yardstick of a group that stands', () => {
  const nodes = ['a', 'b', 'c'].map((name, i) =>
    aNode(name, {
      freeGiB: 8,
      nodeInfo: { chip: i === 1 ? 'Apple M4 Pro' : 'Apple M4' },
      links: ['a', 'b', 'c']
        .filter((n) => n !== name)
        .map((peer) => ({ peer, type: 'Thunderbolt4', transport: 'TCP' })),
    }),
  )
  test.each(['Data', 'Pipeline', 'Tensor'] as const)('%s: what its plan predicted, uncorrected', (strategy) => {
    const shape = atBits(qwen7b, 4)
    const observed = [seen({ strategy: strategy === 'Data' ? 'Single' : strategy, degree: 2, linkClass: 'tb4-tcp' })]
    const demand = aDemand(shape, { parallelism: { strategy } })
    const placed = placeGroup(demand, nodes)
    if (placed.kind !== 'Placed') throw new Error(placed.message)
    const speed = speedOfGroup(placed, shape, nodes, demand.template.serving.contextTokens)
    expect(speed).toMatchObject({
      strategy: placed.strategy,
      degree: placed.members.length,
      linkClass: placed.linkClass,
    })
    expect(speed?.tokensPerSecond).toBeCloseTo(placed.predicted?.decodeTokensPerSecond ?? NaN, 6)
    // Later plans are corrected by it, it is not.
    const again = placeGroup({ ...demand, observed }, nodes)
    if (again.kind !== 'Placed') throw new Error(again.message)
    expect(speedOfGroup(placed, shape, nodes, 256)?.tokensPerSecond).toBe(speed?.tokensPerSecond)
  })
  test('a shorter context is faster; without its node there is none, of a chip that nobody knows no figure', () => {
    const shape = atBits(qwen7b, 4)
    const placed = placeGroup(aDemand(shape, { parallelism: { strategy: 'Data' } }), nodes)
    if (placed.kind !== 'Placed') throw new Error(placed.message)
    const at = (tokens: number) => speedOfGroup(placed, shape, nodes, tokens)?.tokensPerSecond ?? NaN
    expect(at(100)).toBeGreaterThan(at(10_000))
    expect(speedOfGroup(placed, shape, [], 256)).toBeUndefined()
    const strange = nodes.map((node) => ({ ...node, nodeInfo: { chip: 'AMD EPYC' } }))
    expect(speedOfGroup(placed, shape, strange, 256)).toEqual(single)
  })
})

test('nine of ten published rows lie within the uncertainty that a plan of them would state', () => {
  const rows = score(readMeasured(new URL('../../fixtures/throughput-train.csv', import.meta.url)))
  const within = rows.filter((row) => {
    const link = row.strategy === 'Single' ? undefined : 'Typical'
    return Math.abs(row.error) <= uncertaintyOf(row.input, row.layout, link, 0)
  })
  expect(within.length / rows.length).toBeGreaterThanOrEqual(0.9)
  // And it is not stated so wide that it says nothing.
  const stated = rows.map((row) =>
    uncertaintyOf(row.input, row.layout, row.strategy === 'Single' ? undefined : 'Typical', 0),
  )
  expect(stated.reduce((a, b) => a + b, 0) / stated.length).toBeLessThan(0.2)
})
