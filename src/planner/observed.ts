/**
 * What groups really did corrects what later ones are predicted to do: per model × strategy × link class. An observation
 * keeps what was predicted for the very machines it was made on, so that its ratio carries over to others.
 */
import type { ObservedRate } from '../api/model.ts'
import type { GroupStrategy } from '../api/words.ts'

/** So many samples weigh as much as the cost model. */
const MODEL_SAMPLES = 5
/** Later samples count no less than one of so many: engines are upgraded, chips throttle. */
const MEMORY_SAMPLES = 50
/** An observation beyond these factors is a fault somewhere, not a correction. */
const FACTOR_RANGE = [0.2, 5] as const

/** Link class of a group on one node. */
export const NO_LINK = 'none'

export interface GroupKind {
  readonly strategy: GroupStrategy
  readonly degree: number
  /** Of its slowest link; NO_LINK for Single. */
  readonly linkClass: string
}

export interface Correction {
  /** Multiplies predicted decode rates. */
  readonly factor: number
  /** 0: nothing was observed. */
  readonly samples: number
}

const none: Correction = { factor: 1, samples: 0 }

/**
 * The correction of a prediction of `tokensPerSecond`. Ratios of the same strategy and link class count, whatever the
 * degree; a rate that does not say what was predicted counts for its own degree, as if these were its machines.
 */
export function correctionOf(
  observed: readonly ObservedRate[] | undefined,
  kind: GroupKind,
  tokensPerSecond: number,
): Correction {
  if (observed === undefined || observed.length === 0) return none
  let samples = 0
  let logs = 0
  for (const rate of observed) {
    if (rate.strategy !== kind.strategy || rate.linkClass !== kind.linkClass) continue
    const predicted = rate.predictedTokensPerSecond ?? (rate.degree === kind.degree ? tokensPerSecond : 0)
    if (!(predicted > 0) || !(rate.tokensPerSecond > 0) || rate.samples < 1) continue
    samples += rate.samples
    logs += rate.samples * Math.log(rate.tokensPerSecond / predicted)
  }
  if (samples === 0) return none
  const factor = Math.exp(logs / (samples + MODEL_SAMPLES))
  return { factor: Math.min(FACTOR_RANGE[1], Math.max(FACTOR_RANGE[0], factor)), samples }
}

/** The largest factor that observations of any link class would put on such a prediction; at least 1. */
export function mostCorrection(
  observed: readonly ObservedRate[] | undefined,
  kind: Omit<GroupKind, 'linkClass'>,
  tokensPerSecond: number,
): number {
  if (observed === undefined || observed.length === 0) return 1
  const factors = observed.map(
    ({ linkClass }) => correctionOf(observed, { ...kind, linkClass }, tokensPerSecond).factor,
  )
  return Math.max(1, ...factors)
}

export interface Observation extends GroupKind {
  readonly tokensPerSecond: number
  /** What the cost model, uncorrected, says of that group at the context it really had. */
  readonly predictedTokensPerSecond: number
}

/** The list with one more observation in it, in a fixed order: a moving average per kind of group. */
export function withObservation(observed: readonly ObservedRate[], seen: Observation): readonly ObservedRate[] {
  const isSame = (rate: ObservedRate) =>
    rate.strategy === seen.strategy && rate.degree === seen.degree && rate.linkClass === seen.linkClass
  const before = observed.find(isSame)
  const samples = (before?.samples ?? 0) + 1
  const share = 1 / Math.min(samples, MEMORY_SAMPLES)
  const moved = (old: number | undefined, value: number) => (old === undefined ? value : old + (value - old) * share)
  const rate: ObservedRate = {
    strategy: seen.strategy,
    degree: seen.degree,
    linkClass: seen.linkClass,
    tokensPerSecond: moved(before?.tokensPerSecond, seen.tokensPerSecond),
    predictedTokensPerSecond: moved(before?.predictedTokensPerSecond, seen.predictedTokensPerSecond),
    samples,
  }
  const key = (r: ObservedRate) => `${r.strategy} ${String(r.degree).padStart(4, '0')} ${r.linkClass}`
  return [...observed.filter((r) => !isSame(r)), rate].sort((a, b) => (key(a) < key(b) ? -1 : 1))
}
