/**
 * The best way to make one cut on seats that may stand in one group: which of them, in which order, over which backend,
 * with how many layers each. Sets are tried best-looking first and left as soon as no luck with links or layers could
 * bring them up to the best one found.
 */
import type { Transport } from '../../api/words.ts'
import { allReduceSeconds } from '../cost.ts'
import { correctionOf } from '../observed.ts'
import type { Cut, Draft } from './candidates.ts'
import { compareDrafts, linkClassOf } from './candidates.ts'
import { transportChoices } from './engines.ts'
import type { Ground } from './ground.ts'
import { fitsOn, linkOf, needBytes, wholeStage } from './ground.ts'
import type { Ring, RingWish } from './links.ts'
import { permutations, ringInOrder, ringOf } from './links.ts'
import { compareLooks, looksOf } from './looks.ts'
import { partition, stagesOf } from './partition.ts'
import type { Crowd, Seat } from './seats.ts'
import { byBudget, shortlistsOf } from './seats.ts'
import { handedOut, layersSeconds, noCounts, ranksSeconds, scoreOf, slowestStage, splitOrder } from './steps.ts'

/** Up to so many stages, every order of the nodes is tried where the order matters for what fits. */
const EXACT_ORDER_STAGES = 5

/** undefined: nothing fits, or no links. */
export function searchCut(ground: Ground, cut: Cut, crowd: Crowd): Draft | undefined {
  const { degree, strategy } = cut
  if (crowd.seats.length < degree || !mayFit(ground, cut, crowd.roomiestFirst().slice(0, degree))) return undefined
  if (strategy === 'Single') return searchWhole(ground, crowd.seats)
  const leastBytes = strategy === 'Tensor' ? needBytes(ground, strategy, degree, wholeStage(ground)) : 0
  let best: Draft | undefined
  for (const list of shortlistsOf(crowd, degree, leastBytes)) best = searchList(ground, cut, list, best)
  return best
}

/** Canonical order is that of drafts on one seat: the first that fits is the best. */
function searchWhole(ground: Ground, seats: readonly Seat[]): Draft | undefined {
  const need = needBytes(ground, 'Single', 1, wholeStage(ground))
  const seat = seats.find((s) => s.budgetBytes >= need)
  return seat && draftOf(ground, { strategy: 'Single', degree: 1 }, 'Ring', [seat], undefined, noCounts)
}

/** false: certainly not. Exact but for layers of unequal size, where it answers true and the partition decides. */
export function mayFit(ground: Ground, cut: Cut, set: readonly Seat[]): boolean {
  if (cut.strategy !== 'Pipeline') {
    const bytes = needBytes(ground, cut.strategy, cut.degree, wholeStage(ground))
    return set.every((seat) => bytes <= seat.budgetBytes)
  }
  const { split } = ground.demand.template.parallelism
  if (split.length > 0) return splitOrder(ground, set, split) !== undefined
  let room = 0
  for (const seat of set) {
    const cap = ground.mostLayers(seat)
    if (cap < 1) return false
    room += cap
  }
  return room >= ground.demand.shape.layers
}

function searchList(ground: Ground, cut: Cut, list: readonly Seat[], found: Draft | undefined): Draft | undefined {
  let best = found
  for (const transport of transportChoices(ground.demand, ground.engine, cut.strategy, list))
    for (const look of looksOf(ground, cut, transport, list, best)) {
      // Nothing comes of a set that is better than its look, and all later sets look no better.
      if (best !== undefined && compareLooks(look, best) > 0) break
      for (const draft of draftsOn(ground, cut, transport, look.set))
        if (best === undefined || compareDrafts(draft, best) < 0) best = draft
    }
  return best
}

function draftsOn(ground: Ground, cut: Cut, transport: Transport, set: readonly Seat[]): readonly Draft[] {
  const wish = ringWish(ground, cut, transport)
  if (cut.strategy === 'Pipeline') {
    const { split } = ground.demand.template.parallelism
    if (split.length > 0) return forcedSplits(ground, cut, transport, set, split)
  }
  const ring = ringOf(set, wish)
  if (ring === undefined) return []
  if (cut.strategy === 'Tensor') return [draftOf(ground, cut, transport, ring.order, ring, [])]
  const counts = ground.equalLayers ? handedOut(ground, ring.order) : undefined
  if (counts !== undefined && holds(ground, ring.order, counts))
    return [draftOf(ground, cut, transport, ring.order, ring, counts)]
  return partitioned(ground, cut, transport, ring, wish)
}

const holds = (ground: Ground, order: readonly Seat[], counts: readonly number[]): boolean => {
  const fits = fitsOn(ground, order)
  return stagesOf(counts).every(([start, end], stage) => fits(stage, start, end))
}

/** What makes one order of ranks better than another. */
function ringWish(ground: Ground, { strategy, degree }: Cut, transport: Transport): RingWish<Seat> {
  const tensor = strategy === 'Tensor'
  return {
    link: linkOf(ground, transport),
    mesh: transport === 'Jaccl',
    costOf: tensor ? (link) => allReduceSeconds(ground.cost, degree, link) : (link) => link.hopSeconds,
    adds: !tensor && ground.demand.template.parallelism.objective === 'Latency',
    closed: tensor,
  }
}

function partitioned(
  ground: Ground,
  cut: Cut,
  transport: Transport,
  ring: Ring<Seat>,
  wish: RingWish<Seat>,
): readonly Draft[] {
  const counts = partitionOn(ground, ring.order)
  if (counts !== undefined) return [draftOf(ground, cut, transport, ring.order, ring, counts)]
  if (ground.equalLayers) return []
  // Layers of unequal size may fit in another order of the same nodes only.
  return ordersOf(ring.order).flatMap((order) => {
    const layers = partitionOn(ground, order)
    const other = layers === undefined ? undefined : ringInOrder(order, wish)
    return layers === undefined || other === undefined ? [] : [draftOf(ground, cut, transport, order, other, layers)]
  })
}

function ordersOf(set: readonly Seat[]): readonly (readonly Seat[])[] {
  if (set.length <= EXACT_ORDER_STAGES) return permutations([...set].sort(byBudget))
  const roomiestFirst = [...set].sort(byBudget)
  return [roomiestFirst, [...roomiestFirst].reverse()]
}

function partitionOn(ground: Ground, order: readonly Seat[]): readonly number[] | undefined {
  return partition({
    layers: ground.demand.shape.layers,
    layerSeconds: order.map((s) => s.seconds.perLayer),
    fits: fitsOn(ground, order),
    objective: ground.demand.template.parallelism.objective,
  })
}

function forcedSplits(
  ground: Ground,
  cut: Cut,
  transport: Transport,
  set: readonly Seat[],
  split: readonly number[],
): readonly Draft[] {
  const matched = splitOrder(ground, set, split)
  const orders = set.length <= EXACT_ORDER_STAGES ? permutations(set) : matched === undefined ? [] : [matched]
  const wish = ringWish(ground, cut, transport)
  return orders.flatMap((order) => {
    if (!holds(ground, order, split)) return []
    const ring = ringInOrder(order, wish)
    return ring === undefined ? [] : [draftOf(ground, cut, transport, order, ring, split)]
  })
}

function draftOf(
  ground: Ground,
  { strategy, degree }: Cut,
  transport: Transport,
  seats: readonly Seat[],
  ring: Ring<Seat> | undefined,
  counts: readonly number[],
): Draft {
  let siblings = 0
  let roomBytes = 0
  for (const seat of seats) {
    if (seat.sibling) siblings += 1
    roomBytes += seat.budgetBytes
  }
  const cut = { strategy, degree }
  const seconds = stepSeconds(ground, cut, seats, ring, counts)
  const kind = { strategy, degree, engine: ground.engine, linkClass: linkClassOf(ring) }
  const { factor } = correctionOf(ground.demand.observed, kind, 1 / seconds)
  const slowest = slowestStage(seats, counts) + Math.max(0, ...(ring?.hopSeconds ?? noCounts))
  const score = scoreOf(ground, cut, seconds, slowest, factor)
  return { strategy, degree, transport, seats, counts, ring, score, siblings, roomBytes }
}

/** One decode step of one request, uncorrected: `decodeSeconds` of cost.ts from terms that are at hand. */
function stepSeconds(
  ground: Ground,
  { strategy, degree }: Cut,
  seats: readonly Seat[],
  ring: Ring<Seat> | undefined,
  counts: readonly number[],
): number {
  if (ring === undefined) return ranksSeconds(ground, 1, seats)
  if (strategy === 'Tensor')
    return ranksSeconds(ground, degree, seats) + allReduceSeconds(ground.cost, degree, ring.link)
  return ring.hopSeconds.reduce((sum, hop) => sum + hop, layersSeconds(seats, counts))
}
