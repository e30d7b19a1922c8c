/**
 * Which of the cuts that fit? The best by the objective; but replicas that are still to be placed keep their room, and a
 * group that stands somewhere stays there unless it would gain a fifth.
 */
import type { Fits } from './attempt.ts'
import type { Candidate, Cut } from './candidates.ts'
import { engineChoices } from './engines.ts'
import { nodeRefusal, presenceRefusal } from './filter.ts'
import { groundOf, needBytes, wholeStage } from './ground.ts'
import { stagesOf } from './partition.ts'
import type { Terrain } from './terrain.ts'
import type { Trial } from './trial.ts'
import { bestTrial, fitsOf, roomForWhole, trialOf } from './trial.ts'
import type { Demand, NodeView } from './types.ts'
import type { Wish } from './wish.ts'

/** A healthy group is moved for no less. */
export const GAIN_TO_MOVE = 1.2
/** So many later replicas are placed in thought; cuts that could be told apart only by more are equal. */
const REPLICAS_AHEAD = 15
/** So many cuts are followed, the preferred first. */
const CUTS_AHEAD = 6

export interface Choice {
  readonly best: Candidate
  /** It was kept where it stands though this one would be so much faster. */
  readonly passedOver?: { readonly candidate: Candidate; readonly gain: number }
  /** Where the group stands now, if it may stay so. */
  readonly stays?: Candidate
  /** What would come of all replicas with other cuts, by strategy and degree: where that decided. */
  readonly outlooks?: ReadonlyMap<string, Prospect>
}

/** All replicas of a deployment, placed in thought. */
export interface Prospect {
  readonly placed: number
  readonly wanted: number
  /** Replicas on the most crowded node: at work together, they share its GPU. */
  readonly share: number
}

export const cutKey = ({ strategy, degree }: Cut): string => `${strategy} ${degree}`

/** `nodes`: those that may hold a rank. undefined: nothing fits. */
export function choose(
  demand: Demand,
  nodes: readonly NodeView[],
  wish: Wish,
  trials: readonly Trial[],
  terrain: Terrain,
): Choice | undefined {
  const { first, ...outlooks } = leavingRoom(demand, nodes, trials, terrain)
  const best = first?.best()
  if (best === undefined) return undefined
  const stays = where(demand, nodes, wish, terrain)
  if (stays === undefined) return { best, ...outlooks }
  if (stays.score * GAIN_TO_MOVE <= best.score || sameNodes(stays, best)) return { best, stays, ...outlooks }
  return { best: stays, stays, passedOver: { candidate: best, gain: best.score / stays.score - 1 }, ...outlooks }
}

/** The group's present cut on its present nodes, if it may stay so. */
function where(demand: Demand, nodes: readonly NodeView[], wish: Wish, terrain: Terrain): Candidate | undefined {
  const { incumbent } = demand
  if (incumbent === undefined) return undefined
  const cut = { strategy: incumbent.strategy, degree: incumbent.nodes.length }
  const allowed =
    wish.strategies.includes(cut.strategy) && cut.degree >= wish.minDegree && cut.degree <= (wish.maxDegree ?? Infinity)
  const own = nodes.filter((node) => incumbent.nodes.includes(node.name))
  if (!allowed || own.length < cut.degree) return undefined
  return bestOfCut(demand, own, cut, terrain)?.best()
}

function bestOfCut(demand: Demand, nodes: readonly NodeView[], cut: Cut, terrain: Terrain): Fits | undefined {
  const engines = engineChoices(demand, nodes)
  return fitsOf(engines.map((engine) => trialOf(groundOf(demand, nodes, engine, terrain), cut)))[0]
}

const sameNodes = (a: Candidate, b: Candidate): boolean => {
  const names = (c: Candidate) =>
    c.seats
      .map((s) => s.node.name)
      .sort()
      .join(' ')
  return a.strategy === b.strategy && names(a) === names(b)
}

interface Outlook extends Prospect {
  readonly first: Fits
  readonly siblings: number
  /** The objective's figure of the slowest replica. */
  readonly worst: number
  readonly ranks: number
}

/** The first replica of the way to place them all that places most, shares fewest nodes, and is then the fastest. */
function leavingRoom(
  demand: Demand,
  nodes: readonly NodeView[],
  trials: readonly Trial[],
  terrain: Terrain,
): { readonly first: Fits | undefined } & Pick<Choice, 'outlooks'> {
  const ahead = Math.min(demand.replicasAfter ?? 0, REPLICAS_AHEAD)
  const preferred = bestTrial(trials)
  if (preferred === undefined || ahead === 0) return { first: preferred }
  // All replicas go in whole, and whole is best: no other cut takes fewer nodes from them.
  if (preferred.strategy === 'Single' && roomForWhole(preferred.ground) > ahead) return { first: preferred }
  const fits = fitsOf(trials)
  const whole = fits.filter((c) => c.strategy === 'Single')
  const followed = [...new Set([...fits.slice(0, CUTS_AHEAD), ...whole])]
  const outlooks = new Map<string, Outlook>()
  let best: Outlook | undefined
  for (const first of followed) {
    const outlook = lookAhead(demand, nodes, first, fits, ahead, terrain)
    outlooks.set(cutKey(first), outlook)
    if (best === undefined || compareOutlooks(outlook, best) < 0) best = outlook
    // The preferred cut is as good as it gets when all have room beside each other.
    if (best.placed === ahead + 1 && best.siblings === 0) break
  }
  return { first: best?.first, outlooks }
}

const compareOutlooks = (a: Outlook, b: Outlook): number =>
  b.placed - a.placed || a.siblings - b.siblings || b.worst - a.worst || a.ranks - b.ranks

function lookAhead(
  demand: Demand,
  nodes: readonly NodeView[],
  first: Fits,
  cuts: readonly Cut[],
  ahead: number,
  terrain: Terrain,
): Outlook {
  const { siblings, score, degree } = first.draft
  let outlook: Outlook = { first, placed: 1, wanted: ahead + 1, share: 1, siblings, worst: score, ranks: degree }
  let views = nodes
  let last = first
  const replicasOn = new Map(demand.siblingNodes.map((name) => [name, 1]))
  const settle = ({ draft }: Fits) => {
    for (const { node } of draft.seats) replicasOn.set(node.name, (replicasOn.get(node.name) ?? 0) + 1)
    return Math.max(...draft.seats.map(({ node }) => replicasOn.get(node.name) ?? 1))
  }
  outlook = { ...outlook, share: settle(first) }
  while (outlook.placed <= ahead) {
    views = bound(views, last)
    const later: Demand = { ...demand, siblingNodes: [...replicasOn.keys()] }
    const ready = views.filter((v) => nodeRefusal(v, later) === undefined && presenceRefusal(v, later) === undefined)
    const next =
      bestOfCut(later, ready, first, terrain) ?? firstOf(cuts, (cut) => bestOfCut(later, ready, cut, terrain))
    if (next === undefined) break
    outlook = {
      ...outlook,
      placed: outlook.placed + 1,
      share: Math.max(outlook.share, settle(next)),
      siblings: outlook.siblings + next.draft.siblings,
      worst: Math.min(outlook.worst, next.draft.score),
      ranks: outlook.ranks + next.degree,
    }
    last = next
  }
  return outlook
}

function firstOf<T, R>(items: readonly T[], of: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = of(item)
    if (found !== undefined) return found
  }
  return undefined
}

/** The nodes with the replica's bytes bound on them. */
function bound(nodes: readonly NodeView[], { draft, ground }: Fits): readonly NodeView[] {
  const { strategy, degree, seats, counts } = draft
  const stages = strategy === 'Pipeline' ? stagesOf(counts) : seats.map(() => wholeStage(ground))
  const bytes = new Map(
    seats.map((seat, i) => [seat.node.name, needBytes(ground, strategy, degree, stages[i] ?? wholeStage(ground))]),
  )
  return nodes.map((node) => {
    const need = bytes.get(node.name)
    return need === undefined ? node : { ...node, boundBytes: node.boundBytes + need }
  })
}
