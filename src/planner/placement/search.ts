/**
 * The best way to make one cut on seats that may stand in one group: which of them, in which order, over which backend,
 * with how many layers each. Sets are tried best-looking first and left as soon as no luck with links or layers could
 * bring them up to the best one found.
 */
import type { Transport } from '../../api/words.ts'
import { allReduceSeconds, tensorSeconds } from '../cost.ts'
import { correctionOf, mostCorrection } from '../observed.ts'
import type { Cut, Draft } from './candidates.ts'
import { compareDrafts, linkClassOf } from './candidates.ts'
import { transportChoices } from './engines.ts'
import type { Ground } from './ground.ts'
import { fitsOn, linkOf, needBytes, wholeStage } from './ground.ts'
import type { PairLink, Ring, RingWish } from './links.ts'
import { permutations, ringInOrder, ringOf } from './links.ts'
import { handOut, partition, stagesOf } from './partition.ts'
import type { Crowd, Seat } from './seats.ts'
import { byBudget, setsOf, shortlistsOf } from './seats.ts'
import { bestFigures } from './terrain.ts'

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

function searchWhole(ground: Ground, seats: readonly Seat[]): Draft | undefined {
  const need = needBytes(ground, 'Single', 1, wholeStage(ground))
  let best: Draft | undefined
  for (const seat of seats) {
    if (seat.budgetBytes < need) continue
    const draft = draftOf(ground, { strategy: 'Single', degree: 1 }, 'Ring', [seat], undefined, [])
    if (best === undefined || compareDrafts(draft, best) < 0) best = draft
  }
  return best
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

/** What a set could come to at best: of two, `compareLooks` tells which looks better. */
interface Look {
  readonly set: readonly Seat[]
  readonly score: number
  readonly siblings: number
  readonly roomBytes: number
}

function searchList(ground: Ground, cut: Cut, list: readonly Seat[], found: Draft | undefined): Draft | undefined {
  let best = found
  for (const transport of transportChoices(ground.demand, ground.engine, cut.strategy, list)) {
    const pairs = pairsOf(ground, transport, list)
    if (pairs.best === undefined) continue
    const looker = lookerOf(ground, cut, pairs.best)
    const looks = setsOf(list, cut.degree, pairs.even).flatMap((set) => looker(set) ?? [])
    looks.sort(compareLooks)
    for (const look of looks) {
      // Nothing comes of a set that is better than its look, and all later sets look no better.
      if (best !== undefined && compareLooks(look, best) > 0) break
      for (const draft of draftsOn(ground, cut, transport, look.set))
        if (best === undefined || compareDrafts(draft, best) < 0) best = draft
    }
  }
  return best
}

/** As `compareDrafts`, without the names: they decide between drafts only. */
const compareLooks = (a: Omit<Look, 'set'>, b: Omit<Look, 'set'>): number =>
  a.siblings - b.siblings || b.score - a.score || b.roomBytes - a.roomBytes

interface Pairs {
  /** The best figure of each kind among the links of a list; undefined: it has none. */
  readonly best: PairLink | undefined
  /** All pairs have equal links. */
  readonly even: boolean
}

function pairsOf(ground: Ground, transport: Transport, list: readonly Seat[]): Pairs {
  const link = linkOf(ground, transport)
  let best: PairLink | undefined
  let last: PairLink | undefined
  let even = true
  for (let i = 0; i < list.length; i += 1)
    for (let j = i + 1; j < list.length; j += 1) {
      // Equal links are one object.
      const found = link(list[i] as Seat, list[j] as Seat)
      if (found === undefined) even = false
      else if (found !== last) {
        even &&= best === undefined
        best = best === undefined ? found : bestFigures(best, found)
        last = found
      }
    }
  return { best, even }
}

/**
 * Looks at sets as if all their links were the best, and layers fitted wherever they are from: no real draft of a set is
 * better. undefined: it certainly does not fit.
 */
function lookerOf(ground: Ground, cut: Cut, link: PairLink): (set: readonly Seat[]) => Look | undefined {
  const { strategy, degree } = cut
  const { split } = ground.demand.template.parallelism
  const reduce = strategy === 'Tensor' ? allReduceSeconds(ground.cost, degree, link) : 0
  const hops = { sum: (degree - 1) * link.hopSeconds, most: link.hopSeconds }
  const longestFirst = [...split].sort((a, b) => b - a)
  const latency = ground.demand.template.parallelism.objective === 'Latency'
  const countsOn = (set: readonly Seat[]): readonly number[] | undefined => {
    if (split.length === 0) return handedOut(ground, set)
    if (splitOrder(ground, set, split) === undefined) return undefined
    // The longest stages go best to the fastest seats.
    const byPace = [...set].sort((a, b) => a.seconds.perLayer - b.seconds.perLayer)
    return set.map((seat) => longestFirst[byPace.indexOf(seat)] ?? 0)
  }
  const stepOf = (set: readonly Seat[]): { readonly seconds: number; readonly slowest: number } | undefined => {
    if (strategy === 'Tensor') return { seconds: ranksSeconds(ground, degree, set) + reduce, slowest: 0 }
    if (latency && split.length === 0) {
      const seconds = filledSeconds(ground, set)
      return seconds === undefined ? undefined : { seconds: seconds + hops.sum, slowest: 0 }
    }
    const counts = countsOn(set)
    if (counts === undefined) return undefined
    return { seconds: layersSeconds(set, counts) + hops.sum, slowest: slowestStage(set, counts) + hops.most }
  }
  return (set) => {
    const step = stepOf(set)
    if (step === undefined) return undefined
    let siblings = 0
    let roomBytes = 0
    for (const seat of set) {
      if (seat.sibling) siblings += 1
      roomBytes += seat.budgetBytes
    }
    const factor = mostCorrection(ground.demand.observed, cut, 1 / step.seconds)
    return { set, score: scoreOf(ground, cut, step.seconds, step.slowest, factor), siblings, roomBytes }
  }
}

/** The seconds of `handedOut` for Latency, without the counts. */
function filledSeconds(ground: Ground, set: readonly Seat[]): number | undefined {
  let rest = ground.demand.shape.layers - set.length
  if (rest < 0) return undefined
  let seconds = 0
  let pace = 0
  let sorted = true
  for (const seat of set) {
    if (ground.mostLayers(seat) < 1) return undefined
    seconds += seat.seconds.perLayer
    sorted &&= seat.seconds.perLayer >= pace
    pace = seat.seconds.perLayer
  }
  // Seats stand in order of pace but for those of siblings.
  const byPace = sorted ? set : [...set].sort((a, b) => a.seconds.perLayer - b.seconds.perLayer)
  for (const seat of byPace) {
    const taken = Math.min(rest, ground.mostLayers(seat) - 1)
    seconds += taken * seat.seconds.perLayer
    rest -= taken
  }
  return rest > 0 ? undefined : seconds
}

const noCounts: readonly number[] = []

/** Exact when layers are equal; else more than fits, perhaps. undefined: certainly nothing fits. */
function handedOut(ground: Ground, set: readonly Seat[]): readonly number[] | undefined {
  const layerSeconds = set.map((s) => s.seconds.perLayer)
  const split = { layers: ground.demand.shape.layers, layerSeconds, caps: set.map(ground.mostLayers) }
  return handOut(split, ground.demand.template.parallelism.objective)
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
  const kind = { strategy, degree, linkClass: linkClassOf(ring) }
  const { factor } = correctionOf(ground.demand.observed, kind, 1 / seconds)
  const slowest = slowestStage(seats, counts) + Math.max(0, ...(ring?.hopSeconds ?? noCounts))
  const score = scoreOf(ground, cut, seconds, slowest, factor)
  return { strategy, degree, transport, seats, counts, ring, score, siblings, roomBytes }
}

/**
 * The objective's tokens per second: of one stream, or with as many requests in flight as help (batching is taken to
 * add the same to every cut). Auto counts on no more requests than the deployment admits. `slowest`: the slowest stage
 * of a pipeline with its hop.
 */
function scoreOf(
  { demand }: Ground,
  { strategy, degree }: Cut,
  seconds: number,
  slowest: number,
  factor: number,
): number {
  const { parallelism, serving } = demand.template
  // Single precision: sums in another order compare equal.
  if (parallelism.objective === 'Latency' || strategy !== 'Pipeline') return Math.fround(factor / seconds)
  const inFlight = parallelism.strategy === 'Auto' ? serving.concurrency : degree
  if (inFlight >= degree) return Math.fround(factor / slowest)
  return Math.fround((factor * inFlight) / (seconds + (inFlight - 1) * slowest))
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

function ranksSeconds({ cost }: Ground, degree: number, seats: readonly Seat[]): number {
  let slowest = 0
  for (const { seconds } of seats) slowest = Math.max(slowest, tensorSeconds(cost, degree, seconds))
  return slowest
}

function layersSeconds(seats: readonly Seat[], counts: readonly number[]): number {
  let total = 0
  for (let i = 0; i < seats.length; i += 1) total += (counts[i] ?? 0) * (seats[i]?.seconds.perLayer ?? 0)
  return total
}

function slowestStage(seats: readonly Seat[], counts: readonly number[]): number {
  let slowest = 0
  for (let i = 0; i < seats.length; i += 1)
    slowest = Math.max(slowest, (counts[i] ?? 0) * (seats[i]?.seconds.perLayer ?? 0))
  return slowest
}
