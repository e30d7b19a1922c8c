/** Nodes that could hold a rank under one engine, with what the search asks of them again and again. */
import type { Engine } from '../../api/words.ts'
import type { NodeSpeed, SeatSeconds } from '../cost.ts'
import { buildOf } from './engines.ts'
import { budgetBytes } from './filter.ts'
import type { Terrain } from './terrain.ts'
import type { Demand, NodeView } from './types.ts'

/** Up to so many nodes every subset is tried (DESIGN §7); beyond, every subset of so many of the most promising. */
export const EXACT_NODES = 8
/** Thunderbolt islands looked at on their own, largest budget first. */
const MAX_ISLANDS = 4

export interface Seat {
  readonly node: NodeView
  /** The node's number on the terrain. */
  readonly index: number
  readonly budgetBytes: number
  readonly speed: NodeSpeed
  /** What one decode step takes on it. */
  readonly seconds: SeatSeconds
  /** Holds another replica of the deployment. */
  readonly sibling: boolean
}

/** Canonical order, whatever the order of input: free of siblings, fast, roomy, by name. */
export function seatsOf(
  demand: Demand,
  secondsOn: (speed: NodeSpeed) => SeatSeconds,
  nodes: readonly NodeView[],
  terrain: Terrain,
): readonly Seat[] {
  const siblings = new Set(demand.template.placement.spread === 'None' ? [] : demand.siblingNodes)
  const seats = nodes.map((node): Seat => {
    const index = terrain.indexOf(node)
    const speed = terrain.speedOf(index)
    return {
      node,
      index,
      budgetBytes: budgetBytes(node),
      speed,
      seconds: secondsOn(speed),
      sibling: siblings.has(node.name),
    }
  })
  return seats.sort(
    (a, b) =>
      Number(a.sibling) - Number(b.sibling) ||
      a.seconds.perLayer - b.seconds.perLayer ||
      b.budgetBytes - a.budgetBytes ||
      byName(a, b),
  )
}

const byName = (a: Seat, b: Seat) => (a.node.name < b.node.name ? -1 : 1)
export const byBudget = (a: Seat, b: Seat) => b.budgetBytes - a.budgetBytes || byName(a, b)

/** Can nobody tell one from the other but by name and links? */
export const areAlike = (a: Seat, b: Seat): boolean =>
  a.speed === b.speed && a.budgetBytes === b.budgetBytes && a.sibling === b.sibling

/** Seats that may stand in one group, with the orders that a search asks for again and again. */
export interface Crowd {
  /** In canonical order. */
  readonly seats: readonly Seat[]
  readonly roomiestFirst: () => readonly Seat[]
  readonly fastestFirst: () => readonly Seat[]
  /** Those on each of the roomiest Thunderbolt islands, where these are not all of them. */
  readonly islands: () => readonly Crowd[]
}

export function crowdOf(seats: readonly Seat[], terrain: Terrain): Crowd {
  let roomiest: readonly Seat[] | undefined
  let fastest: readonly Seat[] | undefined
  let islands: readonly Crowd[] | undefined
  return {
    seats,
    roomiestFirst: () => (roomiest ??= [...seats].sort(byBudget)),
    fastestFirst: () => (fastest ??= [...seats].sort((a, b) => a.seconds.perLayer - b.seconds.perLayer)),
    islands: () => (islands ??= islandCrowds(seats, terrain)),
  }
}

function islandCrowds(seats: readonly Seat[], terrain: Terrain): readonly Crowd[] {
  const byIsland = new Map<number, Seat[]>()
  for (const seat of seats) {
    const island = terrain.islandOf(seat.index)
    if (island === -1) continue
    const known = byIsland.get(island)
    if (known === undefined) byIsland.set(island, [seat])
    else known.push(seat)
  }
  const lists = [...byIsland.values()].filter((list) => list.length > 1 && list.length < seats.length)
  const sized = lists.map((list) => ({ list, bytes: budgetSum(list) })).sort((a, b) => b.bytes - a.bytes)
  return sized.slice(0, MAX_ISLANDS).map(({ list }) => crowdOf(list, terrain))
}

/** By the same build of the engine, and, where no digest is asked for, the same files. */
export function compatible({ demand, engine, terrain }: Engaged, seats: readonly Seat[]): readonly Crowd[] {
  const classes = new Map<string, Seat[]>()
  for (const seat of seats) {
    const key = classOf(demand, engine, seat.node)
    const known = classes.get(key)
    if (known === undefined) classes.set(key, [seat])
    else known.push(seat)
  }
  return [...classes.values()].map((list) => crowdOf(list, terrain))
}

function classOf(demand: Demand, engine: Engine, node: NodeView): string {
  const build = node.engines.length === 0 ? '' : buildOf(node, engine)
  const digest = demand.digest === undefined && node.models !== undefined ? digestOf(demand, node) : ''
  return digest === '' ? build : `${build} ${digest}`
}

interface Engaged {
  readonly demand: Demand
  readonly engine: Engine
  readonly terrain: Terrain
}

const digestOf = ({ source }: Demand, node: NodeView): string =>
  node.models?.find((m) => m.source === source && m.state === 'Present')?.digest ?? ''

/**
 * Lists of seats of which all sets of `degree` are worth trying: all of them up to EXACT_NODES nodes; beyond, the most
 * promising of the whole and of each Thunderbolt island. Seats with less than `leastBytes` are left out.
 */
export function shortlistsOf(crowd: Crowd, degree: number, leastBytes: number): readonly (readonly Seat[])[] {
  // Islands first: what they come to spares looks at the whole.
  const lists = [...(crowd.seats.length > EXACT_NODES ? crowd.islands() : []), crowd]
  return lists.map((list) => shortlist(list, degree, leastBytes)).filter((list) => list.length >= degree)
}

/** The roomiest `degree` seats are always among them, so that what fits by memory alone is found; then the fastest. */
function shortlist(crowd: Crowd, degree: number, leastBytes: number): readonly Seat[] {
  const { seats } = crowd
  const fits = (seat: Seat) => seat.budgetBytes >= leastBytes
  if (seats.length <= EXACT_NODES) return seats.every(fits) ? seats : seats.filter(fits)
  const chosen = new Set(crowd.roomiestFirst().slice(0, degree).filter(fits))
  for (const seat of seats) {
    if (chosen.size >= EXACT_NODES) break
    if (fits(seat)) chosen.add(seat)
  }
  return seats.filter((seat) => chosen.has(seat))
}

const budgetSum = (seats: readonly Seat[]): number => seats.reduce((sum, s) => sum + s.budgetBytes, 0)

/**
 * Every set of `degree` of these seats, as their positions in the list. `alike`: seats that differ by name alone are
 * interchangeable (all links are equal), so of such sets the first by name stands for all.
 */
export function setsOf(seats: readonly Seat[], degree: number, alike: boolean): readonly (readonly number[])[] {
  const sets: (readonly number[])[] = []
  const set: number[] = []
  const grow = (from: number) => {
    if (set.length === degree) {
      sets.push([...set])
      return
    }
    for (let i = from; i <= seats.length - (degree - set.length); i += 1) {
      // Its twin just before it was left out: that set was made with the twin.
      if (alike && i > from && areAlike(seats[i - 1] as Seat, seats[i] as Seat)) continue
      set.push(i)
      grow(i + 1)
      set.pop()
    }
  }
  grow(0)
  return sets
}
