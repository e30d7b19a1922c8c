/**
 * The ground of a search: one demand on the nodes that are left for it, under one engine. Everything that attempts of
 * any strategy and degree ask again and again is worked out once, here.
 */
import type { Engine, GroupStrategy, Stage, Transport } from '../../api/words.ts'
import type { CostInput, NodeSpeed, SeatSeconds } from '../cost.ts'
import { seatSeconds } from '../cost.ts'
import type { MemoryTerms } from '../memory.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../memory.ts'
import type { Field } from './attempt.ts'
import type { Reach } from './bound.ts'
import type { PairLink } from './links.ts'
import { lastEnd } from './partition.ts'
import type { Seat } from './seats.ts'
import { seatsOf } from './seats.ts'
import type { Terrain, WorkKind } from './terrain.ts'
import type { Demand, NodeView } from './types.ts'

/** One model served in one way, whoever asks for it and whatever is bound where. */
export interface Work {
  readonly terms: MemoryTerms
  readonly cost: CostInput
  /** Every layer needs the same, wherever it stands: what fits does not depend on the order of nodes. */
  readonly equalLayers: boolean
  /** Bytes of a pipeline stage [start, end). */
  readonly stageBytes: (start: number, end: number) => number
  /** No stage of this seat holds more layers, wherever they are from; exact when layers are equal. */
  readonly mostLayers: (seat: Pick<Seat, 'budgetBytes'>) => number
  readonly secondsOn: (speed: NodeSpeed) => SeatSeconds
}

export interface Ground extends Work {
  readonly demand: Demand
  readonly engine: Engine
  readonly terrain: Terrain
  /** In canonical order. */
  readonly seats: readonly Seat[]
  /** Remembered by attempt.ts: who can take part, by strategy. */
  readonly fields: Map<GroupStrategy, Field>
  /** Remembered by bound.ts. */
  readonly reach: { known?: Reach }
}

export function groundOf(demand: Demand, nodes: readonly NodeView[], engine: Engine, terrain: Terrain): Ground {
  const { shape, template } = demand
  const { contextTokens, concurrency } = template.serving
  const kind = { shape, engine, contextTokens, concurrency }
  const work = terrain.workOf(kind, () => workOf(kind))
  return {
    ...work,
    demand,
    engine,
    terrain,
    seats: seatsOf(demand, work.secondsOn, nodes, terrain),
    fields: new Map(),
    reach: {},
  }
}

function workOf(cost: WorkKind): Work {
  const terms = memoryTerms(cost)
  const equalLayers = hasEqualLayers(terms)
  const stageBytes = stagesOf(terms, equalLayers)
  const seconds = new Map<NodeSpeed, SeatSeconds>()
  return {
    terms,
    cost,
    equalLayers,
    stageBytes,
    mostLayers: rememberedCaps(cost.shape.layers, equalLayers, stageBytes),
    secondsOn: (speed) => {
      let own = seconds.get(speed)
      if (own === undefined) seconds.set(speed, (own = seatSeconds(cost, speed)))
      return own
    },
  }
}

export const linkOf =
  ({ terrain }: Ground, transport: Transport) =>
  (a: Seat, b: Seat): PairLink | undefined =>
    terrain.linkOf(a.index, b.index, transport)

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

function hasEqualLayers({ input, weightsBefore, kvBefore }: MemoryTerms): boolean {
  const { layerBytes = [] } = input.shape
  // The ends of a llama.cpp pipeline stand on its end stages.
  if (input.engine === 'llamacpp' && layerBytes.length > 0) return false
  return hasEqualSteps(weightsBefore) && hasEqualSteps(kvBefore)
}

/** To a thousandth of a byte: sums of fractions are not exact. */
function hasEqualSteps(sums: readonly number[]): boolean {
  const step = (sums.at(-1) ?? 0) / Math.max(1, sums.length - 1)
  return sums.every((sum, i) => Math.abs(sum - i * step) < 1e-3)
}

/** Layers that differ are asked for again and again by the partition; of equal ones only few stages are. */
function stagesOf(terms: MemoryTerms, equalLayers: boolean): Work['stageBytes'] {
  const bytes = (start: number, end: number) => memoryBytesOf(rankNeed(terms, 'Pipeline', 0, [start, end]))
  if (equalLayers) return bytes
  const width = terms.input.shape.layers + 1
  let known: Float64Array | undefined
  return (start, end) => {
    known ??= new Float64Array(width * width)
    const index = start * width + end
    // No stage needs 0 bytes: the runtime is in it.
    if (known[index] === 0) known[index] = bytes(start, end)
    return known[index] ?? 0
  }
}

function rememberedCaps(layers: number, equalLayers: boolean, stageBytes: Work['stageBytes']): Work['mostLayers'] {
  const known = new Map<number, number>()
  const capOf = (budget: number) => {
    if (equalLayers) return lastEnd(0, layers, (end) => stageBytes(0, end) <= budget)
    let most = 0
    // Two marks that only move forward: the longest run of layers that fits.
    for (let start = 0, end = 0; start < layers; start += 1) {
      while (end < layers && stageBytes(start, end + 1) <= budget) end += 1
      most = Math.max(most, end - start)
      end = Math.max(end, start + 1)
    }
    return most
  }
  return ({ budgetBytes }) => {
    let cap = known.get(budgetBytes)
    if (cap === undefined) known.set(budgetBytes, (cap = capOf(budgetBytes)))
    return cap
  }
}
