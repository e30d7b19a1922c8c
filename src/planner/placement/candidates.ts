/** Whole candidates: nodes, transport, layers per stage, need per rank and predicted speed; and which of two is better. */
import type { Engine, GroupStrategy, MemoryParts, Predicted, Stage, Transport } from '../../api/words.ts'
import type { Layout } from '../cost.ts'
import { predict } from '../cost.ts'
import { rankNeed } from '../memory.ts'
import { NO_LINK, correctionOf } from '../observed.ts'
import { uncertaintyOf } from '../uncertainty.ts'
import type { Ground } from './ground.ts'
import { linkOf, wholeStage } from './ground.ts'
import type { Ring } from './links.ts'
import { ringOf } from './links.ts'
import { stagesOf } from './partition.ts'
import type { Seat } from './seats.ts'

export interface Cut {
  readonly strategy: GroupStrategy
  readonly degree: number
}

/** What tells candidates apart, without the words. */
export interface Draft extends Cut {
  readonly transport: Transport
  /** By position: stage for Pipeline, rank for Tensor. */
  readonly seats: readonly Seat[]
  /** Layers per stage, for Pipeline. */
  readonly counts: readonly number[]
  readonly ring: Ring<Seat> | undefined
  /** The figure of the objective, corrected by what was observed: tokens per second, the larger the better. */
  readonly score: number
  readonly siblings: number
  /** Σ budgets of its seats: of two drafts of one cut, the larger leaves more bytes free. */
  readonly roomBytes: number
}

export interface Candidate extends Draft {
  readonly engine: Engine
  readonly stages: readonly Stage[]
  readonly needs: readonly MemoryParts[]
  readonly layout: Layout
  readonly linkClass: string
  readonly predicted: Predicted
  /** Samples behind the correction of the prediction; 0: none. */
  readonly samples: number
}

/** Is something known of all its chips? Else its figures serve to compare only. */
export const isKnown = (candidate: Pick<Draft, 'seats'>): boolean => candidate.seats.every((s) => s.speed.known)

/** Of one cut: fewest siblings, then the objective, more bytes left, names. Negative: `a` is better. */
export const compareDrafts = (a: Draft, b: Draft): number =>
  a.siblings - b.siblings || b.score - a.score || b.roomBytes - a.roomBytes || compareNames(a, b)

/** Of any cuts: fewest siblings, then the objective, fewer nodes, Tensor before Pipeline, more bytes left, names. */
export const compareCuts = (a: Draft, b: Draft): number =>
  a.siblings - b.siblings ||
  b.score - a.score ||
  a.degree - b.degree ||
  strategyOrder.indexOf(a.strategy) - strategyOrder.indexOf(b.strategy) ||
  b.roomBytes - a.roomBytes ||
  compareNames(a, b)

const strategyOrder: readonly GroupStrategy[] = ['Single', 'Tensor', 'Pipeline']

function compareNames(a: Draft, b: Draft): number {
  const [left, right] = [namesOf(a), namesOf(b)]
  return left < right ? -1 : left > right ? 1 : 0
}
const namesOf = (draft: Draft) => draft.seats.map((s) => s.node.name).join(' ')

export const bestOf = <D extends Draft>(drafts: readonly D[]): D | undefined =>
  drafts.length === 0 ? undefined : drafts.reduce((best, d) => (compareCuts(d, best) < 0 ? d : best))

export const linkClassOf = (ring: Ring<unknown> | undefined): string => ring?.link.className ?? NO_LINK

export function candidateOf(ground: Ground, draft: Draft): Candidate {
  const { strategy, degree, seats, counts, ring } = draft
  const stages = strategy === 'Pipeline' ? stagesOf(counts) : seats.map(() => wholeStage(ground))
  const needs = stages.map((stage) => rankNeed(ground.terms, strategy, degree, stage))
  const forecast = forecastOf(ground, draft)
  const { layout, samples } = forecast
  const uncertainty = uncertaintyOf(ground.cost, layout, ring?.link.basis, samples)
  const predicted = { ...forecast.predicted, uncertainty }
  return { ...draft, engine: ground.engine, stages, needs, ...forecast, predicted }
}

/** The figures of a draft alone, as cuts that were not chosen are told by. */
export function forecastOf(
  ground: Ground,
  { strategy, degree, seats, counts, ring }: Draft,
): Pick<Candidate, 'layout' | 'linkClass' | 'predicted' | 'samples'> {
  const layout = layoutOf(strategy, seats, counts, ring)
  const linkClass = linkClassOf(ring)
  const raw = predict(ground.cost, layout)
  const { factor, samples } = correctionOf(
    ground.demand.observed,
    { strategy, degree, engine: ground.engine, linkClass },
    raw.decodeTokensPerSecond,
  )
  return { layout, linkClass, predicted: corrected(raw, factor), samples }
}

/** Decode rates times the factor; a prompt takes as long as before. */
function corrected(raw: Predicted, factor: number): Predicted {
  if (factor === 1) return raw
  const saturated = raw.saturatedTokensPerSecond
  return {
    decodeTokensPerSecond: raw.decodeTokensPerSecond * factor,
    prefillTokensPerSecond: raw.prefillTokensPerSecond,
    timeToFirstTokenSeconds: raw.timeToFirstTokenSeconds + (1 / factor - 1) / raw.decodeTokensPerSecond,
    aggregateTokensPerSecond: raw.aggregateTokensPerSecond * factor,
    ...(saturated === undefined ? {} : { saturatedTokensPerSecond: saturated * factor }),
  }
}

function layoutOf(
  strategy: GroupStrategy,
  seats: readonly Seat[],
  counts: readonly number[],
  ring: Ring<Seat> | undefined,
): Layout {
  const speeds = seats.map((s) => s.speed)
  const [first] = speeds
  if (strategy === 'Tensor' && ring !== undefined) return { strategy, nodes: speeds, link: ring.link }
  if (strategy === 'Pipeline' && ring !== undefined) {
    return {
      strategy,
      stages: speeds.map((node, i) => ({ node, layers: counts[i] ?? 0 })),
      hopSeconds: ring.hopSeconds,
    }
  }
  if (first === undefined) throw new Error('bug: a layout without nodes')
  return { strategy: 'Single', node: first }
}

/**
 * The predicted figures of a cut as if memory and support were no matter, on the fastest seats and with an even split;
 * undefined: too few nodes, links or known chips.
 */
export function predictAnyway(ground: Ground, { strategy, degree }: Cut): Predicted | undefined {
  const { layers } = ground.demand.shape
  const seats = ground.seats.slice(0, degree)
  if (seats.length < degree || degree > layers || seats.some((s) => !s.speed.known)) return undefined
  const transport = ground.engine === 'llamacpp' && strategy === 'Pipeline' ? 'Rpc' : 'Ring'
  const link = linkOf(ground, transport)
  const ring =
    degree === 1
      ? undefined
      : ringOf(seats, { link, mesh: false, costOf: (l) => l.hopSeconds, adds: true, closed: false })
  if (degree > 1 && ring === undefined) return undefined
  const counts = seats.map((_, i) => Math.floor(layers / degree) + (i < layers % degree ? 1 : 0))
  return predict(ground.cost, layoutOf(strategy, seats, counts, ring))
}
