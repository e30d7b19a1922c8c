/**
 * What ranks talk over. A measured figure of a link wins over the class of its type. Nodes that report no link at all
 * are taken to share 1 GbE, marked assumed; two nodes that report links, but none between them, have none.
 */
import { LLAMACPP_RPC_HOP_MICROS, allReduceGrowthPerRank, findLinkClass } from '../../api/hardware.ts'
import type { LinkClass } from '../../api/hardware.ts'
import type { NodeLink } from '../../api/node.ts'
import type { Transport } from '../../api/words.ts'
import type { LinkSpeed } from '../cost.ts'
import type { NodeView } from './types.ts'

const MICRO = 1e-6
/** Up to so many ranks every order of them is tried; beyond, each goes on to its nearest neighbour. */
const EXACT_ORDER_RANKS = 6

export interface PairLink extends LinkSpeed {
  readonly hopSeconds: number
  readonly className: string
  readonly assumed: boolean
}

/** Ranks in an order in which each reaches the next, with what that costs. */
export interface Ring {
  readonly order: readonly NodeView[]
  /** From each to the next; the way back from the last to the first must exist and carries no activations. */
  readonly hopSeconds: readonly number[]
  /** The slowest link in use: it sets the pace of all-reduces. */
  readonly link: LinkSpeed
  readonly linkNames: readonly string[]
  readonly assumed: boolean
}

/** The fastest link between two nodes for a backend; undefined: none. */
export function pairLink(a: NodeView, b: NodeView, transport: Transport): PairLink | undefined {
  const reported = [
    ...a.links.filter((link) => link.peer === b.name),
    ...b.links.filter((link) => link.peer === a.name),
  ]
  const usable = reported.flatMap((link) => linkSpeed(link, transport) ?? [])
  if (usable.length > 0) return usable.reduce((best, link) => (slowness(link) < slowness(best) ? link : best))
  const silent = reported.length === 0 && (a.links.length === 0 || b.links.length === 0)
  if (!silent || transport === 'Jaccl') return undefined
  return fromClass(findLinkClass('Ethernet1G', 'TCP'), {}, transport, true)
}

const slowness = (link: PairLink) => link.allReduceSeconds + link.hopSeconds + 1 / link.bytesPerSecond

function linkSpeed(link: NodeLink, transport: Transport): PairLink | undefined {
  const wanted = transport === 'Jaccl' ? 'RDMA' : 'TCP'
  if (wanted === 'RDMA' && link.transport !== 'RDMA') return undefined
  // TCP runs over a cable that was measured with RDMA, too, but not at the measured speed.
  const measured = link.transport === wanted ? link : {}
  return fromClass(findLinkClass(link.type, wanted), measured, transport, false)
}

function fromClass(
  link: LinkClass,
  measured: Partial<Pick<NodeLink, 'allReduceMicros' | 'hopMicros' | 'bandwidthGBps'>>,
  transport: Transport,
  assumed: boolean,
): PairLink {
  const hopMicros =
    measured.hopMicros ?? (transport === 'Rpc' ? Math.max(LLAMACPP_RPC_HOP_MICROS, link.hopMicros) : link.hopMicros)
  return {
    allReduceSeconds: (measured.allReduceMicros ?? link.allReduceMicros) * MICRO,
    growthPerRank:
      measured.allReduceMicros === undefined
        ? link.allReduceGrowthPerRank
        : allReduceGrowthPerRank(link.transport, measured.allReduceMicros),
    bytesPerSecond: (measured.bandwidthGBps ?? link.bandwidthGBps) * 1e9,
    hopSeconds: hopMicros * MICRO,
    className: link.class,
    assumed,
  }
}

export type LinkBetween = (a: NodeView, b: NodeView) => PairLink | undefined

/**
 * The cheapest order of the nodes for a pipeline, which is also a ring for all-reduces; undefined: some node cannot be
 * reached. Jaccl needs a full mesh. Deterministic when `nodes` come in a fixed order.
 */
export function ringOf(nodes: readonly NodeView[], transport: Transport, link: LinkBetween): Ring | undefined {
  const pairs = nodes.flatMap((a, i) => nodes.slice(i + 1).map((b) => link(a, b)))
  const even = pairs.every((p) => p !== undefined && p.hopSeconds === pairs[0]?.hopSeconds)
  const order = even ? nodes : cheapestOrder(nodes, (a, b) => link(a, b)?.hopSeconds ?? Infinity)
  return order === undefined ? undefined : ringInOrder(order, transport, link)
}

/** The ring of nodes in exactly this order; undefined: two that must talk have no link. */
export function ringInOrder(order: readonly NodeView[], transport: Transport, link: LinkBetween): Ring | undefined {
  const steps = order.slice(1).map((node, i) => link(order[i] as NodeView, node))
  const back = order.length > 2 ? [link(order.at(-1) as NodeView, order[0] as NodeView)] : []
  const mesh = () => order.flatMap((a, i) => order.slice(i + 1).map((b) => link(a, b)))
  const used = transport === 'Jaccl' ? mesh() : [...steps, ...back]
  const all = used.filter((l) => l !== undefined)
  if (all.length === 0 || all.length < used.length) return undefined
  return {
    order,
    hopSeconds: steps.map((l) => l?.hopSeconds ?? 0),
    link: {
      allReduceSeconds: Math.max(...all.map((l) => l.allReduceSeconds)),
      growthPerRank: Math.max(...all.map((l) => l.growthPerRank)),
      bytesPerSecond: Math.min(...all.map((l) => l.bytesPerSecond)),
    },
    linkNames: [...new Set(all.map((l) => l.className))].sort(),
    assumed: all.some((l) => l.assumed),
  }
}

/** The order with the smallest sum of hops whose ends are linked, too: exact up to six ranks, else nearest neighbour. */
function cheapestOrder(
  nodes: readonly NodeView[],
  hop: (a: NodeView, b: NodeView) => number,
): readonly NodeView[] | undefined {
  const starts =
    nodes.length <= EXACT_ORDER_RANKS ? permutations(nodes) : nodes.map((start) => byNearest(start, nodes, hop))
  let best: readonly NodeView[] | undefined
  let bestCost = Infinity
  for (const order of starts) {
    const [first, last] = [order[0] as NodeView, order.at(-1) as NodeView]
    if (order.length > 2 && hop(last, first) === Infinity) continue
    const cost = order.slice(1).reduce((sum, node, i) => sum + hop(order[i] as NodeView, node), 0)
    if (cost < bestCost) [best, bestCost] = [order, cost]
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

function byNearest(
  start: NodeView,
  nodes: readonly NodeView[],
  hop: (a: NodeView, b: NodeView) => number,
): readonly NodeView[] {
  const order = [start]
  const rest = new Set(nodes.filter((n) => n !== start))
  while (rest.size > 0) {
    const last = order.at(-1) as NodeView
    const next = [...rest].reduce((best, n) => (hop(last, n) < hop(last, best) ? n : best))
    order.push(next)
    rest.delete(next)
  }
  return order
}
