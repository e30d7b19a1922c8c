/**
 * One attempt of the search: the best way to place a group with a given engine, strategy and degree, or why there is
 * none, in numbers. A candidate is whole: nodes, transport, layers per stage, need per rank, predicted speed.
 */
import type { Engine, GroupStrategy, MemoryParts, Predicted, Refusal, Stage, Transport } from '../../api/words.ts'
import type { CostInput, Layout } from '../cost.ts'
import { predict } from '../cost.ts'
import type { MemoryTerms } from '../memory.ts'
import { memoryBytesOf, memoryTerms, rankNeed } from '../memory.ts'
import { canCut, engineOf, transportChoices } from './engines.ts'
import { cutRefusal, memoryRefusal } from './filter.ts'
import type { Ring } from './links.ts'
import { permutations, ringInOrder, ringOf } from './links.ts'
import { greedySplit, partition, stagesOf } from './partition.ts'
import type { Seat } from './seats.ts'
import { byBudget, compatible, isRdmaCapable, seatSets, seatsOf } from './seats.ts'
import type { Demand, NodeView } from './types.ts'

/** Up to so many stages, a forced split is tried on every order of its nodes. */
const EXACT_SPLIT_STAGES = 5

export interface Cut {
  readonly engine: Engine
  readonly strategy: GroupStrategy
  readonly degree: number
}

export interface Candidate extends Cut {
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

export type Attempt = Cut &
  (
    | { readonly kind: 'Fits'; readonly best: Candidate }
    /** `shortBytes`: what the worst rank of the nearest set lacks; Infinity when memory is not the matter. */
    | { readonly kind: 'Refused'; readonly refusals: readonly Refusal[]; readonly shortBytes: number }
  )

/** What an attempt works with. */
interface Search extends Cut {
  readonly demand: Demand
  readonly terms: MemoryTerms
  readonly cost: CostInput
}

export function attempt(demand: Demand, nodes: readonly NodeView[], cut: Cut): Attempt {
  const search = searchOf(demand, cut)
  const refused = (refusals: readonly Refusal[], shortBytes = Infinity): Attempt => ({
    ...cut,
    kind: 'Refused',
    refusals,
    shortBytes,
  })
  const impossible = cutRefusal(demand.shape, cut.strategy, cut.degree)
  if (impossible !== undefined) return refused([impossible])

  const unsupported = nodes.flatMap((node) => engineRefusal(search, node) ?? [])
  const able = nodes.filter((node) => !unsupported.some((r) => r.node === node.name))
  const classes = compatible(demand, cut.engine, seatsOf(demand, search.cost, able))
  const largest = Math.max(0, ...classes.map((c) => c.length))
  if (able.length < cut.degree)
    return refused(able.length === 0 && nodes.length > 0 ? unsupported : [...unsupported, tooFew(cut, able.length)])
  if (largest < cut.degree) return refused([...unsupported, ...mismatches(search, classes)])

  const best = bestOf(classes.flatMap((seats) => candidatesOf(search, seats)))
  if (best !== undefined) return { ...cut, kind: 'Fits', best }
  const nearest = nearestRefusals(search, classes)
  return refused([...unsupported, ...nearest.refusals], nearest.shortBytes)
}

/** The predicted figures of a cut as if memory and support were no matter; undefined: too few nodes, links or known chips. */
export function predictAnyway(demand: Demand, nodes: readonly NodeView[], cut: Cut): Predicted | undefined {
  const search = searchOf(demand, cut)
  const seats = seatsOf(demand, search.cost, nodes).slice(0, cut.degree)
  if (seats.length < cut.degree || cut.degree > demand.shape.layers || seats.some((s) => !s.speed.known))
    return undefined
  const transport = cut.engine === 'llamacpp' && cut.strategy === 'Pipeline' ? 'Rpc' : 'Ring'
  const ring = ringOf(
    seats.map((s) => s.node),
    transport,
  )
  if (cut.degree > 1 && ring === undefined) return undefined
  const { layers } = demand.shape
  const counts = seats.map((_, i) => Math.floor(layers / cut.degree) + (i < layers % cut.degree ? 1 : 0))
  return predict(search.cost, layoutOf(cut.strategy, seats, counts, ring))
}

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

function searchOf(demand: Demand, cut: Cut): Search {
  const { contextTokens, concurrency } = demand.template.serving
  const cost = { shape: demand.shape, engine: cut.engine, contextTokens, concurrency }
  return { ...cut, demand, cost, terms: memoryTerms(cost) }
}

function engineRefusal({ demand, engine, strategy }: Search, node: NodeView): Refusal | undefined {
  const refuse = (message: string): Refusal => ({ node: node.name, reason: 'EngineUnsupported', message })
  const info = engineOf(node, engine)
  if (info === undefined) return refuse(`engine ${engine} is not on the node`)
  const { architecture } = demand.shape
  if (canCut(info, engine, strategy, architecture)) return undefined
  return refuse(`${engine} cannot run ${architecture} as ${strategy}`)
}

const tooFew = ({ strategy, degree }: Cut, count: number): Refusal => ({
  node: '',
  reason: 'NotEnoughNodes',
  message: `${strategy} of ${degree} needs ${degree} nodes, ${count} could take part`,
})

/** No build is on enough nodes: those outside the largest class are the odd ones. */
function mismatches({ engine }: Cut, classes: readonly (readonly Seat[])[]): readonly Refusal[] {
  const [main = [], ...others] = [...classes].sort((a, b) => b.length - a.length)
  const version = (seat: Seat | undefined) => {
    const info = seat === undefined ? undefined : engineOf(seat.node, engine)
    return [info?.version, info?.lmVersion, info?.build].filter((v) => v !== undefined).join(' ')
  }
  return others.flat().map(({ node }) => ({
    node: node.name,
    reason: 'EngineMismatch',
    message: `${engine} ${version(others.flat().find((s) => s.node === node))} here, ${version(main[0])} on ${main.map((s) => s.node.name).join(', ')}; one group needs one build and the same files`,
  }))
}

function candidatesOf(search: Search, seats: readonly Seat[]): readonly Candidate[] {
  const roomiest = [...seats].sort(byBudget).slice(0, search.degree)
  // Layers of equal size fit on some set exactly when they fit on the roomiest one.
  if (!mayFit(search, roomiest)) return []
  return seatSets(seats, search.degree).flatMap((set) => candidatesOn(search, set))
}

function candidatesOn(search: Search, set: readonly Seat[]): readonly Candidate[] {
  if (!mayFit(search, set)) return []
  const nodes = set.map((s) => s.node)
  const transports = transportChoices(search.demand, search.engine, search.strategy, isRdmaCapable, nodes)
  return transports.flatMap((transport) => {
    if (search.strategy === 'Single') return [candidate(search, transport, set, [], undefined)]
    const ring = ringOf(nodes, transport)
    if (ring === undefined) return []
    if (search.strategy === 'Tensor') return [candidate(search, transport, set, [], ring)]
    return pipelines(search, transport, set, ring)
  })
}

/** false: certainly not. Exact but for layers of unequal size, where it answers true and the partition decides. */
function mayFit(search: Search, set: readonly Seat[]): boolean {
  if (search.strategy !== 'Pipeline') return set.every((seat) => need(search, wholeStage(search)) <= seat.budgetBytes)
  const split = search.demand.template.parallelism.split
  if (split.length > 0) return splitOrder(search, set, split) !== undefined
  if (!hasEqualLayers(search)) return true
  return greedySplit(search.demand.shape.layers, set.length, fitsOn(search, set)) !== undefined
}

function hasEqualLayers({ engine, terms }: Search): boolean {
  const { layerBytes = [], kvBytesPerTokenPerLayer = [] } = terms.input.shape
  const equal = (values: readonly number[]) => values.every((v) => v === values[0])
  return equal(layerBytes) && equal(kvBytesPerTokenPerLayer) && (engine !== 'llamacpp' || layerBytes.length === 0)
}

function pipelines(search: Search, transport: Transport, set: readonly Seat[], ring: Ring): readonly Candidate[] {
  const { split } = search.demand.template.parallelism
  if (split.length > 0) return forcedSplits(search, transport, set, split)
  const ordered = ring.order.map((node) => set.find((s) => s.node === node) as Seat)
  const counts = partitionOn(search, ordered)
  if (counts !== undefined) return [candidate(search, transport, ordered, counts, ring)]
  // Layers of unequal size may fit in another order of the same nodes only.
  if (hasEqualLayers(search) || set.length > EXACT_SPLIT_STAGES) return []
  return permutations(set).flatMap((order) => {
    const other = ringInOrder(
      order.map((s) => s.node),
      transport,
    )
    const layers = other === undefined ? undefined : partitionOn(search, order)
    return layers === undefined ? [] : [candidate(search, transport, order, layers, other)]
  })
}

function partitionOn(search: Search, order: readonly Seat[]): readonly number[] | undefined {
  return partition({
    layers: search.demand.shape.layers,
    layerSeconds: order.map((s) => s.layerSeconds),
    fits: fitsOn(search, order),
    objective: search.demand.template.parallelism.objective,
  })
}

function forcedSplits(
  search: Search,
  transport: Transport,
  set: readonly Seat[],
  split: readonly number[],
): readonly Candidate[] {
  const matched = splitOrder(search, set, split)
  const orders = set.length <= EXACT_SPLIT_STAGES ? permutations(set) : matched === undefined ? [] : [matched]
  return orders.flatMap((order) => {
    const fits = fitsOn(search, order)
    if (!stagesOf(split).every(([start, end], stage) => fits(stage, start, end))) return []
    const ring = ringInOrder(
      order.map((s) => s.node),
      transport,
    )
    return ring === undefined ? [] : [candidate(search, transport, order, split, ring)]
  })
}

/** The seats in an order that holds a forced split: the needier the stage, the roomier its node; undefined: there is none. */
function splitOrder(search: Search, set: readonly Seat[], split: readonly number[]): readonly Seat[] | undefined {
  const stages = stagesOf(split)
  const neediest = stages.map((stage, i) => ({ i, bytes: need(search, stage) })).sort((a, b) => b.bytes - a.bytes)
  const order: Seat[] = []
  for (const [rank, seat] of [...set].sort(byBudget).entries()) {
    const stage = neediest[rank]
    if (stage === undefined || stage.bytes > seat.budgetBytes) return undefined
    order[stage.i] = seat
  }
  return order
}

const need = (search: Search, stage: Stage): number =>
  memoryBytesOf(rankNeed(search.terms, search.strategy, search.degree, stage))
const wholeStage = (search: Search): Stage => [0, search.demand.shape.layers]
const fitsOn =
  (search: Search, order: readonly Seat[], extraBytes = 0) =>
  (stage: number, start: number, end: number) =>
    need(search, [start, end]) <= (order[stage]?.budgetBytes ?? 0) + extraBytes

function candidate(
  search: Search,
  transport: Transport,
  seats: readonly Seat[],
  counts: readonly number[],
  ring: Ring | undefined,
): Candidate {
  const { engine, strategy, degree, terms, demand, cost } = search
  const stages = strategy === 'Pipeline' ? stagesOf(counts) : seats.map(() => wholeStage(search))
  const needs = stages.map((stage) => rankNeed(terms, strategy, degree, stage))
  const layout = layoutOf(strategy, seats, counts, ring)
  const predicted = predict(cost, layout)
  const wish =
    demand.template.parallelism.objective === 'Latency'
      ? predicted.decodeTokensPerSecond
      : predicted.aggregateTokensPerSecond
  return {
    engine,
    strategy,
    degree,
    transport,
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

/** The set that lacks the least, of the roomiest seats of each class, and what every other seat lacks. */
function nearestRefusals(
  search: Search,
  classes: readonly (readonly Seat[])[],
): { readonly refusals: readonly Refusal[]; readonly shortBytes: number } {
  const sets = classes
    .filter((seats) => seats.length >= search.degree)
    .map((seats) => {
      const order = [...seats].sort(byBudget)
      return { set: order.slice(0, search.degree), needs: nearestNeeds(search, order.slice(0, search.degree)) }
    })
  const short = (s: (typeof sets)[number]) => Math.max(...s.set.map((seat, i) => (s.needs[i] ?? 0) - seat.budgetBytes))
  const nearest = sets.reduce((best, s) => (short(s) < short(best) ? s : best))
  if (short(nearest) <= 0) return { refusals: noLinks(search, nearest.set), shortBytes: 0 }

  const inSet = new Map(nearest.set.map((seat, i) => [seat, nearest.needs[i] ?? 0]))
  const least = Math.min(...nearest.needs)
  const seats = classes.flat().sort((a, b) => (a.node.name < b.node.name ? -1 : 1))
  const refusals = seats.flatMap((seat) => memoryRefusal(seat.node, inSet.get(seat) ?? least) ?? [])
  return { refusals, shortBytes: short(nearest) }
}

/** Needs by seat of the cut that comes nearest to fitting. */
function nearestNeeds(search: Search, set: readonly Seat[]): readonly number[] {
  if (search.strategy !== 'Pipeline') return set.map(() => need(search, wholeStage(search)))
  const { split } = search.demand.template.parallelism
  if (split.length > 0) {
    return stagesOf(split)
      .map((stage) => need(search, stage))
      .sort((a, b) => b - a)
  }
  // The least extra room on every node with which the layers would go in.
  const { layers } = search.demand.shape
  let [low, high] = [0, need(search, wholeStage(search))]
  for (let i = 0; i < 40 && high - low > 1; i += 1) {
    const extra = (low + high) / 2
    if (greedySplit(layers, set.length, fitsOn(search, set, extra)) === undefined) low = extra
    else high = extra
  }
  const counts = greedySplit(layers, set.length, fitsOn(search, set, high)) ?? []
  return stagesOf(counts).map((stage) => need(search, stage))
}

const noLinks = ({ demand }: Search, set: readonly Seat[]): readonly Refusal[] =>
  set.map(({ node }) => ({
    node: node.name,
    reason: 'NoLink',
    message: `no link for transport ${demand.template.parallelism.transport} joins ${set.map((s) => s.node.name).join(', ')}`,
  }))
