/**
 * What no plan can beat: the objective's tokens per second if every link were the best of the cluster, every node could
 * stand beside every other, and layers could be handed out freely. Linear in nodes; it tells how far a search that did
 * not try every set of nodes may be from the best.
 */
import { allReduceSeconds, tensorSeconds } from '../cost.ts'
import { mostCorrection } from '../observed.ts'
import { fieldOf } from './attempt.ts'
import type { Cut } from './candidates.ts'
import { cutRefusal } from './filter.ts'
import type { Ground } from './ground.ts'
import { needBytes, wholeStage } from './ground.ts'
import type { PairLink } from './links.ts'

/** Tokens per second of objective and cut, as corrected at most by what was observed; 0: certainly nothing fits. */
export function boundOf(ground: Ground, cut: Cut): number {
  if (cutRefusal(ground.demand.shape, cut.strategy, cut.degree) !== undefined) return 0
  const bound = cut.strategy === 'Pipeline' ? pipelineBound(ground, cut.degree) : ranksBound(ground, cut)
  return Math.fround(bound * mostCorrection(ground, cut, bound))
}

function ranksBound(ground: Ground, cut: Cut): number {
  const need = needBytes(ground, cut.strategy, cut.degree, wholeStage(ground))
  let fitting = 0
  for (const { budgetBytes, seconds } of fieldOf(ground, cut).fastestFirst()) {
    if (budgetBytes >= need) fitting += 1
    // The last of the fastest ranks sets the pace.
    if (fitting < cut.degree) continue
    if (cut.strategy === 'Single') return 1 / tensorSeconds(ground.cost, 1, seconds)
    const link = bestLink(ground)
    if (link === undefined) return 0
    return 1 / (tensorSeconds(ground.cost, cut.degree, seconds) + allReduceSeconds(ground.cost, cut.degree, link))
  }
  return 0
}

function bestLink({ engine, terrain }: Ground): PairLink | undefined {
  if (engine === 'llamacpp') return terrain.bestLink('Rpc')
  const [ring, jaccl] = [terrain.bestLink('Ring'), engine === 'mlx' ? terrain.bestLink('Jaccl') : undefined]
  if (ring === undefined || jaccl === undefined) return ring ?? jaccl
  return {
    ...ring,
    allReduceSeconds: Math.min(ring.allReduceSeconds, jaccl.allReduceSeconds),
    growthPerRank: Math.min(ring.growthPerRank, jaccl.growthPerRank),
    hopSeconds: Math.min(ring.hopSeconds, jaccl.hopSeconds),
    bytesPerSecond: Math.max(ring.bytesPerSecond, jaccl.bytesPerSecond),
  }
}

function pipelineBound(ground: Ground, degree: number): number {
  const link = bestLink(ground)
  const { fillSeconds, room, paces } = reachOf(ground)
  const pace = paces[degree]
  if (link === undefined || pace === undefined || (room[degree] ?? 0) < ground.demand.shape.layers) return 0
  if (ground.demand.template.parallelism.objective === 'Latency')
    return 1 / (fillSeconds + (degree - 1) * link.hopSeconds)
  return 1 / (ground.demand.shape.layers / pace + link.hopSeconds)
}

/** What pipelines of all degrees have in common. */
export interface Reach {
  /** When the fastest nodes are filled to their caps, however many that takes. */
  readonly fillSeconds: number
  /** At p: layers that the roomiest p nodes hold. */
  readonly room: readonly number[]
  /** At p: layers per second of the fastest p nodes. */
  readonly paces: readonly number[]
}

function reachOf(ground: Ground): Reach {
  if (ground.reach.known !== undefined) return ground.reach.known
  const holding = fieldOf(ground, { strategy: 'Pipeline', degree: 0 })
    .fastestFirst()
    .filter((seat) => ground.mostLayers(seat) > 0)
  const room = [0]
  const paces = [0]
  const caps = holding.map(ground.mostLayers)
  let rest = ground.demand.shape.layers
  let fillSeconds = 0
  for (const [i, seat] of holding.entries()) {
    const taken = Math.min(rest, caps[i] ?? 0)
    fillSeconds += taken * seat.seconds.perLayer
    rest -= taken
    paces.push((paces[i] ?? 0) + 1 / seat.seconds.perLayer)
  }
  for (const cap of caps.sort((a, b) => b - a)) room.push((room.at(-1) ?? 0) + cap)
  return (ground.reach.known = { fillSeconds, room, paces })
}
