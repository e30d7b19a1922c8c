/** Where a group goes: choices, refusals, and the cases in which others fail (facts/peers.md §3). */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { NodeLink } from '../../../src/api/node.ts'
import { checkPlacement } from '../../../src/planner/check.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../../../src/planner/memory.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import type { Demand, NodeView, Placed, Unplaceable } from '../../../src/planner/placement/types.ts'
import { GiB, aDemand, aModel, aNode } from './builders.ts'
import { atBits, llama3b, qwen7b } from './models.ts'

function placed(demand: Demand, nodes: readonly NodeView[]): Placed {
  const placement = placeGroup(demand, nodes)
  if (placement.kind !== 'Placed') throw new Error(placement.message)
  expect(checkPlacement(placement, demand, nodes)).toEqual([])
  return placement
}
function refused(demand: Demand, nodes: readonly NodeView[]): Unplaceable {
  const placement = placeGroup(demand, nodes)
  if (placement.kind !== 'Unplaceable') throw new Error(`placed on ${nodesOf(placement)}`)
  return placement
}
const nodesOf = (p: Placed) =>
  p.members
    .map((m) => m.node)
    .sort()
    .join()
const stagesOf = (p: Placed) => p.members.map((m) => [m.node, m.stage[1] - m.stage[0]])
/** An engine whose runtime is 64 MiB: sizes in the tests are then the model's own. */
const fake = { engine: 'fake' } as const
const M = 1 / 16

describe('what others get wrong', () => {
  test('a tensor rank is checked on its own node: 60 GiB on 64 + 8 GiB is refused', () => {
    const nodes = [aNode('a', { freeGiB: 64 }), aNode('b', { freeGiB: 8 })]
    const no = refused(aDemand(aModel(60), { ...fake, parallelism: { strategy: 'Tensor', degree: 2 } }), nodes)
    expect(no.refusals).toMatchObject([{ node: 'b', reason: 'InsufficientMemory', haveBytes: 8 * GiB }])
    expect(no.message).toBe('1/2 nodes are available: 1 Insufficient memory (need 30.1Gi, best free 8.0Gi)')
  })
  test('16.0 GiB of weights do not fit 16.0 GiB of memory', () => {
    refused(aDemand(aModel(16), fake), [aNode('a', { freeGiB: 16 })])
  })
  test('two 30 GiB models do not meet on one node of 40', () => {
    const nodes = [aNode('a', { freeGiB: 40 }), aNode('b', { freeGiB: 38 })]
    const demand = aDemand(aModel(30), { ...fake, parallelism: { strategy: 'Data' } })
    const first = placed(demand, nodes)
    expect(nodesOf(first)).toBe('a')
    const after = nodes.map((n) => (n.name === 'a' ? { ...n, boundBytes: first.members[0]?.memoryBytes ?? 0 } : n))
    expect(nodesOf(placed(demand, after))).toBe('b')
  })
  test('headroom beats files in the cache: 39.7 GiB on {30, 12, 30} goes to the two roomy nodes', () => {
    const nodes = [30, 12, 30].map((freeGiB, i) => aNode(`n${i}`, { freeGiB }))
    expect(nodesOf(placed(aDemand(aModel(39.7), fake), nodes))).toBe('n0,n2')
  })
  test('a node that can hold nothing does not end the search: 23 GiB in 12 layers on {22, 1.2, 22}', () => {
    const nodes = [22, 1.2, 22].map((freeGiB, i) => aNode(`n${i}`, { freeGiB }))
    expect(nodesOf(placed(aDemand(aModel(23), fake), nodes))).toBe('n0,n2')
  })
  test('a forced Tensor is never rewritten to one node', () => {
    const no = refused(aDemand(aModel(1), { ...fake, parallelism: { strategy: 'Tensor' } }), [aNode('a')])
    expect(no.message).toBe('0/1 nodes are available: Tensor of 2 needs 2 nodes, 1 could take part')
  })
  test('equal memory, unequal chips: a pipeline fills the faster one first', () => {
    const pro = { nodeInfo: { chip: 'Apple M4 Pro', gpuCores: 16 } }
    const nodes = [aNode('slow'), aNode('fast', pro)]
    expect(stagesOf(placed(aDemand(aModel(12), { ...fake, parallelism: { strategy: 'Pipeline' } }), nodes))).toEqual([
      ['fast', 9],
      ['slow', 3],
    ])
  })
})

describe('cuts', () => {
  test('a model that fits one node stays whole where cutting it is slower, on the emptiest of equal nodes', () => {
    const nodes = [aNode('a', { freeGiB: 8 }), aNode('b', { freeGiB: 9 }), aNode('c', { freeGiB: 8 })]
    const plan = placed(aDemand(aModel(1), fake), nodes)
    expect(plan).toMatchObject({ strategy: 'Single', members: [{ rank: 0, node: 'b', stage: [0, 12] }] })
  })
  test('a model with layers over 139 MB is cut by tensor for one stream over Thunderbolt, though one node holds it', () => {
    const joined = ['a', 'b'].map((name) =>
      aNode(name, {
        freeGiB: 12,
        links: [{ peer: name === 'a' ? 'b' : 'a', type: 'Thunderbolt4', transport: 'TCP' }],
      }),
    )
    expect(placed(aDemand(atBits(qwen7b, 8)), joined)).toMatchObject({ strategy: 'Tensor' })
    expect(placed(aDemand(atBits(llama3b, 8)), joined)).toMatchObject({ strategy: 'Single' })
  })
  test('MLX counts pipeline ranks from the last stage, other engines from the first', () => {
    const nodes = [aNode('a'), aNode('b')]
    const wish = { parallelism: { strategy: 'Pipeline', split: [8, 4] } } as const
    const stages = (p: Placed) => p.members.map((m) => m.stage)
    expect(stages(placed(aDemand(aModel(6), wish), nodes))).toEqual([
      [8, 12],
      [0, 8],
    ])
    expect(stages(placed(aDemand(aModel(6), { ...wish, ...fake }), nodes))).toEqual([
      [0, 8],
      [8, 12],
    ])
  })
  test('a forced split puts the long stage where it fits', () => {
    const nodes = [aNode('a', { freeGiB: 4 }), aNode('b', { freeGiB: 9 })]
    const plan = placed(
      aDemand(aModel(12), { ...fake, parallelism: { strategy: 'Pipeline', split: [4 - 1, 9 - 1 + 1] } }),
      [...nodes, aNode('c', { freeGiB: 9 + M * 2 })],
    )
    expect(stagesOf(plan).at(-1)).toEqual(['c', 9])
  })
  test('Throughput levels the stages, Latency fills the fast node', () => {
    const pro = { nodeInfo: { chip: 'Apple M4 Pro', gpuCores: 16 }, freeGiB: 12 }
    const nodes = [aNode('fast', pro), aNode('slow', { freeGiB: 12 })]
    const wish = (objective: 'Latency' | 'Throughput') => ({
      ...fake,
      parallelism: { strategy: 'Pipeline', degree: 2, objective } as const,
    })
    expect(stagesOf(placed(aDemand(aModel(12), wish('Latency')), nodes))[0]).toEqual(['fast', 11])
    const level = stagesOf(placed(aDemand(aModel(12), wish('Throughput')), nodes))
    expect(level[0]?.[1]).toBeLessThan(10)
  })
  test('layers of unequal size are counted one by one', () => {
    const layerBytes = [4, 1, 1, 1, 1].map((g) => g * GiB)
    const model = aModel(8, 5, { layerBytes, kvBytesPerTokenPerLayer: [0, 0, 0, 0, 0] })
    const nodes = [aNode('a', { freeGiB: 4 + M }), aNode('b', { freeGiB: 4 + M })]
    const demand = aDemand(model, { ...fake, parallelism: { strategy: 'Pipeline' } })
    expect(stagesOf(placed(demand, nodes)).map(([, count]) => count)).toEqual([1, 4])
  })
  test('Tensor must divide heads, widths and quantisation groups', () => {
    const tensor = (degree: number) => ({ ...fake, parallelism: { strategy: 'Tensor', degree } as const })
    const three = [aNode('a'), aNode('b'), aNode('c')]
    expect(refused(aDemand(aModel(3), tensor(3)), three).refusals[0]).toMatchObject({ node: '', reason: 'Indivisible' })
    const grouped = aModel(3, 12, { intermediateSize: 96, quantization: { bits: 4, groupSize: 64 } })
    expect(refused(aDemand(grouped, tensor(2)), three).message).toMatch(/96 \/ 2 is not a multiple of the quant/)
    expect(placed(aDemand(aModel(3), tensor(2)), three).strategy).toBe('Tensor')
  })
  test('llama.cpp runs three ranks at most: with more workers it can deadlock', () => {
    const four = ['a', 'b', 'c', 'd'].map((name) => aNode(name))
    const wish = (degree: number) => ({ engine: 'llamacpp', parallelism: { strategy: 'Pipeline', degree } }) as const
    expect(placed(aDemand(aModel(6), wish(3)), four).members).toHaveLength(3)
    expect(refused(aDemand(aModel(6), wish(4)), four).message).toContain('llamacpp runs 3 ranks at most')
  })
  test('GGUF is for llama.cpp and safetensors for mlx: the other engine is refused with what to do', () => {
    const nodes = [aNode('a'), aNode('b')]
    const gguf = aModel(3, 12, { format: 'Gguf' })
    const onMlx = refused(aDemand(gguf, { engine: 'mlx', source: 'file:tiny' }), nodes)
    expect(onMlx.refusals.map((r) => [r.node, r.reason])).toEqual([
      ['a', 'EngineUnsupported'],
      ['b', 'EngineUnsupported'],
    ])
    expect(onMlx.message).toContain('mlx does not read GGUF: set engine.name to llamacpp')
    expect(placed(aDemand(gguf, { engine: 'Auto', source: 'file:tiny' }), nodes).engine).toBe('llamacpp')
    const wrong = aDemand(aModel(3), { engine: 'llamacpp', source: 'file:tiny' })
    expect(refused(wrong, nodes).message).toContain('llamacpp reads GGUF only: set engine.name to mlx')
    // The fake engine takes everything, and a bare shape says nothing.
    expect(placed(aDemand(gguf, { engine: 'fake', source: 'file:tiny' }), nodes).engine).toBe('fake')
    expect(placed(aDemand(aModel(3), { engine: 'llamacpp' }), nodes).engine).toBe('llamacpp')
  })
  test('what contradicts itself is refused, not guessed', () => {
    const message = (parallelism: Partial<Demand['template']['parallelism']>) =>
      refused(aDemand(aModel(1), { parallelism }), [aNode('a'), aNode('b')]).message
    expect(message({ strategy: 'Pipeline', split: [20, 10] })).toContain(
      'split [20, 10] has 30 layers, the model has 12',
    )
    expect(message({ strategy: 'Data', degree: 2 })).toContain('use replicas')
    expect(message({ strategy: 'Tensor', degree: 1 })).toContain('at least two ranks')
  })
})

describe('who may take part', () => {
  const demand = aDemand(aModel(2), { ...fake, source: 'file:x', digest: 'sha256:1' })
  const present = [{ source: 'file:x', digest: 'sha256:1', state: 'Present' }] as const
  test.each<[string, Partial<NodeView>]>([
    ['NotReady', { ready: false }],
    ['Unschedulable', { unschedulable: true }],
    ['UntoleratedTaint', { taints: [{ key: 'gpu', effect: 'NoSchedule' }] }],
    ['ModelNotPresent', { models: [] }],
    ['ModelNotPresent', { models: [{ source: 'file:x', state: 'Fetching' }] }],
    ['ModelDigestMismatch', { models: [{ source: 'file:x', digest: 'sha256:2', state: 'Present' }] }],
    ['EngineUnsupported', { engines: [{ name: 'mlx', version: '1', transports: ['Ring'] }] }],
    ['MemoryPressure', { headroomBytes: GiB }],
    ['InsufficientMemory', { boundBytes: 9 * GiB }],
  ])('%s', (reason, wish) => {
    const node = aNode('a', { models: present, ...wish })
    expect(refused(demand, [node]).refusals).toMatchObject([{ node: 'a', reason }])
    expect(nodesOf(placed(demand, [node, aNode('b', { models: present, freeGiB: 3 })]))).toBe('b')
  })
  test('selectors, names and required spread exclude nodes', () => {
    const nodes = [aNode('a', { labels: { zone: 'x' } }), aNode('b')]
    const placement = (wish: Partial<Demand['template']['placement']>, siblingNodes: string[] = []) =>
      nodesOf(placed(aDemand(aModel(2), { placement: wish, siblingNodes, parallelism: { strategy: 'Data' } }), nodes))
    expect(placement({ nodeSelector: { zone: 'x' } })).toBe('a')
    expect(placement({ nodes: ['b'] })).toBe('b')
    expect(placement({ spread: 'Require' }, ['a'])).toBe('b')
    expect(placement({}, ['a'])).toBe('b')
    expect(placement({ spread: 'None' }, ['a'])).toBe('a')
    refused(aDemand(aModel(2), { placement: { spread: 'Require' }, siblingNodes: ['a', 'b'] }), nodes)
  })
  test('a preferred spread gives way when nothing else fits', () => {
    const nodes = [aNode('a'), aNode('b', { freeGiB: 1 })]
    expect(nodesOf(placed(aDemand(aModel(2), { siblingNodes: ['a'] }), nodes))).toBe('a')
  })
  test('bytes are said before missing files when files would not help', () => {
    const no = refused(aDemand(aModel(20), { source: 'file:x' }), [aNode('a', { models: [] })])
    expect(no.refusals[0]?.reason).toBe('InsufficientMemory')
  })
  test('a bare shape runs on the fake engine only', () => {
    refused(aDemand(aModel(2)), [aNode('a', { models: [] })])
    placed(aDemand(aModel(2), fake), [aNode('a', { models: [] })])
  })
  test('one group, one build', () => {
    const mlx = (version: string) =>
      ({ engines: [{ name: 'mlx', version, transports: ['Ring'] }] }) as Partial<NodeView>
    const demand2 = aDemand(aModel(3), { parallelism: { strategy: 'Pipeline', degree: 2 } })
    const mixed = [aNode('a', mlx('1')), aNode('b', mlx('2'))]
    expect(refused(demand2, mixed).refusals).toMatchObject([{ reason: 'EngineMismatch' }])
    expect(nodesOf(placed(demand2, [...mixed, aNode('c', mlx('2'))]))).toBe('b,c')
  })
  test('the built-in table: mlx pipelines qwen2 and not llama; a reported list or * wins', () => {
    const nodes = (pipeline?: string[]) =>
      ['a', 'b'].map((name) =>
        aNode(name, {
          engines: [
            { name: 'mlx', version: '1', transports: ['Ring'], ...(pipeline === undefined ? {} : { pipeline }) },
          ],
        }),
      )
    const wish = { parallelism: { strategy: 'Pipeline', degree: 2 } } as const
    placed(aDemand(atBits(qwen7b, 4), wish), nodes())
    expect(refused(aDemand(atBits(llama3b, 4), wish), nodes()).refusals[0]?.reason).toBe('EngineUnsupported')
    placed(aDemand(atBits(llama3b, 4), wish), nodes(['*']))
    refused(aDemand(atBits(qwen7b, 4), wish), nodes(['llama']))
  })
  test('Auto never takes the fake engine', () => {
    const node = aNode('a', { engines: [{ name: 'fake', version: '1', transports: ['Ring'] }] })
    expect(refused(aDemand(aModel(1), { engine: 'Auto' }), [node]).refusals[0]?.reason).toBe('EngineUnsupported')
  })
  test('no nodes at all is said', () => {
    expect(refused(aDemand(aModel(1)), []).message).toBe('0/0 nodes are available: there are no nodes')
  })
})

describe('links', () => {
  const to = (peer: string, wish: Partial<NodeLink> = {}): NodeLink => ({
    peer,
    type: 'Thunderbolt4',
    transport: 'TCP',
    ...wish,
  })
  const two = { ...fake, parallelism: { strategy: 'Pipeline', degree: 2 } } as const
  test('nodes that report links, but none to each other, cannot form a group', () => {
    const nodes = [aNode('a', { links: [to('x')] }), aNode('b', { links: [to('y')] })]
    expect(refused(aDemand(aModel(3), two), nodes).refusals[0]?.reason).toBe('NoLink')
  })
  test('nodes that reach each other by IPv6 alone hold no ring of MLX, and are told why', () => {
    const at = (peer: string, own: string, other: string) => [to(peer, { address: own, peerAddress: other })]
    const nodes = (own: string, other: string) => [
      aNode('a', { links: at('b', own, other) }),
      aNode('b', { links: at('a', other, own) }),
    ]
    const [refusal] = refused(aDemand(aModel(3), two), nodes('fd00::1', 'fd00::2')).refusals
    expect(refusal).toMatchObject({
      reason: 'NoLink',
      message: expect.stringContaining('joined by IPv6 alone, and MLX speaks IPv4') as string,
    })
    expect(nodesOf(placed(aDemand(aModel(3), two), nodes('10.0.0.1', '10.0.0.2')))).toBe('a,b')
  })
  test('the pair with the faster link is taken; without any report 1 GbE is assumed and said', () => {
    const nodes = [
      aNode('a', { links: [to('b', { type: 'WiFi' }), to('c')] }),
      aNode('b', { links: [to('a', { type: 'WiFi' }), to('c', { type: 'WiFi' })] }),
      aNode('c', { links: [to('a'), to('b', { type: 'WiFi' })] }),
    ]
    expect(nodesOf(placed(aDemand(aModel(3), two), nodes))).toBe('a,c')
    const silent = placed(aDemand(aModel(3), two), [aNode('a'), aNode('b')])
    expect(silent.why.join()).toContain('1 GbE is assumed')
  })
  test('a measured figure wins over the class of the link', () => {
    const speed = (wish: Partial<NodeLink>) =>
      placed(aDemand(atBits(qwen7b, 16), { parallelism: { strategy: 'Tensor', degree: 2 } }), [
        aNode('a', { freeGiB: 12, links: [to('b', wish)] }),
        aNode('b', { freeGiB: 12, links: [to('a', wish)] }),
      ]).predicted?.decodeTokensPerSecond ?? NaN
    expect(speed({ allReduceMicros: 50 })).toBeGreaterThan(1.1 * speed({}))
  })
  test('Jaccl needs RDMA between all of them', () => {
    const pro = { nodeInfo: { chip: 'Apple M4 Pro', gpuCores: 16 } }
    const rdma = { type: 'Thunderbolt5', transport: 'RDMA' } as const
    const wish = { parallelism: { strategy: 'Tensor', degree: 2, transport: 'Jaccl' } } as const
    const nodes = [aNode('a', { ...pro, links: [to('b', rdma)] }), aNode('b', { ...pro, links: [to('a', rdma)] })]
    expect(placed(aDemand(aModel(3), wish), nodes).transport).toBe('Jaccl')
    expect(refused(aDemand(aModel(3), wish), [aNode('a'), aNode('b')]).refusals[0]?.reason).toBe('NoLink')
  })
})

describe('hints are ways out that were planned', () => {
  test('fewer requests, and none when nothing helps', () => {
    const model = aModel(6, 12, { kvBytesPerTokenPerLayer: Array.from({ length: 12 }, () => GiB / 12 / 256) })
    const hints = (concurrency: number, gib: number) =>
      refused(aDemand(model, { ...fake, serving: { concurrency } }), [aNode('a', { freeGiB: gib })]).hints.join('\n')
    expect(hints(8, 9)).toContain('serving.concurrency: 2 fits one node')
    expect(refused(aDemand(aModel(600), fake), [aNode('a', { freeGiB: 9 })]).hints).toEqual([])
  })
})

// --- properties ---

/** In steps of 1/16 GiB, so that exact fits happen. */
const gib = (min: number, max: number) => fc.integer({ min: min * 16, max: max * 16 }).map((n) => n / 16)
const sizes = fc.array(gib(0.5, 12), { minLength: 1, maxLength: 4 })
const cut = fc.constantFrom('Auto', 'Data', 'Pipeline', 'Tensor')
const chips = ['Apple M4', 'Apple M4 Pro', 'Apple M1'] as const
const worlds = fc.record({
  free: sizes,
  chip: fc.array(fc.constantFrom(...chips), { minLength: 4, maxLength: 4 }),
  weights: gib(0.5, 30),
  layers: fc.integer({ min: 1, max: 9 }),
  strategy: cut,
  objective: fc.constantFrom('Latency' as const, 'Throughput' as const),
})
const build = ({
  free,
  chip,
  weights,
  layers,
  strategy,
  objective,
}: typeof worlds extends fc.Arbitrary<infer T> ? T : never) => ({
  demand: aDemand(aModel(weights, layers), { ...fake, parallelism: { strategy, objective } }),
  nodes: free.map((freeGiB, i) => aNode(`n${i}`, { freeGiB, nodeInfo: { chip: chip[i] ?? 'Apple M4' } })),
})

test('a plan does not depend on the order of nodes', () => {
  fc.assert(
    fc.property(worlds, fc.integer(), (world, turn) => {
      const { demand, nodes } = build(world)
      const by = Math.abs(turn) % nodes.length
      const turned = [...nodes.slice(by), ...nodes.slice(0, by)].reverse()
      expect(placeGroup(demand, turned)).toEqual(placeGroup(demand, nodes))
    }),
  )
})

/** Does anything fit? By trying every set of nodes in every order with every cut into layers. */
function fitsByForce({ shape, template }: Demand, nodes: readonly NodeView[]): boolean {
  const terms = memoryTerms({ shape, engine: 'fake', ...template.serving })
  const { strategy } = template.parallelism
  const need = (kind: 'Single' | 'Tensor' | 'Pipeline', degree: number, stage: [number, number]) =>
    memoryBytesOf(rankNeed(terms, kind, degree, stage))
  const whole = (kind: 'Single' | 'Tensor', degree: number) =>
    nodes.filter((n) => need(kind, degree, [0, shape.layers]) <= n.allocatableBytes).length >= degree
  const pipeline = (used: readonly NodeView[], start: number): boolean => {
    if (start === shape.layers) return used.length >= 2
    return nodes.some((node) => {
      if (used.includes(node)) return false
      for (let end = start + 1; end <= shape.layers; end += 1)
        if (need('Pipeline', 2, [start, end]) <= node.allocatableBytes && pipeline([...used, node], end)) return true
      return false
    })
  }
  const tensor = [2, 4].some((degree) => degree <= nodes.length && whole('Tensor', degree))
  const fits = { Data: whole('Single', 1), Tensor: tensor, Pipeline: pipeline([], 0) }
  return strategy === 'Auto' ? fits.Data || fits.Tensor || fits.Pipeline : fits[strategy]
}

test('a group is placed exactly when something fits, and never over a budget', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const { demand, nodes } = build(world)
      const placement = placeGroup(demand, nodes)
      expect(checkPlacement(placement, demand, nodes)).toEqual([])
      expect(placement.kind === 'Placed').toBe(fitsByForce(demand, nodes))
    }),
    { numRuns: 200 },
  )
})

test('layers of unequal size: placed exactly when something fits', () => {
  const layers = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 2, maxLength: 6 })
  fc.assert(
    fc.property(layers, sizes, (weights, free) => {
      const layerBytes = weights.map((w) => w * GiB)
      const model = aModel(1, weights.length, { layerBytes, kvBytesPerTokenPerLayer: weights })
      const demand = aDemand(model, { ...fake, parallelism: { strategy: 'Pipeline' } })
      const nodes = free.map((freeGiB, i) => aNode(`n${i}`, { freeGiB }))
      const placement = placeGroup(demand, nodes)
      expect(checkPlacement(placement, demand, nodes)).toEqual([])
      expect(placement.kind === 'Placed').toBe(fitsByForce(demand, nodes))
    }),
    { numRuns: 150 },
  )
})

test('a refusal always names what is missing, per node', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const { demand, nodes } = build(world)
      const placement = placeGroup(demand, nodes)
      if (placement.kind === 'Placed') return
      expect(placement.message).toMatch(/^\d\/\d nodes are available: ./)
      for (const r of placement.refusals.filter((x) => x.reason === 'InsufficientMemory'))
        expect(r.needBytes ?? 0).toBeGreaterThan(r.haveBytes ?? Infinity)
    }),
  )
})
