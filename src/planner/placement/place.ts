/**
 * Where does one group go? `placeGroup` is the whole decision: filter the nodes, try every cut that could be best, take
 * the best by the objective, or say per node what was missing and what would help. Pure, and the same for any order of
 * nodes.
 */
import type { Refusal } from '../../api/words.ts'
import type { Attempt } from './attempt.ts'
import type { Candidate } from './candidates.ts'
import { isKnown } from './candidates.ts'
import { choose } from './choose.ts'
import { alternativesOf } from './explain.ts'
import { nodeRefusal, presenceRefusal, refusalMessage } from './filter.ts'
import type { Search } from './hints.ts'
import { hintsToFit, hintsToRun } from './hints.ts'
import { placed } from './placed.ts'
import type { Terrain } from './terrain.ts'
import { terrainOf } from './terrain.ts'
import type { Trial } from './trial.ts'
import { TOLD_DEGREES, bestTrial, trialsOf, wholeReplicas } from './trial.ts'
import type { Alternative, Demand, NodeView, PlaceGroup, Placement } from './types.ts'
import { wishOf } from './wish.ts'

export const placeGroup: PlaceGroup = (demand, unordered, known) => {
  const nodes = inOrder(unordered)
  const terrain = known ?? terrainOf(nodes)
  const wish = wishOf(demand)
  if (wish.kind === 'Contradiction') return unplaceable(nodes, [wish.refusal], [], [], 0)

  const { excluded, absent, able, ready } = filtered(demand, nodes)
  const trials = trialsOf(demand, ready, wish, terrain)
  const choice = choose(demand, ready, wish, trials, terrain)
  if (choice !== undefined) return placed({ demand, nodes: ready, wish, trials, choice, terrain })

  // Missing files are not the reason when the model would not fit with them either.
  const withFiles = absent.length === 0 ? trials : trialsOf(demand, able, wish, terrain)
  const filesWouldHelp = absent.length > 0 && bestTrial(withFiles) !== undefined
  const attempts = (filesWouldHelp ? trials : withFiles).map((trial) => trial.made())
  const nearest = nearestOf(attempts)
  const missing = nearest?.kind === 'Refused' ? nearest.refusals() : []
  const refusals = relevant(nodes, [...excluded, ...(filesWouldHelp ? absent : []), ...missing])
  const short = refusals.some((r) => r.reason === 'InsufficientMemory')
  const hints = short ? hintsToFit(demand, nodes, search) : hintsToRun(demand, nodes, search, refusals)
  const told = attempts.filter((a) => a.degree <= TOLD_DEGREES || a === nearest || a.kind === 'Fits')
  const alternatives = alternativesOf(told, wish.strategies, undefined)
  return unplaceable(nodes, refusals, alternatives, hints, wholeReplicas(trials))
}

/** What a group gains elsewhere. Figures are the objective's tokens per second. */
export type Standing =
  /** It cannot be said. */
  | { readonly kind: 'Unknown'; readonly why: string }
  | { readonly kind: 'Best'; readonly now: number }
  /** `gain` 0.25: a quarter more. `where`: `Single 1 on mini-2`. */
  | {
      readonly kind: 'Behind'
      readonly now: number
      readonly then: number
      readonly gain: number
      readonly from: string
      readonly where: string
    }

/** How the incumbent of the demand stands among all places that it could have. */
export function standingOf(demand: Demand, unordered: readonly NodeView[]): Standing {
  const nodes = inOrder(unordered)
  const wish = wishOf(demand)
  if (wish.kind === 'Contradiction') return { kind: 'Unknown', why: wish.refusal.message }
  const terrain = terrainOf(nodes)
  const { ready } = filtered(demand, nodes)
  const choice = choose(demand, ready, wish, trialsOf(demand, ready, wish, terrain), terrain)
  const { stays } = choice ?? {}
  if (choice === undefined || stays === undefined) return { kind: 'Unknown', why: 'it would not be placed so today' }
  const best = choice.passedOver?.candidate ?? choice.best
  if (!isKnown(stays) || !isKnown(best)) return { kind: 'Unknown', why: 'a chip of it is not known' }
  if (best === stays || placeText(best) === placeText(stays)) return { kind: 'Best', now: stays.score }
  const [now, then] = [stays.score, best.score]
  return { kind: 'Behind', now, then, gain: then / now - 1, from: placeText(stays), where: placeText(best) }
}

const placeText = ({ strategy, degree, seats }: Candidate): string =>
  `${strategy} ${degree} on ${seats
    .map((seat) => seat.node.name)
    .sort()
    .join(', ')}`

/** The search alone, without words: what would be placed, undefined when nothing fits. */
function bestCandidate(demand: Demand, nodes: readonly NodeView[], known?: Terrain): Candidate | undefined {
  const best = bestTrial(trialsFor(demand, nodes, known))
  return best?.best()
}

/** Does anything fit? Much cheaper to know than what is best. */
const fitsSomehow = (demand: Demand, nodes: readonly NodeView[], known?: Terrain): boolean =>
  trialsFor(demand, nodes, known).some((trial) => trial.made().kind === 'Fits')

function trialsFor(demand: Demand, nodes: readonly NodeView[], known?: Terrain): readonly Trial[] {
  const wish = wishOf(demand)
  if (wish.kind === 'Contradiction') return []
  return trialsOf(demand, filtered(demand, nodes).ready, wish, known ?? terrainOf(nodes))
}

/** For hints. */
export const search: Search = { best: bestCandidate, fits: fitsSomehow }

function inOrder(nodes: readonly NodeView[]): readonly NodeView[] {
  for (let i = 1; i < nodes.length; i += 1)
    if ((nodes[i - 1]?.name ?? '') > (nodes[i]?.name ?? ''))
      return [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1))
  return nodes
}

function filtered(demand: Demand, nodes: readonly NodeView[]) {
  const [able, excluded] = divided(nodes, (node) => nodeRefusal(node, demand))
  const [ready, absent] = divided(able, (node) => presenceRefusal(node, demand))
  return { excluded, able, absent, ready }
}

function divided(nodes: readonly NodeView[], refusalOf: (node: NodeView) => Refusal | undefined) {
  const kept: NodeView[] = []
  const refusals: Refusal[] = []
  for (const node of nodes) {
    const refusal = refusalOf(node)
    if (refusal === undefined) kept.push(node)
    else refusals.push(refusal)
  }
  return [kept, refusals] as const
}

/** The attempt that came nearest to fitting; the first one when none failed for memory. */
function nearestOf(attempts: readonly Attempt[]): Attempt | undefined {
  let best: Attempt | undefined
  let bestShort = Infinity
  for (const a of attempts) {
    const short = a.kind === 'Fits' ? 0 : a.shortBytes()
    if (best === undefined || short < bestShort) [best, bestShort] = [a, short]
  }
  return best
}

/** One reason per node; that nodes are too few says nothing new when each of them is refused already. */
function relevant(nodes: readonly NodeView[], refusals: readonly Refusal[]): readonly Refusal[] {
  const byNode = new Map<string, Refusal>()
  for (const r of refusals) if (r.node !== '' && !byNode.has(r.node)) byNode.set(r.node, r)
  const general = refusals.filter((r) => r.node === '')
  if (nodes.length === 0) return [{ node: '', reason: 'NotEnoughNodes', message: 'there are no nodes' }]
  const allRefused = byNode.size === nodes.length
  const onNodes = nodes.flatMap((node) => byNode.get(node.name) ?? [])
  return [...onNodes, ...general.filter((r) => r.reason !== 'NotEnoughNodes' || !allRefused)]
}

function unplaceable(
  nodes: readonly NodeView[],
  refusals: readonly Refusal[],
  alternatives: readonly Alternative[],
  hints: readonly string[],
  dataReplicas: number,
): Placement {
  const message = refusalMessage(nodes.length, refusals)
  return { kind: 'Unplaceable', refusals, message, alternatives, hints, dataReplicas }
}
