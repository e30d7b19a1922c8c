/** The answer for a group that found its place: bindings, hash and figures; words and comparisons when they are asked for. */
import { createHash } from 'node:crypto'
import type { Member } from '../../api/shardgroup.ts'
import type { MemoryParts, Stage } from '../../api/words.ts'
import { busyShares } from '../cost.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Candidate, Cut } from './candidates.ts'
import { isKnown } from './candidates.ts'
import type { Choice } from './choose.ts'
import { alternativesOf, whyOf } from './explain.ts'
import { groundOf } from './ground.ts'
import { EXACT_NODES } from './seats.ts'
import type { Terrain } from './terrain.ts'
import type { Trial } from './trial.ts'
import { TOLD_DEGREES, trialOf, wholeReplicas } from './trial.ts'
import type { Alternative, Demand, NodeView, Placed, SearchGap } from './types.ts'
import type { Wish } from './wish.ts'

export interface Decision {
  readonly demand: Demand
  /** Those that could hold a rank. */
  readonly nodes: readonly NodeView[]
  readonly wish: Wish
  readonly trials: readonly Trial[]
  readonly choice: Choice
  readonly terrain: Terrain
}

export function placed(decision: Decision): Placed {
  const { demand, nodes, trials, choice } = decision
  const { best } = choice
  const members = membersOf(best)
  const search = gapOf(decision)
  const busy = isKnown(best) ? inRankOrder(best, busyShares(costOf(demand, best), best.layout)) : undefined
  const whole = trials.find((t) => t.degree === 1 && t.ground.engine === best.engine)
  let dataReplicas: number | undefined
  let why: readonly string[] | undefined
  let alternatives: readonly Alternative[] | undefined
  return Object.freeze({
    kind: 'Placed',
    strategy: best.strategy,
    engine: best.engine,
    transport: best.transport,
    members: Object.freeze(members),
    planHash: hashOf(demand, best, members),
    linkClass: best.linkClass,
    ...(isKnown(best) ? { predicted: best.predicted } : {}),
    ...(busy === undefined ? {} : { busyShares: busy }),
    ...(search === undefined ? {} : { search }),
    ...(best.degree > 1 ? refusalsOf(whole) : {}),
    get dataReplicas() {
      return (dataReplicas ??= wholeReplicas(trials))
    },
    get why() {
      return (why ??= whyOf(demand, nodes, whole, choice, search))
    },
    get alternatives() {
      return (alternatives ??= comparedTo(decision))
    },
  } satisfies Placed)
}

function refusalsOf(whole: Trial | undefined): Pick<Placed, 'refusals'> {
  const made = whole?.made()
  return made?.kind === 'Refused' ? { refusals: made.refusals() } : {}
}

const costOf = ({ shape, template }: Demand, { engine }: Candidate) => ({ shape, engine, ...template.serving })

/** How far from the best a search may be that did not try every set of nodes; undefined: it did. */
function gapOf({ nodes, trials, choice: { best } }: Decision): SearchGap | undefined {
  if (nodes.length <= EXACT_NODES) return undefined
  const bound = trials.reduce((most, trial) => Math.max(most, trial.bound()), 0)
  return { boundTokensPerSecond: Math.max(bound, best.score), gap: Math.max(0, bound / best.score - 1) }
}

function comparedTo(decision: Decision): readonly Alternative[] {
  const { trials, nodes, wish, choice } = decision
  const { degree } = choice.best
  const few = nodes.length <= EXACT_NODES
  // On many nodes, degrees that double say enough.
  const isTold = (d: number) => d === degree || (d <= TOLD_DEGREES && (few || d !== 3))
  const told = trials.filter((trial) => isTold(trial.degree))
  const attempts = [...told, ...comparisons(decision)].map((trial) => trial.made())
  return alternativesOf(attempts, wish.strategies, choice)
}

/** Cuts that people ask about though nothing made the search look at them: whole, and over two or as many nodes. */
function comparisons({ demand, nodes, trials, terrain, choice: { best } }: Decision): readonly Trial[] {
  const { split, ...parallelism } = demand.template.parallelism
  const same = trials.find((t) => t.ground.engine === best.engine && split.length === 0)
  const ground =
    same?.ground ?? groundOf(withParallelism(demand, { ...parallelism, split: [] }), nodes, best.engine, terrain)
  const cuts: Cut[] = [
    { strategy: 'Single', degree: 1 },
    ...[...new Set([2, Math.max(2, best.degree)])].flatMap((degree): Cut[] => [
      { strategy: 'Tensor', degree },
      { strategy: 'Pipeline', degree },
    ]),
  ]
  const isNew = (cut: Cut) => !trials.some((t) => t.strategy === cut.strategy && t.degree === cut.degree)
  return cuts.filter((cut) => cut.degree <= nodes.length && isNew(cut)).map((cut) => trialOf(ground, cut))
}

const withParallelism = (demand: Demand, parallelism: Demand['template']['parallelism']): Demand => ({
  ...demand,
  template: { ...demand.template, parallelism },
})

/** By the engine's rank: MLX gives the last stage to rank 0, the leader; the others count as we do. */
function membersOf(candidate: Candidate): readonly Member[] {
  const { seats, stages, needs } = candidate
  const members = seats.map((seat, position): Member => {
    const parts = needs[position] as MemoryParts
    const stage = stages[position] as Stage
    return { rank: 0, node: seat.node.name, stage, memoryBytes: memoryBytesOf(parts), parts }
  })
  return inRankOrder(candidate, members).map((member, rank) => ({ ...member, rank }))
}

function inRankOrder<T>({ engine, strategy }: Candidate, byPosition: readonly T[]): readonly T[] {
  return engine === 'mlx' && strategy === 'Pipeline' ? [...byPosition].reverse() : byPosition
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
