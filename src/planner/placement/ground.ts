/**
 * The ground of a search: one demand on the nodes that are left for it, under one engine. Everything that attempts of
 * any strategy and degree ask again and again is worked out once, here.
 */
import type { Engine, GroupStrategy, Stage, Transport } from '../../api/words.ts'
import type { CostInput } from '../cost.ts'
import type { MemoryTerms } from '../memory.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../memory.ts'
import type { LinkBetween, PairLink } from './links.ts'
import { pairLink } from './links.ts'
import type { Seat } from './seats.ts'
import { seatsOf } from './seats.ts'
import type { Demand, NodeView } from './types.ts'

export interface Ground {
  readonly demand: Demand
  readonly engine: Engine
  readonly terms: MemoryTerms
  readonly cost: CostInput
  /** In canonical order. */
  readonly seats: readonly Seat[]
  /** Every layer needs the same, wherever it stands: what fits does not depend on the order of nodes. */
  readonly equalLayers: boolean
  /** Bytes of a pipeline stage [start, end). */
  readonly stageBytes: (start: number, end: number) => number
  readonly linkOf: (transport: Transport) => LinkBetween
}

export function groundOf(demand: Demand, nodes: readonly NodeView[], engine: Engine): Ground {
  const { contextTokens, concurrency } = demand.template.serving
  const cost = { shape: demand.shape, engine, contextTokens, concurrency }
  const terms = memoryTerms(cost)
  return {
    demand,
    engine,
    terms,
    cost,
    seats: seatsOf(demand, cost, nodes),
    equalLayers: hasEqualLayers(terms),
    stageBytes: rememberedStages(terms),
    linkOf: rememberedLinks(),
  }
}

/** Bytes of one rank of a cut; `stage` matters for Pipeline only. */
export function needBytes(ground: Ground, strategy: GroupStrategy, degree: number, [start, end]: Stage): number {
  if (strategy === 'Pipeline') return ground.stageBytes(start, end)
  return memoryBytesOf(rankNeed(ground.terms, strategy, degree, [start, end]))
}

export const wholeStage = ({ demand }: Ground): Stage => [0, demand.shape.layers]

/** Does a stage fit on its seat of this order, given so many bytes more on each? */
export const fitsOn =
  (ground: Ground, order: readonly Seat[], extraBytes = 0) =>
  (stage: number, start: number, end: number): boolean =>
    ground.stageBytes(start, end) <= (order[stage]?.budgetBytes ?? 0) + extraBytes

function hasEqualLayers({ input }: MemoryTerms): boolean {
  const { layerBytes = [], kvBytesPerTokenPerLayer = [] } = input.shape
  const equal = (values: readonly number[]) => values.every((v) => v === values[0])
  // The ends of a llama.cpp pipeline stand on its end stages.
  return equal(layerBytes) && equal(kvBytesPerTokenPerLayer) && (input.engine !== 'llamacpp' || layerBytes.length === 0)
}

function rememberedStages(terms: MemoryTerms): Ground['stageBytes'] {
  const width = terms.input.shape.layers + 1
  let known: Float64Array | undefined
  return (start, end) => {
    known ??= new Float64Array(width * width)
    const index = start * width + end
    // No stage needs 0 bytes: the runtime is in it.
    if (known[index] === 0) known[index] = memoryBytesOf(rankNeed(terms, 'Pipeline', 0, [start, end]))
    return known[index] ?? 0
  }
}

function rememberedLinks(): Ground['linkOf'] {
  const known = new Map<string, PairLink | undefined>()
  return (transport) => (a, b) => {
    const key = a.name < b.name ? `${transport} ${a.name} ${b.name}` : `${transport} ${b.name} ${a.name}`
    if (!known.has(key)) known.set(key, pairLink(a, b, transport))
    return known.get(key)
  }
}
