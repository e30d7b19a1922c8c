/**
 * Where does one group go? `placeGroup` is the whole decision: filter the nodes, attempt cuts from the fewest ranks
 * upwards, take the best of the first degree that fits (Single, else whichever of Tensor and Pipeline the objective
 * prefers), or say per node what was missing and what would help. Pure, and the same for any order of nodes.
 */
import { createHash } from 'node:crypto'
import type { Member } from '../../api/shardgroup.ts'
import type { MemoryParts, Predicted, Refusal, Stage } from '../../api/words.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Attempt } from './attempt.ts'
import { attempt } from './attempt.ts'
import type { Candidate, Cut } from './candidates.ts'
import { bestOf, isKnown } from './candidates.ts'
import { engineChoices } from './engines.ts'
import { alternativesOf, whyOf } from './explain.ts'
import { nodeRefusal, presenceRefusal, refusalMessage } from './filter.ts'
import { groundOf } from './ground.ts'
import { hintsToFit } from './hints.ts'
import type { Alternative, Demand, NodeView, PlaceGroup, Placed, Placement } from './types.ts'
import type { Wish } from './wish.ts'
import { wishOf } from './wish.ts'

/** Up to so many ranks, cuts that do not fit are told as alternatives. */
const TOLD_DEGREES = 4

export const placeGroup: PlaceGroup = (demand, unordered) => {
  const nodes = [...unordered].sort((a, b) => (a.name < b.name ? -1 : 1))
  const wish = wishOf(demand)
  if (wish.kind === 'Contradiction') return unplaceable(nodes, [wish.refusal], [], [])

  const { excluded, absent, able, ready } = filtered(demand, nodes)
  const attempts = attemptsOf(demand, ready, wish)
  const best = bestFit(attempts)
  if (best !== undefined) return placed(demand, ready, wish, attempts, best)

  // Missing files are not the reason when the model would not fit with them either.
  const withFiles = absent.length === 0 ? attempts : attemptsOf(demand, able, wish)
  const filesWouldHelp = absent.length > 0 && bestFit(withFiles) !== undefined
  const told = filesWouldHelp ? attempts : withFiles
  const refusals = relevant(nodes, [...excluded, ...(filesWouldHelp ? absent : []), ...nearest(told)])
  const short = refusals.some((r) => r.reason === 'InsufficientMemory')
  const hints = short ? hintsToFit(demand, nodes, bestCandidate) : []
  return unplaceable(nodes, refusals, alternativesOf(worthTelling(told), wish.strategies, undefined), hints)
}

/** The search alone, without words: what would be placed, undefined when nothing fits. */
export function bestCandidate(demand: Demand, nodes: readonly NodeView[]): Candidate | undefined {
  const wish = wishOf(demand)
  return wish.kind === 'Contradiction' ? undefined : bestFit(attemptsOf(demand, filtered(demand, nodes).ready, wish))
}

function filtered(demand: Demand, nodes: readonly NodeView[]) {
  const excluded = nodes.flatMap((node) => nodeRefusal(node, demand) ?? [])
  const able = without(nodes, excluded)
  const absent = able.flatMap((node) => presenceRefusal(node, demand) ?? [])
  return { excluded, able, absent, ready: without(able, absent) }
}

const without = (nodes: readonly NodeView[], refusals: readonly Refusal[]): readonly NodeView[] => {
  const refused = new Set(refusals.map((r) => r.node))
  return nodes.filter((node) => !refused.has(node.name))
}

/** From the fewest ranks upwards, ending with the first degree at which anything fits. */
function attemptsOf(demand: Demand, nodes: readonly NodeView[], wish: Wish): readonly Attempt[] {
  const attempts: Attempt[] = []
  const grounds = engineChoices(demand, nodes).map((engine) => groundOf(demand, nodes, engine))
  const maxDegree = wish.maxDegree ?? Math.max(wish.minDegree, nodes.length)
  for (let degree = wish.minDegree; degree <= maxDegree; degree += 1) {
    const strategies = wish.strategies.filter((s) => (s === 'Single') === (degree === 1))
    const made = grounds.flatMap((ground) => strategies.map((strategy) => attempt(ground, { strategy, degree })))
    attempts.push(...made)
    if (made.some((a) => a.kind === 'Fits')) break
  }
  return attempts
}

const bestFit = (attempts: readonly Attempt[]): Candidate | undefined =>
  bestOf(attempts.flatMap((a) => (a.kind === 'Fits' ? [a.best] : [])))

/** The refusals of the attempt that came nearest to fitting; of the first one when none failed for memory. */
function nearest(attempts: readonly Attempt[]): readonly Refusal[] {
  const refused = attempts.filter((a) => a.kind === 'Refused')
  const [first] = refused
  if (first === undefined) return []
  return refused.reduce((best, a) => (a.shortBytes < best.shortBytes ? a : best), first).refusals()
}

/** On many nodes the search goes through many degrees: the first few and the nearest say enough. */
function worthTelling(attempts: readonly Attempt[]): readonly Attempt[] {
  const short = (a: Attempt) => (a.kind === 'Fits' ? 0 : a.shortBytes)
  const [first] = attempts
  if (first === undefined) return []
  const nearestOne = attempts.reduce((best, a) => (short(a) < short(best) ? a : best), first)
  return attempts.filter((a) => a.degree <= TOLD_DEGREES || a === nearestOne || a.kind === 'Fits')
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
): Placement {
  return { kind: 'Unplaceable', refusals, message: refusalMessage(nodes.length, refusals), alternatives, hints }
}

function placed(
  demand: Demand,
  nodes: readonly NodeView[],
  wish: Wish,
  attempts: readonly Attempt[],
  best: Candidate,
): Placed {
  const members = membersOf(best)
  const whole = attempts.find((a) => a.degree === 1)
  const compared = [...attempts, ...comparisons(demand, nodes, attempts, best)]
  return {
    kind: 'Placed',
    strategy: best.strategy,
    engine: best.engine,
    transport: best.transport,
    members,
    planHash: hashOf(demand, best, members),
    predicted: isKnown(best) ? best.predicted : notPredicted,
    why: whyOf(demand, nodes, attempts, best),
    alternatives: alternativesOf(worthTelling(compared), wish.strategies, best),
    ...(best.degree > 1 && whole?.kind === 'Refused' ? { refusals: whole.refusals() } : {}),
  }
}

/** A speed of 0 says: not predicted (unknown chip). */
const notPredicted: Predicted = {
  decodeTokensPerSecond: 0,
  prefillTokensPerSecond: 0,
  timeToFirstTokenSeconds: 0,
  aggregateTokensPerSecond: 0,
}

/** Cuts that people ask about though nothing made the search look at them: whole, and over two or as many nodes. */
function comparisons(
  demand: Demand,
  nodes: readonly NodeView[],
  attempts: readonly Attempt[],
  best: Candidate,
): readonly Attempt[] {
  const { split, ...parallelism } = demand.template.parallelism
  const free: Demand = split.length === 0 ? demand : withParallelism(demand, { ...parallelism, split: [] })
  const ground = groundOf(free, nodes, best.engine)
  const cuts: Cut[] = [
    { strategy: 'Single', degree: 1 },
    ...[...new Set([2, Math.max(2, best.degree)])].flatMap((degree): Cut[] => [
      { strategy: 'Tensor', degree },
      { strategy: 'Pipeline', degree },
    ]),
  ]
  const isNew = (cut: Cut) => !attempts.some((a) => a.strategy === cut.strategy && a.degree === cut.degree)
  return cuts.filter((cut) => cut.degree <= nodes.length && isNew(cut)).map((cut) => attempt(ground, cut))
}

const withParallelism = (demand: Demand, parallelism: Demand['template']['parallelism']): Demand => ({
  ...demand,
  template: { ...demand.template, parallelism },
})

/** By the engine's rank: MLX gives the last stage to rank 0, the leader; the others count as we do. */
function membersOf({ engine, strategy, seats, stages, needs }: Candidate): readonly Member[] {
  const reversed = engine === 'mlx' && strategy === 'Pipeline'
  const members = seats.map((seat, position): Member => {
    const parts = needs[position] as MemoryParts
    const rank = reversed ? seats.length - 1 - position : position
    return { rank, node: seat.node.name, stage: stages[position] as Stage, memoryBytes: memoryBytesOf(parts), parts }
  })
  return members.sort((a, b) => a.rank - b.rank)
}

/** Same plan, same hash: what runs where, of which files, for which serving. Predictions are not part of it. */
function hashOf(demand: Demand, { strategy, engine, transport }: Candidate, members: readonly Member[]): string {
  const { contextTokens, concurrency } = demand.template.serving
  const ranks = members.map((m) => [m.rank, m.node, m.stage[0], m.stage[1], m.memoryBytes])
  const plan = [
    demand.source ?? '',
    demand.digest ?? '',
    contextTokens,
    concurrency,
    strategy,
    engine,
    transport,
    ranks,
  ]
  return createHash('sha256').update(JSON.stringify(plan)).digest('hex').slice(0, 16)
}
