/** Nodes that could hold a rank under one engine, with what the search asks of them again and again. */
import { findChip } from '../../api/hardware.ts'
import type { Engine } from '../../api/words.ts'
import type { CostInput, NodeSpeed } from '../cost.ts'
import { layerSeconds, nodeSpeed } from '../cost.ts'
import { buildOf } from './engines.ts'
import { budgetBytes } from './filter.ts'
import type { Demand, NodeView } from './types.ts'

/** Up to so many nodes every subset is tried (DESIGN §7); beyond, every subset of so many of the most promising. */
export const EXACT_NODES = 8
/** Thunderbolt islands looked at on their own, largest budget first. */
const MAX_ISLANDS = 16

export interface Seat {
  readonly node: NodeView
  readonly budgetBytes: number
  readonly speed: NodeSpeed
  /** Seconds per layer of one decode step. */
  readonly layerSeconds: number
  /** Holds another replica of the deployment. */
  readonly sibling: boolean
}

/** Canonical order, whatever the order of input: free of siblings, fast, roomy, by name. */
export function seatsOf(demand: Demand, input: CostInput, nodes: readonly NodeView[]): readonly Seat[] {
  const seats = nodes.map((node): Seat => {
    const speed = nodeSpeed(node.nodeInfo, node.memoryBytes)
    return {
      node,
      budgetBytes: budgetBytes(node),
      speed,
      layerSeconds: layerSeconds(input, speed),
      sibling: demand.template.placement.spread !== 'None' && demand.siblingNodes.includes(node.name),
    }
  })
  return seats.sort(
    (a, b) =>
      Number(a.sibling) - Number(b.sibling) ||
      a.layerSeconds - b.layerSeconds ||
      b.budgetBytes - a.budgetBytes ||
      byName(a, b),
  )
}

const byName = (a: Seat, b: Seat) => (a.node.name < b.node.name ? -1 : 1)
export const byBudget = (a: Seat, b: Seat) => b.budgetBytes - a.budgetBytes || byName(a, b)

export const isRdmaCapable = (node: NodeView): boolean =>
  findChip(node.nodeInfo.chip, node.nodeInfo.gpuCores, node.memoryBytes)?.rdmaCapable ?? false

/** Seats that may stand in one group: the same build of the engine, and, where no digest is asked for, the same files. */
export function compatible(demand: Demand, engine: Engine, seats: readonly Seat[]): readonly (readonly Seat[])[] {
  const classes = new Map<string, Seat[]>()
  for (const seat of seats) {
    const key = `${buildOf(seat.node, engine)} ${demand.digest === undefined ? digestOf(demand, seat.node) : ''}`
    classes.set(key, [...(classes.get(key) ?? []), seat])
  }
  return [...classes.values()]
}

const digestOf = ({ source }: Demand, node: NodeView): string =>
  node.models?.find((m) => m.source === source && m.state === 'Present')?.digest ?? ''

/** Sets of `degree` seats to try, each in canonical order: all of them up to EXACT_NODES nodes, else the promising. */
export function seatSets(seats: readonly Seat[], degree: number): readonly (readonly Seat[])[] {
  if (seats.length < degree) return []
  if (degree === 1) return seats.map((seat) => [seat])
  const sets = new Map<string, readonly Seat[]>()
  for (const list of shortlists(seats, degree))
    for (const set of subsets(list, degree)) sets.set(set.map((s) => s.node.name).join(' '), set)
  return [...sets.values()]
}

/** The roomiest `degree` seats are always among them, so that what fits by memory alone is found. */
function shortlists(seats: readonly Seat[], degree: number): readonly (readonly Seat[])[] {
  if (seats.length <= EXACT_NODES) return [seats]
  const whole = [shortlist(seats, degree)]
  if (!seats.some((s) => s.node.links.length > 0)) return whole
  const islands = islandsOf(seats).filter((island) => island.length >= degree && island.length < seats.length)
  const roomiest = islands.sort((a, b) => budgetSum(b) - budgetSum(a)).slice(0, MAX_ISLANDS)
  return [...whole, ...roomiest.map((island) => shortlist(island, degree))]
}

function shortlist(seats: readonly Seat[], degree: number): readonly Seat[] {
  const chosen = new Set([...seats].sort(byBudget).slice(0, degree))
  for (const seat of seats) if (chosen.size < EXACT_NODES) chosen.add(seat)
  return seats.filter((seat) => chosen.has(seat))
}

const budgetSum = (seats: readonly Seat[]): number => seats.reduce((sum, s) => sum + s.budgetBytes, 0)

/** Nodes joined by Thunderbolt cables: the fast islands in a larger network. */
function islandsOf(seats: readonly Seat[]): Seat[][] {
  const byNode = new Map(seats.map((s) => [s.node.name, s]))
  const neighbours = new Map<string, Set<string>>(seats.map((s) => [s.node.name, new Set<string>()]))
  for (const { node } of seats)
    for (const link of node.links)
      if (link.type.startsWith('Thunderbolt') && byNode.has(link.peer)) {
        neighbours.get(node.name)?.add(link.peer)
        neighbours.get(link.peer)?.add(node.name)
      }
  const seen = new Set<string>()
  const islands: Seat[][] = []
  for (const { node } of seats) {
    const reached = [node.name].filter((name) => !seen.has(name))
    for (const name of reached) {
      seen.add(name)
      for (const peer of neighbours.get(name) ?? []) if (!seen.has(peer) && !reached.includes(peer)) reached.push(peer)
    }
    if (reached.length > 1) islands.push(seats.filter((s) => reached.includes(s.node.name)))
  }
  return islands
}

/** Every subset of so many, each in the order of `items`. */
export function subsets<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  if (size === 0) return [[]]
  return items.flatMap((item, i) => subsets(items.slice(i + 1), size - 1).map((rest) => [item, ...rest]))
}
