/**
 * How good could a set of seats be? A look at it as if layers fitted wherever they are from, and the links that it cannot
 * do without were all it used: no real draft of the set is better. The search tries the best-looking sets first.
 */
import type { Transport } from '../../api/words.ts'
import { allReduceSeconds } from '../cost.ts'
import { mostCorrection } from '../observed.ts'
import type { Cut } from './candidates.ts'
import type { Ground } from './ground.ts'
import { linkOf } from './ground.ts'
import type { PairLink } from './links.ts'
import type { Seat } from './seats.ts'
import { setsOf } from './seats.ts'
import {
  filledSeconds,
  handedOut,
  layersSeconds,
  noCounts,
  ranksSeconds,
  scoreOf,
  slowestStage,
  splitOrder,
} from './steps.ts'

export interface Look {
  readonly set: readonly Seat[]
  readonly score: number
  readonly siblings: number
  readonly roomBytes: number
}

/** As `compareDrafts`, without the names: they decide between drafts only. Negative: `a` looks better. */
export const compareLooks = (a: Omit<Look, 'set'>, b: Omit<Look, 'set'>): number =>
  a.siblings - b.siblings || b.score - a.score || b.roomBytes - a.roomBytes

/** Sets of the list that may fit, are linked and look no worse than `best`; the best-looking first. */
export function looksOf(
  ground: Ground,
  cut: Cut,
  transport: Transport,
  list: readonly Seat[],
  best: Omit<Look, 'set'> | undefined,
): readonly Look[] {
  const wires = wiresOf(ground, cut, transport, list)
  const stepOf = stepsOf(ground, cut)
  const looks: Look[] = []
  for (const positions of setsOf(list, cut.degree, wires.even)) {
    const waits = wires.least(positions)
    if (waits === undefined) continue
    const set = positions.map((at) => list[at] as Seat)
    const step = stepOf(set, waits)
    if (step === undefined) continue
    const factor = mostCorrection(ground, cut, 1 / step.seconds)
    const score = scoreOf(ground, cut, step.seconds, step.slowest, factor)
    const look = { set, score, siblings: siblingsOf(set), roomBytes: roomOf(set) }
    if (best === undefined || compareLooks(look, best) <= 0) looks.push(look)
  }
  return looks.sort(compareLooks)
}

function siblingsOf(set: readonly Seat[]): number {
  let siblings = 0
  for (const seat of set) if (seat.sibling) siblings += 1
  return siblings
}

function roomOf(set: readonly Seat[]): number {
  let bytes = 0
  for (const seat of set) bytes += seat.budgetBytes
  return bytes
}

/** Seconds that links cost a set at least. */
interface Waits {
  /** Of all hops of a pipeline together. */
  readonly sum: number
  /** Of the slowest link. */
  readonly most: number
}

interface Wires {
  /** All pairs have equal links. */
  readonly even: boolean
  /** undefined: some seat of the set is linked to none of the others. */
  readonly least: (positions: readonly number[]) => Waits | undefined
}

function wiresOf(ground: Ground, { strategy, degree }: Cut, transport: Transport, list: readonly Seat[]): Wires {
  const size = list.length
  const link = linkOf(ground, transport)
  const costOf = (found: PairLink) =>
    strategy === 'Tensor' ? allReduceSeconds(ground.cost, degree, found) : found.hopSeconds
  const only = onlyLink(list, link)
  if (only !== undefined) {
    const most = costOf(only)
    const waits = { sum: (degree - 1) * most, most }
    return { even: true, least: () => waits }
  }
  const costs = new Float64Array(size * size).fill(Infinity)
  // Equal links are one object, and cost the same.
  const known = new Map<PairLink, number>()
  for (let i = 0; i < size; i += 1)
    for (let j = i + 1; j < size; j += 1) {
      const found = link(list[i] as Seat, list[j] as Seat)
      if (found === undefined) continue
      let cost = known.get(found)
      if (cost === undefined) known.set(found, (cost = costOf(found)))
      costs[i * size + j] = cost
      costs[j * size + i] = cost
    }
  const mesh = transport === 'Jaccl'
  return { even: false, least: (positions) => leastWaits(costs, size, positions, mesh) }
}

/** The link of every pair; undefined: pairs differ, or have none. */
function onlyLink(list: readonly Seat[], link: (a: Seat, b: Seat) => PairLink | undefined): PairLink | undefined {
  const [a, b] = list
  const first = a === undefined || b === undefined ? undefined : link(a, b)
  if (first === undefined) return undefined
  for (let i = 0; i < list.length; i += 1)
    for (let j = i + 1; j < list.length; j += 1) if (link(list[i] as Seat, list[j] as Seat) !== first) return undefined
  return first
}

/** Every seat uses its cheapest link at least, and all but one of a row of seats has a next one. */
function leastWaits(costs: Float64Array, size: number, positions: readonly number[], mesh: boolean): Waits | undefined {
  let sum = 0
  let most = 0
  let dearest = 0
  for (const from of positions) {
    let least = Infinity
    for (const to of positions) {
      if (to === from) continue
      const cost = costs[from * size + to] ?? Infinity
      if (cost < least) least = cost
      if (mesh && cost > most) most = cost
    }
    sum += least
    dearest = Math.max(dearest, least)
  }
  most = Math.max(most, dearest)
  return most === Infinity ? undefined : { sum: sum - dearest, most }
}

interface Step {
  readonly seconds: number
  /** The slowest stage of a pipeline with its hop. */
  readonly slowest: number
}

/** undefined: the set certainly does not fit. */
function stepsOf(ground: Ground, { strategy, degree }: Cut): (set: readonly Seat[], waits: Waits) => Step | undefined {
  const { split, objective } = ground.demand.template.parallelism
  if (strategy === 'Tensor')
    return (set, { most }) => ({ seconds: ranksSeconds(ground, degree, set) + most, slowest: 0 })
  if (objective === 'Latency' && split.length === 0)
    return (set, { sum }) => {
      const seconds = filledSeconds(ground, set)
      return seconds === undefined ? undefined : { seconds: seconds + sum, slowest: 0 }
    }
  const longestFirst = [...split].sort((a, b) => b - a)
  const countsOn = (set: readonly Seat[]): readonly number[] | undefined => {
    if (split.length === 0) return handedOut(ground, set)
    if (splitOrder(ground, set, split) === undefined) return undefined
    // The longest stages go best to the fastest seats.
    const byPace = [...set].sort((a, b) => a.seconds.perLayer - b.seconds.perLayer)
    return set.map((seat) => longestFirst[byPace.indexOf(seat)] ?? 0)
  }
  return (set, { sum, most }) => {
    const counts = strategy === 'Pipeline' ? countsOn(set) : noCounts
    if (counts === undefined) return undefined
    return { seconds: layersSeconds(set, counts) + sum, slowest: slowestStage(set, counts) + most }
  }
}
