/**
 * The ground that does not change while many groups are placed on the same nodes: chips, links, islands. Made once, asked
 * by every search; what is bound on a node is not in it.
 */
import type { NodeLink } from '../../api/node.ts'
import type { ModelShape } from '../../api/model.ts'
import type { Engine, Transport } from '../../api/words.ts'
import type { NodeSpeed } from '../cost.ts'
import { nodeSpeed } from '../cost.ts'
import type { Work } from './ground.ts'
import type { PairLink } from './links.ts'
import { assumedLink, bestOfLinks, isIpv6, linkSpeed } from './links.ts'
import type { NodeView } from './types.ts'

export interface Terrain {
  /** A number for each node's name, to ask with. */
  readonly indexOf: (node: NodeView) => number
  /** Equal chips share one object. */
  readonly speedOf: (index: number) => NodeSpeed
  /** The fastest link between two nodes for a backend; undefined: none. */
  readonly linkOf: (a: number, b: number, transport: Transport) => PairLink | undefined
  /** No two nodes have a link that waits less than this one, nor one that carries more; undefined: there is none. */
  readonly bestLink: (transport: Transport) => PairLink | undefined
  /** The island of nodes joined by Thunderbolt cables that a node is on; -1: none. */
  readonly islandOf: (index: number) => number
  /** What a model served so needs and takes here, worked out by `make` the first time. */
  readonly workOf: (kind: WorkKind, make: () => Work) => Work
}

/** One model, served in one way. */
export interface WorkKind {
  readonly shape: ModelShape
  readonly engine: Engine
  readonly contextTokens: number
  readonly concurrency: number
}

export function terrainOf(nodes: readonly NodeView[]): Terrain {
  const chips = new Map<string, NodeSpeed>()
  const speeds: NodeSpeed[] = []
  const indexes = new Map(nodes.map((node, index) => [node.name, index]))
  const tables = new Map<Transport, (PairLink | null | undefined)[]>()
  const byPeer = new Map<NodeView['links'], ReadonlyMap<string, readonly NodeLink[]>>()
  const kinds = new Map<string, PairLink | undefined>()
  const best = new Map<Transport, PairLink | undefined>()
  const works = new Map<ModelShape, Map<string, Work>>()
  let islands: readonly number[] | undefined

  const interned = (node: NodeView | undefined): NodeSpeed => {
    const { nodeInfo = { chip: '' }, memoryBytes = 0 } = node ?? {}
    const key = `${nodeInfo.chip} ${nodeInfo.gpuCores ?? ''} ${nodeInfo.gpuCores === undefined ? memoryBytes : ''}`
    let speed = chips.get(key)
    if (speed === undefined) chips.set(key, (speed = nodeSpeed(nodeInfo, memoryBytes)))
    return speed
  }
  const linksTo = (from: NodeView, peer: string): readonly NodeLink[] => {
    if (from.links.length === 0) return []
    let known = byPeer.get(from.links)
    if (known === undefined) byPeer.set(from.links, (known = groupByPeer(from.links)))
    return known.get(peer) ?? []
  }
  // Links of one kind share one object.
  const speedOfLink = (link: NodeLink, transport: Transport): PairLink | undefined => {
    const kind = `${transport} ${kindOf(link)}`
    if (!kinds.has(kind)) kinds.set(kind, linkSpeed(link, transport))
    return kinds.get(kind)
  }
  const pairLink = (a: NodeView, b: NodeView, transport: Transport): PairLink | undefined => {
    const reported = [...linksTo(a, b.name), ...linksTo(b, a.name)]
    const usable = bestOfLinks(reported.flatMap((link) => speedOfLink(link, transport) ?? []))
    if (usable !== undefined) return usable
    const silent = reported.length === 0 && (a.links.length === 0 || b.links.length === 0)
    if (!silent || transport === 'Jaccl') return undefined
    if (!kinds.has(transport)) kinds.set(transport, assumedLink(transport))
    return kinds.get(transport)
  }

  return {
    speedOf: (index) => (speeds[index] ??= interned(nodes[index])),
    indexOf: (node) => {
      const index = indexes.get(node.name)
      if (index === undefined) throw new Error(`bug: ${node.name} is not on this terrain`)
      return index
    },
    linkOf: (a, b, transport) => {
      let table = tables.get(transport)
      if (table === undefined) tables.set(transport, (table = []))
      const at = Math.min(a, b) * nodes.length + Math.max(a, b)
      const known = table[at]
      if (known !== undefined) return known ?? undefined
      const [from, to] = [nodes[a], nodes[b]]
      const link = from === undefined || to === undefined ? undefined : pairLink(from, to, transport)
      table[at] = link ?? null
      return link
    },
    bestLink: (transport) => {
      if (!best.has(transport)) best.set(transport, bestOf(nodes, indexes, transport))
      return best.get(transport)
    },
    islandOf: (index) => (islands ??= islandsOf(nodes, indexes))[index] ?? -1,
    workOf: ({ shape, engine, contextTokens, concurrency }, make) => {
      let known = works.get(shape)
      if (known === undefined) works.set(shape, (known = new Map()))
      const key = `${engine} ${contextTokens} ${concurrency}`
      let work = known.get(key)
      if (work === undefined) known.set(key, (work = make()))
      return work
    },
  }
}

function groupByPeer(links: readonly NodeLink[]): ReadonlyMap<string, readonly NodeLink[]> {
  const groups = new Map<string, NodeLink[]>()
  for (const link of links) {
    const group = groups.get(link.peer)
    if (group === undefined) groups.set(link.peer, [link])
    else group.push(link)
  }
  return groups
}

/** The best figure of each kind over all links: no real link need have all of them. */
function bestOf(
  nodes: readonly NodeView[],
  known: ReadonlyMap<string, number>,
  transport: Transport,
): PairLink | undefined {
  const silent = nodes.some((node) => node.links.length === 0) && transport !== 'Jaccl'
  let best: PairLink | undefined = silent ? assumedLink(transport) : undefined
  const seen = new Set<string>()
  for (const node of nodes)
    for (const link of node.links) {
      if (!known.has(link.peer)) continue
      // Most links of a cluster are of a few kinds.
      const kind = kindOf(link)
      if (seen.has(kind)) continue
      seen.add(kind)
      const speed = linkSpeed(link, transport)
      if (speed !== undefined) best = best === undefined ? speed : bestFigures(best, speed)
    }
  return best
}

const kindOf = (link: NodeLink): string =>
  `${link.type} ${link.transport} ${link.allReduceMicros ?? ''} ${link.hopMicros ?? ''} ${link.bandwidthGBps ?? ''} ${link.latencyMicros ?? ''} ${link.failure === undefined ? '' : 'failed'} ${isIpv6(link) ? 'v6' : ''}`

export const bestFigures = (a: PairLink, b: PairLink): PairLink => ({
  ...a,
  allReduceSeconds: Math.min(a.allReduceSeconds, b.allReduceSeconds),
  growthPerRank: Math.min(a.growthPerRank, b.growthPerRank),
  bytesPerSecond: Math.max(a.bytesPerSecond, b.bytesPerSecond),
  hopSeconds: Math.min(a.hopSeconds, b.hopSeconds),
})

function islandsOf(nodes: readonly NodeView[], indexes: ReadonlyMap<string, number>): readonly number[] {
  const neighbours = nodes.map((): number[] => [])
  for (const [from, { links }] of nodes.entries())
    for (const { type, peer, failure } of links) {
      const to = type.startsWith('Thunderbolt') && failure === undefined ? indexes.get(peer) : undefined
      if (to === undefined) continue
      neighbours[from]?.push(to)
      neighbours[to]?.push(from)
    }
  const islands = nodes.map(() => -1)
  for (const start of nodes.keys()) {
    if (islands[start] !== -1 || neighbours[start]?.length === 0) continue
    // A set that grows while it is walked: the breadth-first reach of the node.
    const reached = new Set([start])
    for (const at of reached) for (const peer of neighbours[at] ?? []) reached.add(peer)
    for (const at of reached) islands[at] = start
  }
  return islands
}
