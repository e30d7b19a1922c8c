/** Whole plans: the published examples, replicas planned together, what holds a group in its place, and what is never oversold. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ModelShape } from '../../../src/api/model.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import type { ShardGroup } from '../../../src/api/shardgroup.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import type { PlanInput, PlanItem } from '../../../src/planner/report.ts'
import { planReport } from '../../../src/planner/report.ts'
import { aDemand, aModel, aNode } from './builders.ts'
import { atBits, deepseekV32, llama3b, llama405b, mixtral, qwen32b, qwen7b, scout } from './models.ts'
import type { SpecWish } from './objects.ts'
import { aDeployment, aMac, aModelOf, cabled } from './objects.ts'

function plan(nodes: readonly Node[], shape: ModelShape, wish: SpecWish = {}): PlanItem {
  const [item] = planReport({ nodes, models: [aModelOf('m', shape)], deployments: [aDeployment('d', wish)] }).items
  if (item === undefined) throw new Error('no item')
  return item
}
const near = (actual: number | undefined, expected: number, tolerance = 0.005) => {
  expect((actual ?? NaN) / expected).toBeGreaterThan(1 - tolerance)
  expect((actual ?? NaN) / expected).toBeLessThan(1 + tolerance)
}
const nodesOf = (item: PlanItem) => item.replicas.map((r) => r.ranks.map((rank) => rank.node).sort())
const bridge = { type: 'Thunderbolt4', transport: 'TCP' } as const
const minis = cabled(['mini-1', 'mini-2'], bridge)

describe('unequal nodes: M4 Pro 48 GB and two M4 16 GB, 80 layers of 0.5 GB and 0.0335 GB of cache (facts §4.2)', () => {
  // Usable: 34 + 10 + 10 GB besides the runtime of 1 GB; allocatable is 0.95 of the GPU limit.
  const limitOf = (usableGB: number) => String(Math.ceil(((usableGB + 1) * 1e9) / 0.95))
  const links = (...peers: string[]) => peers.map((peer) => ({ ...bridge, peer, hopMicros: 1000 }))
  const nodes = [
    aMac('slow-1', { gpuMemory: limitOf(10), links: links('fast', 'slow-2') }),
    aMac('fast', {
      chip: 'Apple M4 Pro',
      gpuCores: 20,
      memory: '48Gi',
      gpuMemory: limitOf(34),
      links: links('slow-1', 'slow-2'),
    }),
    aMac('slow-2', { gpuMemory: limitOf(10), links: links('fast', 'slow-1') }),
  ]
  const shape: ModelShape = {
    ...atBits(qwen32b, 4),
    layers: 80,
    weightBytes: 40e9,
    layerBytes: Array.from({ length: 80 }, () => 0.5e9),
    nonLayerBytes: 0,
    replicatedBytes: 0,
    // 1024 tokens of 1 request.
    kvBytesPerTokenPerLayer: Array.from({ length: 80 }, () => 0.0335e9 / 1024),
  }
  const layersOf = (item: PlanItem) =>
    Object.fromEntries(item.replicas[0]?.ranks.map((r) => [r.node, r.layers[1] - r.layers[0]]) ?? [])

  test.each(['Auto', 'Pipeline'] as const)('%s for Latency: 63 and 17, the third node is not used', (strategy) => {
    const item = plan(nodes, shape, { parallelism: { strategy, objective: 'Latency' } })
    expect(item).toMatchObject({ strategy: 'Pipeline', degree: 2 })
    expect(Object.values(layersOf(item)).sort((a, b) => b - a)).toEqual([63, 17])
    expect(layersOf(item)['fast']).toBe(63)
  })
  test('Pipeline for Throughput: 44, 18 and 18', () => {
    const item = plan(nodes, shape, { parallelism: { strategy: 'Pipeline', objective: 'Throughput' } })
    expect(layersOf(item)).toEqual({ fast: 44, 'slow-1': 18, 'slow-2': 18 })
  })
  test('Auto for Throughput does the same once there are requests enough to fill three stages', () => {
    // The same bytes of cache, in three requests.
    const thinner = { ...shape, kvBytesPerTokenPerLayer: shape.kvBytesPerTokenPerLayer?.map((b) => b / 3) ?? [] }
    const item = plan(nodes, thinner, {
      parallelism: { objective: 'Throughput' },
      serving: { contextTokens: 1024, concurrency: 3 },
    })
    expect(layersOf(item)).toEqual({ fast: 44, 'slow-1': 18, 'slow-2': 18 })
  })
})

describe('M3 Ultra, 80 cores, 512 GB (facts §4.3)', () => {
  const ultra = { chip: 'Apple M3 Ultra', gpuCores: 80, memory: '512Gi', anyCut: true }
  const q4 = (shape: Parameters<typeof atBits>[0], weightGB: number): ModelShape => ({
    ...atBits(shape, 4),
    weightBytes: weightGB * 1e9,
  })
  const plain = { type: 'Thunderbolt5', transport: 'RDMA' } as const
  const fastSync = { ...plain, allReduceMicros: 50, hopMicros: 1800 }
  const rows: [string, ModelShape, object, number, number[], string][] = [
    ['Qwen2.5-32B', q4(qwen32b, 18.43), plain, 1024, [34.04, 32.7, 30.32, 21.23, 22.89], 'Single 1'],
    ['Llama-3.1-405B', q4(llama405b, 228.29), plain, 1024, [2.99, 2.98, 2.96, 4.31, 6.38], 'Tensor 4'],
    ['Mixtral-8x7B', q4(mixtral, 26.27), plain, 1024, [72.04, 66.31, 57.21, 41.52, 43.4], 'Single 1'],
    ['DeepSeek-V3.2', q4(deepseekV32, 377.44), plain, 1024, [21.27, 20.74, 19.76, 16.18, 17.39], 'Single 1'],
    ['Llama-4-Scout', q4(scout, 61.1), fastSync, 63, [55.14, 50.16, 42.49, 60.3, 68.68], 'Tensor 4'],
  ]
  test.each(rows)(
    '%s: every cut as predicted, and the best one chosen',
    (_, shape, link, contextTokens, figures, best) => {
      const nodes = cabled(['u1', 'u2', 'u3', 'u4'], { ...plain, ...link }, ultra)
      const serving = { contextTokens, concurrency: 1 }
      const cuts = ['Data 1', 'Pipeline 2', 'Pipeline 4', 'Tensor 2', 'Tensor 4']
      for (const [i, cut] of cuts.entries()) {
        const [strategy, degree] = cut.split(' ') as ['Data' | 'Pipeline' | 'Tensor', string]
        const item = plan(nodes, shape, { serving, parallelism: { strategy, degree: Number(degree) } })
        near(item.predicted?.decodeTokensPerSecond, figures[i] ?? NaN)
        expect(item.transport).toBe(degree === '1' ? 'Ring' : 'Jaccl')
      }
      const auto = plan(nodes, shape, { serving })
      expect(`${auto.strategy} ${auto.degree}`).toBe(best)
    },
  )
})

describe('replicas are planned together', () => {
  test('one 3B fp16 for one stream is cut over both minis; two are not, for each has a node of its own', () => {
    const shape = atBits(llama3b, 16)
    expect(plan(minis, shape)).toMatchObject({ strategy: 'Tensor', degree: 2 })
    const two = plan(minis, shape, { replicas: 2 })
    expect(two).toMatchObject({ strategy: 'Single', schedulable: true })
    expect(nodesOf(two)).toEqual([['mini-1'], ['mini-2']])
    near(two.predicted?.aggregateTokensPerSecond, 30.5)
    // What a cut over both would give is told as it would be: two replicas on the same two nodes.
    const cut = two.alternatives.find((a) => a.strategy === 'Tensor')
    near(cut?.decodeTokensPerSecond, 19.0 / 2)
    expect(cut?.reason).toContain('its replicas would share nodes: 19 tokens/s alone, 9.5 tokens/s with all at work')
  })
  test('a cut that leaves no room for all replicas is no alternative', () => {
    const two = plan(minis, atBits(llama3b, 16), { replicas: 2, serving: { contextTokens: 8192, concurrency: 1 } })
    expect(two).toMatchObject({ strategy: 'Single', schedulable: true })
    const cut = two.alternatives.find((a) => a.strategy === 'Tensor')
    expect(cut).toMatchObject({ schedulable: false })
    expect(cut?.reason).toContain('only 1 of 2 replicas would find a place')
  })
  test('two on four nodes are both cut', () => {
    const four = cabled(['a', 'b', 'c', 'd'], bridge)
    const two = plan(four, atBits(llama3b, 16), { replicas: 2, parallelism: { strategy: 'Auto', degree: 2 } })
    expect(two).toMatchObject({ strategy: 'Tensor', degree: 2, schedulable: true })
    expect(new Set(nodesOf(two).flat()).size).toBe(4)
  })
  test('how many whole replicas the nodes could hold', () => {
    const shape = atBits(llama3b, 4)
    // 10.88 GB for needs of 2.92 GB.
    expect(plan(minis, shape, { replicas: 2 }).dataReplicas).toBe(6)
    expect(plan(minis, shape, { spread: 'Require' }).dataReplicas).toBe(2)
    expect(plan(minis, atBits(qwen32b, 4)).dataReplicas).toBe(0)
  })
  test('with spread Prefer the third replica shares a node, with Require it finds none', () => {
    const shape = atBits(llama3b, 4)
    expect(
      nodesOf(plan(minis, shape, { replicas: 3 }))
        .flat()
        .sort(),
    ).toEqual(['mini-1', 'mini-1', 'mini-2'])
    const no = plan(minis, shape, { replicas: 3, spread: 'Require' })
    expect(no.schedulable).toBe(false)
    expect(no.message).toMatch(/^2 replicas fit, the next does not: 0\/2 nodes are available/)
  })
})

describe('a group stays where it stands', () => {
  const groupOn = (strategy: 'Single' | 'Tensor', ...nodes: string[]): ShardGroup => {
    const members = nodes.map((node, rank) => ({
      rank,
      node,
      stage: [0, 28],
      memoryBytes: 1,
      parts: { weights: 1, kv: 0, runtime: 0 },
    }))
    const metadata = { ...aDeployment('d').metadata, name: 'd-0' }
    const binding = { strategy, engine: 'mlx', transport: 'Ring', planHash: 'x', members }
    return {
      apiVersion: 'mctl.dev/v1alpha1',
      kind: 'ShardGroup',
      metadata,
      spec: { deployment: 'd', replica: 0, revision: 1, epoch: 1, ...binding, next: null },
    } as unknown as ShardGroup
  }
  const planned = (nodes: readonly Node[], groups: readonly ShardGroup[], shape: ModelShape): PlanItem => {
    const input: PlanInput = { nodes, models: [aModelOf('m', shape)], deployments: [aDeployment('d')], groups }
    const [item] = planReport(input).items
    if (item === undefined) throw new Error('no item')
    return item
  }
  test('for the same speed elsewhere, and for a gain under a fifth', () => {
    const shape = atBits(llama3b, 4)
    expect(nodesOf(planned(minis, [groupOn('Single', 'mini-2')], shape))).toEqual([['mini-2']])
    // Cut over both nodes, the 4-bit 7B would gain 2 %, the fp16 3B 25 %.
    expect(plan(minis, atBits(qwen7b, 4)).strategy).toBe('Tensor')
    expect(nodesOf(planned(minis, [groupOn('Single', 'mini-2')], atBits(qwen7b, 4)))).toEqual([['mini-2']])
    expect(planned(minis, [groupOn('Single', 'mini-2')], atBits(llama3b, 16)).strategy).toBe('Tensor')
  })
  test('and says what it passed over', () => {
    const nodes = [aMac('a'), aMac('b', { chip: 'Apple M5', gpuCores: 10 })]
    // 153 against 120 GB/s would be 27 %, but the dispatch of a layer is the same.
    const small = { ...atBits(llama3b, 4), layers: 28 * 7 }
    const held = planned(nodes, [groupOn('Single', 'a')], small)
    expect(nodesOf(held)).toEqual([['a']])
    expect(held.why.join('\n')).toMatch(/stays where it is: Single 1 on b would gain 1\d\.\d %, less than 20 %/)
    expect(nodesOf(planned(nodes, [groupOn('Single', 'a')], atBits(llama3b, 4)))).toEqual([['b']])
  })
  test('a plan cannot be changed, and its hash says what runs where', () => {
    const nodes = [aNode('a', { freeGiB: 12 }), aNode('b', { freeGiB: 12 })]
    const place = (contextTokens: number) => {
      const placement = placeGroup(aDemand(aModel(1), { engine: 'fake', serving: { contextTokens } }), nodes)
      if (placement.kind !== 'Placed') throw new Error(placement.message)
      return placement
    }
    const first = place(256)
    expect(() => Object.assign(first, { planHash: 'other' })).toThrow()
    expect(() => Object.assign(first.members, [])).not.toThrow()
    expect(() => (first.members as unknown[]).push({})).toThrow()
    expect(place(256).planHash).toBe(first.planHash)
    expect(place(512).planHash).not.toBe(first.planHash)
  })
})

describe('answers', () => {
  test('the share of the time that each GPU is busy: all alone, half in a pipeline of two, less in a tensor group', () => {
    const shares = (wish: SpecWish) =>
      plan(minis, atBits(llama3b, 16), wish).replicas[0]?.ranks.map((r) => Math.round(100 * (r.gpuBusyShare ?? NaN)))
    expect(shares({ parallelism: { strategy: 'Data' } })).toEqual([100])
    expect(shares({ parallelism: { strategy: 'Pipeline', degree: 2 }, engine: 'fake' })).toEqual([47, 47])
    const [a, b] = shares({ parallelism: { strategy: 'Tensor' } }) ?? []
    expect(a).toBe(b)
    expect(a).toBeGreaterThan(50)
    expect(a).toBeLessThan(80)
  })
  test('a chip that is not listed: by its class with 40 %, or not at all', () => {
    const shape = atBits(llama3b, 4)
    const known = plan([aMac('a', { chip: 'Apple M4 Pro', gpuCores: 20 })], shape)
    const newer = plan([aMac('a', { chip: 'Apple M6 Pro' })], shape)
    expect(known.predicted?.uncertainty).toBeLessThan(0.2)
    expect(newer.predicted?.uncertainty).toBe(0.4)
    expect(newer.why.join('\n')).toContain('Apple M6 Pro is not in the table: it is taken for an Apple M5 Pro')
    const strange = plan([aMac('a', { chip: 'AMD EPYC' })], shape)
    expect(strange).toMatchObject({ schedulable: true })
    expect(strange.predicted).toBeUndefined()
    expect(JSON.stringify(strange)).not.toContain('decodeTokensPerSecond')
    expect(strange.why.join('\n')).toContain('speed is not predicted')
  })
  test('a link that is only assumed makes a tensor plan less certain than a measured one', () => {
    const shape = atBits(qwen7b, 16)
    const sure = (nodes: readonly Node[]) =>
      plan(nodes, shape, { parallelism: { strategy: 'Tensor' } }).predicted?.uncertainty ?? NaN
    const measured = cabled(['a', 'b'], { ...bridge, allReduceMicros: 340, hopMicros: 3500 })
    expect(sure([aMac('a'), aMac('b')])).toBeGreaterThan(sure(minis))
    expect(sure(minis)).toBeGreaterThan(sure(measured))
  })
})

describe('whatever is asked for', () => {
  const asked = fc.record({
    memory: fc.array(fc.constantFrom('8Gi', '16Gi', '24Gi', '48Gi'), { minLength: 1, maxLength: 5 }),
    wishes: fc.array(
      fc.record({
        model: fc.constantFrom('small', 'middle', 'large'),
        replicas: fc.integer({ min: 0, max: 4 }),
        strategy: fc.constantFrom('Auto' as const, 'Data' as const, 'Pipeline' as const, 'Tensor' as const),
        objective: fc.constantFrom('Latency' as const, 'Throughput' as const),
        spread: fc.constantFrom('Prefer', 'Require', 'None'),
        priority: fc.integer({ min: 0, max: 2 }),
        concurrency: fc.integer({ min: 1, max: 4 }),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  })
  type Asked = typeof asked extends fc.Arbitrary<infer T> ? T : never
  const inputOf = ({ memory, wishes }: Asked): PlanInput => ({
    nodes: memory
      .flatMap((m, i) => cabled([`n${i}`], bridge, { memory: m, anyCut: true }))
      .map((node, i, all) => ({
        ...node,
        status: {
          ...node.status,
          links: all.filter((_, j) => j !== i).map((_, j) => ({ ...bridge, peer: `n${j < i ? j : j + 1}` })),
        },
      })),
    models: [
      aModelOf('small', atBits(llama3b, 4)),
      aModelOf('middle', atBits(qwen7b, 8)),
      aModelOf('large', atBits(qwen32b, 4)),
    ],
    deployments: wishes.map(({ strategy, objective, concurrency, ...wish }, i): ModelDeployment =>
      aDeployment(`d${i}`, {
        ...wish,
        parallelism: { strategy, objective },
        serving: { contextTokens: 2048, concurrency },
      }),
    ),
  })

  test('no node is oversold, groups are whole, stages cover all layers, required spread holds', () => {
    fc.assert(
      fc.property(asked, (wish) => {
        const input = inputOf(wish)
        const bound = new Map<string, number>()
        for (const [i, item] of planReport(input).items.entries()) {
          const { spec } = input.deployments[i] as ModelDeployment
          expect(item.schedulable).toBe(item.replicas.length === spec.replicas)
          if (!item.schedulable) expect(item.message).toMatch(/nodes are available/)
          const used = item.replicas.flatMap((r) => r.ranks.map((rank) => rank.node))
          if (spec.placement.spread === 'Require') expect(new Set(used).size).toBe(used.length)
          for (const { ranks } of item.replicas) {
            expect(new Set(ranks.map((r) => r.node)).size).toBe(ranks.length)
            const layers = ranks.map((r) => r.layers).sort((a, b) => a[0] - b[0])
            const all = spec.model.name === 'large' ? 64 : 28
            if (item.strategy === 'Pipeline' || layers.some(([, end]) => end < all)) {
              expect(layers.map(([start]) => start)).toEqual([0, ...layers.slice(0, -1).map(([, end]) => end)])
              expect(layers.at(-1)?.[1]).toBe(all)
            }
            for (const r of ranks) {
              expect(r.parts.weights + r.parts.kv + r.parts.runtime).toBe(r.memoryBytes)
              bound.set(r.node, (bound.get(r.node) ?? 0) + r.memoryBytes)
              expect(bound.get(r.node)).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER)
            }
          }
        }
        for (const item of planReport(input).items)
          for (const rank of item.replicas.flatMap((r) => r.ranks))
            expect(bound.get(rank.node)).toBeLessThanOrEqual(rank.allocatableBytes)
      }),
      { numRuns: 150 },
    )
  })
  test('the order of nodes, models and deployments changes nothing', () => {
    fc.assert(
      fc.property(asked, (wish) => {
        const input = inputOf(wish)
        const turned: PlanInput = {
          nodes: [...input.nodes].reverse(),
          models: [...input.models].reverse(),
          deployments: [...input.deployments].reverse(),
        }
        const byName = (plan: PlanInput) =>
          Object.fromEntries(planReport(plan).items.map((item) => [item.name, JSON.stringify(item)]))
        expect(byName(turned)).toEqual(byName(input))
      }),
      { numRuns: 60 },
    )
  })
  test('a higher priority is placed first, and displaces nothing that is bound', () => {
    const shape = atBits(qwen7b, 8)
    const [low, high] = planReport({
      nodes: [aMac('only')],
      models: [aModelOf('m', shape)],
      deployments: [aDeployment('a-low'), aDeployment('b-high', { priority: 1 })],
    }).items
    expect([low?.schedulable, high?.schedulable]).toEqual([false, true])
  })
})

describe('what was asked for stands in the way', () => {
  const small = { ...atBits(llama3b, 4), architecture: 'gemma2' }
  test('an engine that has no such cut: another cut and another engine are tried and named', () => {
    const item = plan(minis, small, { parallelism: { strategy: 'Pipeline' } })
    expect(item.schedulable).toBe(false)
    expect(item.hints).toEqual([
      expect.stringMatching(/^parallelism\.strategy: Auto, without degree and split, fits one node \(/),
      expect.stringMatching(/^engine llamacpp \(with the model as GGUF\) fits as Pipeline of 2 \(/),
    ])
  })
  test('a backend that no link carries', () => {
    const item = plan(minis, atBits(qwen7b, 4), { parallelism: { strategy: 'Tensor', transport: 'Jaccl' } })
    expect(item.hints).toContainEqual(expect.stringMatching(/^parallelism\.transport: Auto fits as Tensor of 2 \(/))
  })
  test('a degree that divides nothing, and more nodes than there are', () => {
    for (const degree of [3, 5]) {
      const three = cabled(['a', 'b', 'c'], bridge)
      const item = plan(three, atBits(qwen7b, 4), { parallelism: { strategy: 'Tensor', degree } })
      expect(item.hints).toEqual([expect.stringMatching(/^parallelism\.strategy: Auto, .* fits /)])
    }
  })
  test('nothing is named where nothing of it helps', () => {
    const cordoned = minis.map((node) => ({ ...node, spec: { ...node.spec, unschedulable: true } }))
    expect(plan(cordoned, small, { parallelism: { strategy: 'Pipeline' } }).hints).toEqual([])
  })
  test('spread Require says why a node is out, where a cordon needs no words', () => {
    const item = plan(minis, atBits(llama3b, 4), { replicas: 3, spread: 'Require' })
    expect(item.message).toBe(
      '2 replicas fit, the next does not: 0/2 nodes are available: 2 node(s) were unschedulable ' +
        '(holds another replica of this deployment (spread: Require))',
    )
  })
})
