/**
 * Cuts to try, and what is known of each before it is tried: a bound. A cut that cannot beat one that was tried is tried
 * only if somebody asks for it.
 */
import type { Attempt, Fits } from './attempt.ts'
import { attempt, fieldOf } from './attempt.ts'
import { boundOf } from './bound.ts'
import type { Cut } from './candidates.ts'
import { compareCuts } from './candidates.ts'
import { cutsOf } from './cuts.ts'
import { engineChoices } from './engines.ts'
import type { Ground } from './ground.ts'
import { groundOf, needBytes, wholeStage } from './ground.ts'
import type { Terrain } from './terrain.ts'
import type { Demand, NodeView } from './types.ts'
import type { Wish } from './wish.ts'

/** Up to so many ranks, cuts that were not chosen are told as alternatives. */
export const TOLD_DEGREES = 4

export interface Trial extends Cut {
  readonly ground: Ground
  /** No attempt of this cut scores more. */
  readonly bound: () => number
  readonly made: () => Attempt
}

export function trialOf(ground: Ground, cut: Cut): Trial {
  let bound: number | undefined
  let made: Attempt | undefined
  return {
    ...cut,
    ground,
    bound: () => (bound ??= boundOf(ground, cut)),
    made: () => (made ??= attempt(ground, cut)),
  }
}

/** Cuts of more ranks than usual are among them only when none of the usual fits. */
export function trialsOf(demand: Demand, nodes: readonly NodeView[], wish: Wish, terrain: Terrain): readonly Trial[] {
  return engineChoices(demand, nodes).flatMap((engine) => {
    const ground = groundOf(demand, nodes, engine, terrain)
    const { usual, large } = cutsOf(ground, wish)
    const trials = usual.map((cut) => trialOf(ground, cut))
    return trials.some((t) => t.made().kind === 'Fits')
      ? trials
      : [...trials, ...large().map((cut) => trialOf(ground, cut))]
  })
}

/** The best that fits, with no more attempts than it takes to know. */
export function bestTrial(trials: readonly Trial[]): Fits | undefined {
  let best: Fits | undefined
  // Stable: of equal bounds, fewer nodes and the preferred engine come first.
  for (const trial of [...trials].sort((a, b) => b.bound() - a.bound())) {
    if (best !== undefined && best.draft.siblings === 0 && trial.bound() < best.draft.score) break
    const made = trial.made()
    if (made.kind === 'Fits' && (best === undefined || compareCuts(made.draft, best.draft) < 0)) best = made
  }
  return best
}

/** All that fit, the preferred first. */
export const fitsOf = (trials: readonly Trial[]): readonly Fits[] =>
  trials
    .map((trial) => trial.made())
    .filter((made) => made.kind === 'Fits')
    .sort((a, b) => compareCuts(a.draft, b.draft))

/** Whole replicas (`Data`) that the nodes have room for: each as many as it holds; with spread Require one. */
export function wholeReplicas(trials: readonly Trial[]): number {
  const grounds = new Set(trials.map((trial) => trial.ground))
  return [...grounds].reduce((most, ground) => Math.max(most, roomForWhole(ground)), 0)
}

export function roomForWhole(ground: Ground): number {
  const need = needBytes(ground, 'Single', 1, wholeStage(ground))
  const most = ground.demand.template.placement.spread === 'Require' ? 1 : Infinity
  let room = 0
  for (const { budgetBytes } of fieldOf(ground, { strategy: 'Single', degree: 1 }).able)
    room += Math.min(most, Math.floor(budgetBytes / need))
  return room
}
