/**
 * What ranks talk over. A measured figure of a link wins over the class of its type. Nodes that report no link at all
 * are taken to share 1 GbE, marked assumed; two nodes that report links, but none between them, have none.
 */
import { LLAMACPP_RPC_HOP_MICROS, allReduceGrowthPerRank, findLinkClass } from '../../api/hardware.ts'
import type { LinkClass } from '../../api/hardware.ts'
import type { NodeLink } from '../../api/node.ts'
import type { Transport } from '../../api/words.ts'
import type { LinkSpeed } from '../cost.ts'

const MICRO = 1e-6

export type LinkBasis = 'Measured' | 'Typical' | 'Inferred' | 'Assumed'

export interface PairLink extends LinkSpeed {
  readonly hopSeconds: number
  readonly className: string
  readonly basis: LinkBasis
}

/** Ranks in an order in which each reaches the next, with what that costs. */
export interface Ring<Rank> {
  readonly order: readonly Rank[]
  /** From each to the next; the way back from the last to the first must exist and carries no activations. */
  readonly hopSeconds: readonly number[]
  /** The slowest link in use: it sets the pace of all-reduces. */
  readonly link: PairLink
  readonly linkNames: readonly string[]
}

/** The link that waits least; undefined: there is none. */
export const bestOfLinks = (links: readonly PairLink[]): PairLink | undefined =>
  links.length === 0 ? undefined : links.reduce((best, link) => (slowness(link) < slowness(best) ? link : best))

/** What a step of a megabyte waits: a fast cable that was measured slow is no fast cable. */
export const slowness = (link: PairLink): number => link.allReduceSeconds + link.hopSeconds + 1e6 / link.bytesPerSecond

/** undefined: the link does not carry this backend, or was found not to carry anything. */
export function linkSpeed(link: NodeLink, transport: Transport): PairLink | undefined {
  if (link.failure !== undefined || (transport !== 'Rpc' && isIpv6(link))) return undefined
  const wanted = transport === 'Jaccl' ? 'RDMA' : 'TCP'
  if (wanted === 'RDMA' && link.transport !== 'RDMA') return undefined
  // TCP runs over a cable that was measured with RDMA, too, but not at the measured speed.
  const measured = link.transport === wanted ? link : {}
  return fromClass(findLinkClass(link.type, wanted), measured, transport)
}

/** MLX's ring and JACCL read IPv4 addresses alone (seen: `Can't parse address [::1]:…`); our tunnel of Rpc takes both. */
export const isIpv6 = ({ address, peerAddress }: NodeLink): boolean =>
  [address, peerAddress].some((end) => end?.includes(':') === true)

export const assumedLink = (transport: Transport): PairLink => ({
  ...fromClass(findLinkClass('Ethernet1G', 'TCP'), {}, transport),
  basis: 'Assumed',
})

function fromClass(
  link: LinkClass,
  measured: Partial<Pick<NodeLink, 'allReduceMicros' | 'hopMicros' | 'bandwidthGBps' | 'latencyMicros'>>,
  transport: Transport,
): PairLink {
  // No engine is quicker than the wire: a hop is one way, an all-reduce there and back.
  const { latencyMicros = 0 } = measured
  const typicalHopMicros = transport === 'Rpc' ? Math.max(LLAMACPP_RPC_HOP_MICROS, link.hopMicros) : link.hopMicros
  const hopMicros = measured.hopMicros ?? Math.max(typicalHopMicros, latencyMicros / 2)
  const isMeasured = measured.allReduceMicros !== undefined || measured.hopMicros !== undefined
  return {
    allReduceSeconds: (measured.allReduceMicros ?? Math.max(link.allReduceMicros, latencyMicros)) * MICRO,
    growthPerRank:
      measured.allReduceMicros === undefined
        ? link.allReduceGrowthPerRank
        : allReduceGrowthPerRank(link.transport, measured.allReduceMicros),
    bytesPerSecond: (measured.bandwidthGBps ?? link.bandwidthGBps) * 1e9,
    hopSeconds: hopMicros * MICRO,
    className: link.class,
    basis: isMeasured ? 'Measured' : link.basis === 'measured' ? 'Typical' : 'Inferred',
  }
}

/** What an order of ranks is chosen by. */
export interface RingWish<Rank> {
  readonly link: (a: Rank, b: Rank) => PairLink | undefined
  /** Every rank must reach every other one (Jaccl), not only the next. */
  readonly mesh: boolean
  /** Seconds that a link in use costs. */
  readonly costOf: (link: PairLink) => number
  /** Costs add up (a token passes one hop after the other), or the largest sets the pace. */
  readonly adds: boolean
  /** The way back from the last rank to the first is used like any other, too. */
  readonly closed: boolean
}

/** Up to so many ranks the cheapest order is exact; beyond, each goes on to its nearest neighbour. */
export const EXACT_ORDER_RANKS = 8
/** Beyond, so many starts are tried. */
const STARTS = 8

/**
 * The cheapest order of the ranks, whose ends are linked, too; undefined: some rank cannot be reached. Deterministic
 * when `ranks` come in a fixed order: of equally cheap ones the first.
 */
export function ringOf<Rank>(ranks: readonly Rank[], wish: RingWish<Rank>): Ring<Rank> | undefined {
  const { link, costOf } = wish
  const pairs = ranks.flatMap((a, i) => ranks.slice(i + 1).map((b) => link(a, b)))
  if (wish.mesh && pairs.includes(undefined)) return undefined
  const [first] = pairs
  const even = first !== undefined && pairs.every((p) => p !== undefined && costOf(p) === costOf(first))
  return even ? ringInOrder(ranks, wish) : ringOfCosts(ranks, wish)
}

function ringOfCosts<Rank>(ranks: readonly Rank[], wish: RingWish<Rank>): Ring<Rank> | undefined {
  const size = ranks.length
  const costs = new Float64Array(size * size).fill(Infinity)
  for (const [i, a] of ranks.entries())
    for (const [j, b] of ranks.entries()) {
      const link = i === j ? undefined : wish.link(a, b)
      if (link !== undefined) costs[i * size + j] = wish.costOf(link)
    }
  const order = size <= EXACT_ORDER_RANKS ? exactOrder(size, costs, wish) : nearestOrder(size, costs, wish)
  return order === undefined
    ? undefined
    : ringInOrder(
        order.map((i) => ranks[i] as Rank),
        wish,
      )
}

/** The ring of ranks in exactly this order; undefined: two that must talk have no link. */
export function ringInOrder<Rank>(order: readonly Rank[], wish: RingWish<Rank>): Ring<Rank> | undefined {
  const { link, costOf, mesh } = wish
  const steps = order.slice(1).map((rank, i) => link(order[i] as Rank, rank))
  const back = order.length > 2 ? [link(order.at(-1) as Rank, order[0] as Rank)] : []
  const used = mesh ? order.flatMap((a, i) => order.slice(i + 1).map((b) => link(a, b))) : [...steps, ...back]
  const all = used.filter((l) => l !== undefined)
  const [first] = all
  if (first === undefined || all.length < used.length) return undefined
  return {
    order,
    hopSeconds: steps.map((l) => l?.hopSeconds ?? 0),
    link: all.reduce((slowest, l) => (costOf(l) > costOf(slowest) ? l : slowest), first),
    linkNames: [...new Set(all.map((l) => l.className))].sort(),
  }
}

type Costs = Float64Array
type CostWish = Pick<RingWish<unknown>, 'adds' | 'closed'>

const cost = (costs: Costs, size: number, from: number, to: number): number => costs[from * size + to] ?? Infinity
const together = ({ adds }: CostWish, sofar: number, next: number): number =>
  adds ? sofar + next : Math.max(sofar, next)

/** Depth-first over all orders, given up as soon as one is no cheaper than the best so far. */
function exactOrder(size: number, costs: Costs, wish: CostWish): readonly number[] | undefined {
  let best: readonly number[] | undefined
  let bestCost = Infinity
  const order: number[] = []
  const used = new Array<boolean>(size).fill(false)
  const extend = (sofar: number) => {
    if (sofar >= bestCost) return
    const last = order.at(-1)
    if (order.length === size) {
      const total = closedCost(order, costs, size, wish, sofar)
      if (total < bestCost) [best, bestCost] = [[...order], total]
      return
    }
    for (let next = 0; next < size; next += 1) {
      if (used[next] === true) continue
      const grown = last === undefined ? 0 : together(wish, sofar, cost(costs, size, last, next))
      used[next] = true
      order.push(next)
      extend(grown)
      order.pop()
      used[next] = false
      // A closed ring may start anywhere.
      if (last === undefined && wish.closed) break
    }
  }
  extend(0)
  return best
}

/** Infinity when the ends have no link. */
function closedCost(order: readonly number[], costs: Costs, size: number, wish: CostWish, open: number): number {
  const back = cost(costs, size, order.at(-1) ?? 0, order[0] ?? 0)
  if (size <= 2) return open
  if (back === Infinity) return Infinity
  return wish.closed ? together(wish, open, back) : open
}

function nearestOrder(size: number, costs: Costs, wish: CostWish): readonly number[] | undefined {
  let best: readonly number[] | undefined
  let bestCost = Infinity
  for (let start = 0; start < Math.min(STARTS, size); start += 1) {
    const order = [start]
    const rest = new Set(Array.from({ length: size }, (_, i) => i))
    rest.delete(start)
    let open = 0
    for (let last = start; rest.size > 0;) {
      let next = -1
      for (const i of rest) if (next < 0 || cost(costs, size, last, i) < cost(costs, size, last, next)) next = i
      open = together(wish, open, cost(costs, size, last, next))
      order.push(next)
      rest.delete(next)
      last = next
    }
    const total = closedCost(order, costs, size, wish, open)
    if (total < bestCost) [best, bestCost] = [order, total]
  }
  return best
}

/** Every order, in a fixed order. */
export function permutations<T>(items: readonly T[]): readonly (readonly T[])[] {
  if (items.length <= 1) return [items]
  return items.flatMap((item, i) => {
    const others = [...items.slice(0, i), ...items.slice(i + 1)]
    return permutations(others).map((rest) => [item, ...rest])
  })
}
