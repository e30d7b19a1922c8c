/** The search against brute force, and what it promises whatever the world: properties and bounds. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { findLinkClass } from '../../../src/api/hardware.ts'
import type { LinkType } from '../../../src/api/node.ts'
import { checkPlacement } from '../../../src/planner/check.ts'
import type { Layout } from '../../../src/planner/cost.ts'
import { nodeSpeed, predict } from '../../../src/planner/cost.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../../../src/planner/memory.ts'
import { permutations } from '../../../src/planner/placement/links.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import { subsets } from './builders.ts'
import { terrainOf } from '../../../src/planner/placement/terrain.ts'
import { trialsOf } from '../../../src/planner/placement/trial.ts'
import type { Demand, NodeView, Placed } from '../../../src/planner/placement/types.ts'
import { wishOf } from '../../../src/planner/placement/wish.ts'
import type { Wish } from '../../../src/planner/placement/wish.ts'
import { aDemand, aModel, aNode } from './builders.ts'

const fake = { engine: 'fake' } as const
const chips = ['Apple M4', 'Apple M4 Pro', 'Apple M3 Ultra', 'Apple M1'] as const
const types: readonly (LinkType | undefined)[] = ['Thunderbolt4', 'Ethernet10G', 'WiFi', undefined]

/** In steps of 1/16 GiB, so that exact fits happen. */
const gib = (min: number, max: number) => fc.integer({ min: min * 16, max: max * 16 }).map((n) => n / 16)
const worldOf = (most: number) =>
  fc.record({
    free: fc.array(gib(0.5, 12), { minLength: 1, maxLength: most }),
    chip: fc.array(fc.constantFrom(...chips), { minLength: most, maxLength: most }),
    // Link types of pairs, in a fixed order of pairs.
    link: fc.array(fc.constantFrom(...types), {
      minLength: (most * (most - 1)) / 2,
      maxLength: (most * (most - 1)) / 2,
    }),
    weights: gib(0.5, 20),
    layers: fc.integer({ min: 1, max: 6 }),
    objective: fc.constantFrom('Latency' as const, 'Throughput' as const),
    strategy: fc.constantFrom(
      'Auto' as const,
      'Auto' as const,
      'Data' as const,
      'Pipeline' as const,
      'Tensor' as const,
    ),
  })
type WorldWish = ReturnType<typeof worldOf> extends fc.Arbitrary<infer T> ? T : never

function build({ free, chip, link, weights, layers, objective, strategy }: WorldWish) {
  const pairs = new Map(subsets([...free.keys()], 2).map((pair, i) => [pair.join(), link[i]]))
  const typeOf = (i: number, j: number) => pairs.get([Math.min(i, j), Math.max(i, j)].join())
  const nodes = free.map((freeGiB, i) =>
    aNode(`n${i}`, {
      freeGiB,
      nodeInfo: { chip: chip[i] ?? 'Apple M4' },
      links: free.flatMap((_, j) => {
        const type = i === j ? undefined : typeOf(i, j)
        return type === undefined ? [] : [{ peer: `n${j}`, type, transport: 'TCP' as const }]
      }),
    }),
  )
  const demand = aDemand(aModel(weights, layers), {
    ...fake,
    parallelism: { strategy, objective },
    serving: { contextTokens: 256, concurrency: 8 },
  })
  return { demand, nodes, typeOf: (a: NodeView, b: NodeView) => typeOf(nodes.indexOf(a), nodes.indexOf(b)) }
}

/** The objective's best figure over every set of nodes, order and split; undefined: nothing fits. */
function bestByForce({ demand, nodes, typeOf }: ReturnType<typeof build>): number | undefined {
  const { shape, template } = demand
  const input = { shape, engine: 'fake' as const, ...template.serving }
  const terms = memoryTerms(input)
  const speed = (node: NodeView) => nodeSpeed(node.nodeInfo, node.memoryBytes)
  // Nodes without any report share 1 GbE; those with reports talk where one of them names the other.
  const linkOf = (a: NodeView, b: NodeView) => {
    const type = typeOf(a, b)
    if (type !== undefined) return findLinkClass(type, 'TCP')
    return a.links.length === 0 || b.links.length === 0 ? findLinkClass('Ethernet1G', 'TCP') : undefined
  }
  const rate = (layout: Layout) => {
    const predicted = predict(input, layout)
    return template.parallelism.objective === 'Latency'
      ? predicted.decodeTokensPerSecond
      : (predicted.saturatedTokensPerSecond ?? NaN)
  }
  const fits = (node: NodeView, need: ReturnType<typeof rankNeed>) => memoryBytesOf(need) <= node.allocatableBytes
  const allows = (strategy: string) =>
    template.parallelism.strategy === 'Auto' || template.parallelism.strategy === strategy
  const found: number[] = []
  for (let degree = 1; degree <= nodes.length; degree += 1)
    for (const order of subsets(nodes, degree).flatMap((set) => permutations(set))) {
      const [first] = order
      if (first === undefined) continue
      const whole = [0, shape.layers] as const
      if (degree === 1) {
        if (allows('Data') && fits(first, rankNeed(terms, 'Single', 1, whole)))
          found.push(rate({ strategy: 'Single', node: speed(first) }))
        continue
      }
      const steps = order.slice(1).map((node, i) => linkOf(order[i] as NodeView, node))
      const back = degree > 2 ? [linkOf(order.at(-1) as NodeView, first)] : []
      const links = [...steps, ...back].flatMap((l) => l ?? [])
      if (links.length < steps.length + back.length) continue
      const divides = [shape.attentionHeads, shape.kvHeads, shape.intermediateSize ?? 0].every((n) => n % degree === 0)
      if (allows('Tensor') && divides && order.every((node) => fits(node, rankNeed(terms, 'Tensor', degree, whole))))
        // The slowest link in use sets the pace, whichever it is for this degree.
        found.push(
          Math.min(
            ...links.map((l) =>
              rate({
                strategy: 'Tensor',
                nodes: order.map(speed),
                link: {
                  allReduceSeconds: l.allReduceMicros * 1e-6,
                  growthPerRank: l.allReduceGrowthPerRank,
                  bytesPerSecond: l.bandwidthGBps * 1e9,
                },
              }),
            ),
          ),
        )
      if (!allows('Pipeline')) continue
      for (const counts of compositions(shape.layers, degree)) {
        let start = 0
        const holds = counts.every((count, i) => {
          const stage = [start, start + count] as const
          start += count
          return fits(order[i] as NodeView, rankNeed(terms, 'Pipeline', degree, stage))
        })
        if (!holds) continue
        const stages = order.map((node, i) => ({ node: speed(node), layers: counts[i] ?? 0 }))
        found.push(rate({ strategy: 'Pipeline', stages, hopSeconds: steps.map((l) => (l?.hopMicros ?? 0) * 1e-6) }))
      }
    }
  return found.length === 0 ? undefined : Math.max(...found)
}

/** All ways to write `total` as a sum of so many positive numbers. */
function compositions(total: number, parts: number): readonly (readonly number[])[] {
  if (parts === 1) return total > 0 ? [[total]] : []
  return Array.from({ length: Math.max(0, total - parts + 1) }, (_, i) => i + 1).flatMap((first) =>
    compositions(total - first, parts - 1).map((rest) => [first, ...rest]),
  )
}

const objectiveOf = (demand: Demand, { predicted }: Placed): number =>
  (demand.template.parallelism.objective === 'Latency'
    ? predicted?.decodeTokensPerSecond
    : predicted?.saturatedTokensPerSecond) ?? NaN

describe('up to four nodes', () => {
  test('no set of nodes, order and split is better than the plan, by its objective', () => {
    fc.assert(
      fc.property(worldOf(4), (wish) => {
        const world = build(wish)
        const placement = placeGroup(world.demand, world.nodes)
        const best = bestByForce(world)
        expect(placement.kind === 'Placed').toBe(best !== undefined)
        if (placement.kind !== 'Placed' || best === undefined) return
        expect(checkPlacement(placement, world.demand, world.nodes)).toEqual([])
        expect(objectiveOf(world.demand, placement) / best).toBeCloseTo(1, 5)
      }),
      { numRuns: 400 },
    )
  })
  test('Auto is never worse than an alternative that it lists, nor than any strategy that is forced', () => {
    fc.assert(
      fc.property(worldOf(4), (wish) => {
        const { demand, nodes } = build({ ...wish, strategy: 'Auto' })
        const auto = placeGroup(demand, nodes)
        for (const strategy of ['Data', 'Pipeline', 'Tensor'] as const) {
          const forced = placeGroup(build({ ...wish, strategy }).demand, nodes)
          if (forced.kind === 'Unplaceable') continue
          if (auto.kind === 'Unplaceable') throw new Error(`${strategy} fits, Auto does not`)
          expect(objectiveOf(demand, auto)).toBeGreaterThanOrEqual(objectiveOf(demand, forced) * (1 - 1e-6))
        }
        if (auto.kind === 'Unplaceable') return
        for (const a of auto.alternatives.filter((x) => x.schedulable)) {
          const own =
            demand.template.parallelism.objective === 'Latency' ? a.decodeTokensPerSecond : a.saturatedTokensPerSecond
          expect(objectiveOf(demand, auto)).toBeGreaterThanOrEqual((own ?? NaN) * (1 - 1e-6))
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('in any world', () => {
  test('more memory on a node never makes a plan impossible, nor a worse one of it', () => {
    fc.assert(
      fc.property(worldOf(6), fc.nat(), gib(0.0625, 4), (wish, at, more) => {
        const { demand, nodes } = build(wish)
        const before = placeGroup(demand, nodes)
        const richer = nodes.map((node, i) =>
          i === at % nodes.length ? { ...node, allocatableBytes: node.allocatableBytes + more * 2 ** 30 } : node,
        )
        const after = placeGroup(demand, richer)
        if (before.kind === 'Unplaceable') return
        if (after.kind === 'Unplaceable') throw new Error(after.message)
        expect(objectiveOf(demand, after)).toBeGreaterThanOrEqual(objectiveOf(demand, before) * (1 - 1e-6))
      }),
      { numRuns: 200 },
    )
  })
  test('no order of nodes or of their links changes anything of the answer', () => {
    fc.assert(
      fc.property(worldOf(6), fc.nat(), (wish, turn) => {
        const { demand, nodes } = build(wish)
        const by = turn % nodes.length
        const turned = [...nodes.slice(by), ...nodes.slice(0, by)].map((n) => ({ ...n, links: [...n.links].reverse() }))
        expect(placeGroup(demand, turned)).toEqual(placeGroup(demand, nodes))
      }),
      { numRuns: 200 },
    )
  })
  test('no attempt of a cut scores more than its bound, from which the search takes what it leaves out', () => {
    fc.assert(
      fc.property(worldOf(12), (wish) => {
        const { demand, nodes } = build(wish)
        for (const trial of trialsOf(demand, nodes, wishOf(demand) as Wish, terrainOf(nodes))) {
          const made = trial.made()
          if (made.kind === 'Fits') expect(made.draft.score).toBeLessThanOrEqual(trial.bound() * (1 + 1e-6))
        }
      }),
      { numRuns: 200 },
    )
  })
})

describe('more than eight nodes', () => {
  const mesh = (count: number, wish: (i: number) => Partial<NodeView> & { freeGiB?: number } = () => ({})) => {
    const names = Array.from({ length: count }, (_, i) => `mini-${String(i).padStart(2, '0')}`)
    return names.map((name, i) =>
      aNode(name, {
        links: names.filter((n) => n !== name).map((peer) => ({ peer, type: 'Ethernet10G', transport: 'TCP' })),
        ...wish(i),
      }),
    )
  }
  const place = (demand: Demand, nodes: readonly NodeView[]): Placed => {
    const placement = placeGroup(demand, nodes)
    if (placement.kind !== 'Placed') throw new Error(placement.message)
    expect(checkPlacement(placement, demand, nodes)).toEqual([])
    return placement
  }

  test('the gap to what no plan can beat is told, and is 0 where the best is found for certain', () => {
    const pipeline = aDemand(aModel(40, 40), { ...fake, parallelism: { strategy: 'Pipeline' } })
    const alike = place(pipeline, mesh(12))
    expect(alike.search).toMatchObject({ gap: 0 })
    expect(alike.why.join('\n')).toContain('no plan can reach more than')
    const mixed = place(
      pipeline,
      mesh(12, (i) => ({ nodeInfo: { chip: chips[i % 3] ?? '' }, freeGiB: 6 + (i % 5) })),
    )
    expect(mixed.search?.gap).toBeGreaterThanOrEqual(0)
    expect(mixed.search?.gap).toBeLessThan(0.25)
    expect(place(aDemand(aModel(4), fake), mesh(8)).search).toBeUndefined()
  })

  test('a model that takes more than eight nodes is placed on as many as it takes', () => {
    const plan = place(aDemand(aModel(100, 60), { ...fake, parallelism: { strategy: 'Pipeline' } }), mesh(14))
    expect(plan.members.length).toBeGreaterThan(8)
    expect(plan.members.reduce((sum, m) => sum + m.stage[1] - m.stage[0], 0)).toBe(60)
  })

  test('a full mesh of ten, twenty or forty nodes takes a bounded number of looks at links, not one per cycle', () => {
    const looks = (count: number) => {
      const nodes = mesh(count, (i) => ({ nodeInfo: { chip: chips[i % 3] ?? '' }, freeGiB: 5 + (i % 4) }))
      const terrain = terrainOf(nodes)
      let asked = 0
      const counted = {
        ...terrain,
        linkOf: (...args: Parameters<typeof terrain.linkOf>) => ((asked += 1), terrain.linkOf(...args)),
      }
      const placement = placeGroup(aDemand(aModel(24, 48), fake), nodes, counted)
      if (placement.kind !== 'Placed') throw new Error(placement.message)
      expect(placement.alternatives.length).toBeGreaterThan(2)
      return asked
    }
    // A mesh of ten has 1,112,073 cycles.
    const ten = looks(10)
    expect(ten).toBeLessThan(20_000)
    expect(looks(20)).toBeLessThan(2.5 * ten)
    expect(looks(40)).toBeLessThan(5 * ten)
  })
})
