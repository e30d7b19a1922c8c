/**
 * What groups really did corrects what later ones are predicted to do: per model × strategy × link class. An observation
 * keeps what was predicted for the very machines it was made on, so that its ratio carries over to others.
 */
import type { ObservedRate } from '../api/model.ts'
import type { Engine, GroupStrategy } from '../api/words.ts'

/** So many samples weigh as much as the cost model. */
const MODEL_SAMPLES = 5
/** Later samples count no less than one of so many: engines are upgraded, chips throttle. */
const MEMORY_SAMPLES = 50
/** An observation beyond these factors is a fault somewhere, not a correction. */
const FACTOR_RANGE = [0.2, 5] as const

/** A status is not rewritten for less: 2 % of speed, or half as many samples again. */
const NEWS_SPEED = 0.02
const NEWS_SAMPLES = 1.5

/** Link class of a group on one node. */
export const NO_LINK = 'none'

export interface GroupKind {
  readonly strategy: GroupStrategy
  readonly degree: number
  readonly engine: Engine
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
 * degree, but not those of another engine; a rate that does not say what was predicted counts for its own degree, as if
 * these were its machines.
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
    if ((rate.engine ?? kind.engine) !== kind.engine) continue
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
  { demand, engine }: { readonly demand: { readonly observed?: readonly ObservedRate[] }; readonly engine: Engine },
  { strategy, degree }: Pick<GroupKind, 'strategy' | 'degree'>,
  tokensPerSecond: number,
): number {
  const { observed } = demand
  if (observed === undefined || observed.length === 0) return 1
  const factors = observed.map(
    ({ linkClass }) => correctionOf(observed, { strategy, degree, engine, linkClass }, tokensPerSecond).factor,
  )
  return Math.max(1, ...factors)
}

export interface Observation extends GroupKind {
  readonly tokensPerSecond: number
  /** What the cost model, uncorrected, says of that group at the context it really had; undefined: a chip is not known. */
  readonly predictedTokensPerSecond?: number
  /** Answers that it is the average of. */
  readonly samples: number
}

/** The list with one more observation in it, in a fixed order: a moving average per kind of group. */
export function withObservation(observed: readonly ObservedRate[], seen: Observation): readonly ObservedRate[] {
  const { strategy, degree, engine, linkClass } = seen
  const keyOf = (r: Omit<GroupKind, 'engine'> & Pick<ObservedRate, 'engine'>) =>
    `${r.strategy} ${String(r.degree).padStart(4, '0')} ${r.linkClass} ${r.engine ?? ''}`
  const key = keyOf(seen)
  const before = observed.find((rate) => keyOf(rate) === key)
  const samples = (before?.samples ?? 0) + seen.samples
  const share = Math.min(1, seen.samples / Math.min(samples, MEMORY_SAMPLES))
  const moved = (old: number | undefined, value: number) =>
    rounded(old === undefined ? value : old + (value - old) * share)
  const predicted = seen.predictedTokensPerSecond ?? before?.predictedTokensPerSecond
  const rate: ObservedRate = {
    strategy,
    degree,
    engine,
    linkClass,
    tokensPerSecond: moved(before?.tokensPerSecond, seen.tokensPerSecond),
    ...(predicted === undefined
      ? {}
      : { predictedTokensPerSecond: moved(before?.predictedTokensPerSecond, predicted) }),
    samples,
  }
  return [...observed.filter((r) => keyOf(r) !== key), rate].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
}

/** Figures of a status that people read. */
const rounded = (rate: number): number => Number(rate.toPrecision(6))

/** Is what is seen now news beside what is written? A new kind of group, another speed, or many more samples. */
export function isNews(written: readonly ObservedRate[], seen: readonly ObservedRate[]): boolean {
  return seen.some((rate) => {
    const { strategy, degree, linkClass, engine } = rate
    const old = written.find(
      (r) => r.strategy === strategy && r.degree === degree && r.linkClass === linkClass && r.engine === engine,
    )
    if (old === undefined) return true
    const moved = Math.abs(rate.tokensPerSecond / old.tokensPerSecond - 1)
    return moved >= NEWS_SPEED || rate.samples >= old.samples * NEWS_SAMPLES
  })
}
