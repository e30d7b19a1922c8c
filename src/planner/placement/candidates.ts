/** Whole candidates of one cut: nodes, transport, layers per stage, need per rank and predicted speed. */
import type { Engine, GroupStrategy, MemoryParts, Predicted, Stage, Transport } from '../../api/words.ts'
import type { Layout } from '../cost.ts'
import { predict } from '../cost.ts'
import { memoryBytesOf, rankNeed } from '../memory.ts'
import { transportChoices } from './engines.ts'
import type { Ground } from './ground.ts'
import { fitsOn, needBytes, wholeStage } from './ground.ts'
import type { Ring } from './links.ts'
import { permutations, ringInOrder, ringOf } from './links.ts'
import { greedySplit, partition, stagesOf } from './partition.ts'
import type { Seat } from './seats.ts'
import { byBudget, isRdmaCapable, seatSets } from './seats.ts'

/** Up to so many stages, every order of the nodes is tried where the order matters for what fits. */
const EXACT_ORDER_STAGES = 5

export interface Cut {
  readonly strategy: GroupStrategy
  readonly degree: number
}

export interface Candidate extends Cut {
  readonly engine: Engine
  readonly transport: Transport
  /** By position: stage for Pipeline, rank for Tensor. */
  readonly seats: readonly Seat[]
  readonly stages: readonly Stage[]
  readonly needs: readonly MemoryParts[]
  readonly layout: Layout
  readonly ring: Ring | undefined
  readonly predicted: Predicted
  /** The figure of the objective, to three digits: what differs by less is equal. */
  readonly score: number
  readonly siblings: number
  readonly freeAfterBytes: number
}

/** Are all its chips in the table? Else its figures serve to compare only. */
export const isKnown = (candidate: Candidate): boolean => candidate.seats.every((s) => s.speed.known)

/** Fewest siblings, then the objective, then Single before Tensor before Pipeline, more bytes left, names. */
export function compareCandidates(a: Candidate, b: Candidate): number {
  return (
    a.siblings - b.siblings ||
    b.score - a.score ||
    strategyOrder.indexOf(a.strategy) - strategyOrder.indexOf(b.strategy) ||
    b.freeAfterBytes - a.freeAfterBytes ||
    (namesOf(a) < namesOf(b) ? -1 : namesOf(a) > namesOf(b) ? 1 : 0)
  )
}
const strategyOrder: readonly GroupStrategy[] = ['Single', 'Tensor', 'Pipeline']
const namesOf = (candidate: Candidate) => candidate.seats.map((s) => s.node.name).join(' ')

export const bestOf = (candidates: readonly Candidate[]): Candidate | undefined =>
  candidates.length === 0 ? undefined : candidates.reduce((best, c) => (compareCandidates(c, best) < 0 ? c : best))

/** Every candidate of the cut on these seats, which may stand in one group; none: nothing fits, or no links. */
export function candidatesOf(ground: Ground, cut: Cut, seats: readonly Seat[]): readonly Candidate[] {
  const roomiest = [...seats].sort(byBudget).slice(0, cut.degree)
  // Layers of equal size fit on some set exactly when they fit on the roomiest one.
  if (!mayFit(ground, cut, roomiest)) return []
  return seatSets(seats, cut.degree).flatMap((set) => candidatesOn(ground, cut, set))
}

function candidatesOn(ground: Ground, cut: Cut, set: readonly Seat[]): readonly Candidate[] {
  if (!mayFit(ground, cut, set)) return []
  const nodes = nodesOf(set)
  const transports = transportChoices(ground.demand, ground.engine, cut.strategy, isRdmaCapable, nodes)
  return transports.flatMap((transport) => {
    if (cut.strategy === 'Single')
      return [candidate(ground, cut, { transport, seats: set, counts: [], ring: undefined })]
    const ring = ringOf(nodes, transport, ground.linkOf(transport))
    if (ring === undefined) return []
    if (cut.strategy === 'Tensor') return [candidate(ground, cut, { transport, seats: set, counts: [], ring })]
    return pipelines(ground, cut, set, transport, ring)
  })
}

const nodesOf = (seats: readonly Seat[]) => seats.map((s) => s.node)

/** false: certainly not. Exact but for layers of unequal size, where it answers true and the partition decides. */
function mayFit(ground: Ground, cut: Cut, set: readonly Seat[]): boolean {
  if (cut.strategy !== 'Pipeline') {
    const bytes = needBytes(ground, cut.strategy, cut.degree, wholeStage(ground))
    return set.every((seat) => bytes <= seat.budgetBytes)
  }
  const { split } = ground.demand.template.parallelism
  if (split.length > 0) return splitOrder(ground, set, split) !== undefined
  return !ground.equalLayers || greedySplit(ground.demand.shape.layers, set.length, fitsOn(ground, set)) !== undefined
}

function pipelines(
  ground: Ground,
  cut: Cut,
  set: readonly Seat[],
  transport: Transport,
  ring: Ring,
): readonly Candidate[] {
  const { split } = ground.demand.template.parallelism
  if (split.length > 0) return forcedSplits(ground, cut, set, transport, split)
  const ordered = ring.order.map((node) => set.find((s) => s.node === node) as Seat)
  const counts = partitionOn(ground, ordered)
  if (counts !== undefined) return [candidate(ground, cut, { transport, seats: ordered, counts, ring })]
  if (ground.equalLayers) return []
  // Layers of unequal size may fit in another order of the same nodes only.
  return ordersOf(set).flatMap((seats) => {
    const other = ringInOrder(nodesOf(seats), transport, ground.linkOf(transport))
    const layers = other === undefined ? undefined : partitionOn(ground, seats)
    return layers === undefined ? [] : [candidate(ground, cut, { transport, seats, counts: layers, ring: other })]
  })
}

function ordersOf(set: readonly Seat[]): readonly (readonly Seat[])[] {
  if (set.length <= EXACT_ORDER_STAGES) return permutations(set)
  const roomiestFirst = [...set].sort(byBudget)
  return [roomiestFirst, [...roomiestFirst].reverse()]
}

function partitionOn(ground: Ground, order: readonly Seat[]): readonly number[] | undefined {
  return partition({
    layers: ground.demand.shape.layers,
    layerSeconds: order.map((s) => s.layerSeconds),
    fits: fitsOn(ground, order),
    objective: ground.demand.template.parallelism.objective,
  })
}

function forcedSplits(
  ground: Ground,
  cut: Cut,
  set: readonly Seat[],
  transport: Transport,
  split: readonly number[],
): readonly Candidate[] {
  const matched = splitOrder(ground, set, split)
  const orders = set.length <= EXACT_ORDER_STAGES ? permutations(set) : matched === undefined ? [] : [matched]
  return orders.flatMap((seats) => {
    const fits = fitsOn(ground, seats)
    if (!stagesOf(split).every(([start, end], stage) => fits(stage, start, end))) return []
    const ring = ringInOrder(nodesOf(seats), transport, ground.linkOf(transport))
    return ring === undefined ? [] : [candidate(ground, cut, { transport, seats, counts: split, ring })]
  })
}

/** The seats in an order that holds a forced split: the needier the stage, the roomier its node; undefined: there is none. */
function splitOrder(ground: Ground, set: readonly Seat[], split: readonly number[]): readonly Seat[] | undefined {
  const neediest = stagesOf(split)
    .map(([start, end], stage) => ({ stage, bytes: ground.stageBytes(start, end) }))
    .sort((a, b) => b.bytes - a.bytes)
  const order: Seat[] = []
  for (const [i, seat] of [...set].sort(byBudget).entries()) {
    const next = neediest[i]
    if (next === undefined || next.bytes > seat.budgetBytes) return undefined
    order[next.stage] = seat
  }
  return order
}

interface Arrangement {
  readonly transport: Transport
  readonly seats: readonly Seat[]
  /** Layers per stage, for Pipeline. */
  readonly counts: readonly number[]
  readonly ring: Ring | undefined
}

function candidate(ground: Ground, { strategy, degree }: Cut, arrangement: Arrangement): Candidate {
  const { seats, counts, ring } = arrangement
  const stages = strategy === 'Pipeline' ? stagesOf(counts) : seats.map(() => wholeStage(ground))
  const needs = stages.map((stage) => rankNeed(ground.terms, strategy, degree, stage))
  const layout = layoutOf(strategy, seats, counts, ring)
  const predicted = predict(ground.cost, layout)
  const { objective } = ground.demand.template.parallelism
  const wish = objective === 'Latency' ? predicted.decodeTokensPerSecond : predicted.aggregateTokensPerSecond
  return {
    engine: ground.engine,
    strategy,
    degree,
    transport: arrangement.transport,
    seats,
    stages,
    needs,
    layout,
    ring,
    predicted,
    score: Number(wish.toPrecision(3)),
    siblings: seats.filter((s) => s.sibling).length,
    freeAfterBytes: seats.reduce((sum, s, i) => sum + s.budgetBytes - memoryBytesOf(needs[i] as MemoryParts), 0),
  }
}

function layoutOf(
  strategy: GroupStrategy,
  seats: readonly Seat[],
  counts: readonly number[],
  ring: Ring | undefined,
): Layout {
  const speeds = seats.map((s) => s.speed)
  const [first] = speeds
  if (strategy === 'Tensor' && ring !== undefined) return { strategy, nodes: speeds, link: ring.link }
  if (strategy === 'Pipeline' && ring !== undefined) {
    return {
      strategy,
      stages: speeds.map((node, i) => ({ node, layers: counts[i] ?? 0 })),
      hopSeconds: ring.hopSeconds,
    }
  }
  if (first === undefined) throw new Error('bug: a layout without nodes')
  return { strategy: 'Single', node: first }
}

/**
 * The predicted figures of a cut as if memory and support were no matter, on the fastest seats and with an even split;
 * undefined: too few nodes, links or known chips.
 */
export function predictAnyway(ground: Ground, { strategy, degree }: Cut): Predicted | undefined {
  const { layers } = ground.demand.shape
  const seats = ground.seats.slice(0, degree)
  if (seats.length < degree || degree > layers || seats.some((s) => !s.speed.known)) return undefined
  const transport = ground.engine === 'llamacpp' && strategy === 'Pipeline' ? 'Rpc' : 'Ring'
  const ring = degree === 1 ? undefined : ringOf(nodesOf(seats), transport, ground.linkOf(transport))
  if (degree > 1 && ring === undefined) return undefined
  const counts = seats.map((_, i) => Math.floor(layers / degree) + (i < layers % degree ? 1 : 0))
  return predict(ground.cost, layoutOf(strategy, seats, counts, ring))
}
