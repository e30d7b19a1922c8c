/** Arithmetic of one decode step on seats, from terms that are at hand: what the search does thousands of times. */
import { tensorSeconds } from '../cost.ts'
import type { Cut } from './candidates.ts'
import type { Ground } from './ground.ts'
import { handOut, stagesOf } from './partition.ts'
import type { Seat } from './seats.ts'
import { byBudget } from './seats.ts'

export const noCounts: readonly number[] = []

/**
 * The objective's tokens per second: of one stream, or with as many requests in flight as help (batching is taken to
 * add the same to every cut). Auto counts on no more requests than the deployment admits. `slowest`: the slowest stage
 * of a pipeline with its hop.
 */
export function scoreOf(
  { demand }: Ground,
  { strategy, degree }: Cut,
  seconds: number,
  slowest: number,
  factor: number,
): number {
  const { parallelism, serving } = demand.template
  // Single precision: sums in another order compare equal.
  if (parallelism.objective === 'Latency' || strategy !== 'Pipeline') return Math.fround(factor / seconds)
  const inFlight = parallelism.strategy === 'Auto' ? serving.concurrency : degree
  if (inFlight >= degree) return Math.fround(factor / slowest)
  return Math.fround((factor * inFlight) / (seconds + (inFlight - 1) * slowest))
}

/** The slowest rank of a tensor group, or the one node of a whole model (degree 1), without links. */
export function ranksSeconds({ cost }: Ground, degree: number, seats: readonly Seat[]): number {
  let slowest = 0
  for (const { seconds } of seats) slowest = Math.max(slowest, tensorSeconds(cost, degree, seconds))
  return slowest
}

export function layersSeconds(seats: readonly Seat[], counts: readonly number[]): number {
  let total = 0
  for (let i = 0; i < seats.length; i += 1) total += (counts[i] ?? 0) * (seats[i]?.seconds.perLayer ?? 0)
  return total
}

export function slowestStage(seats: readonly Seat[], counts: readonly number[]): number {
  let slowest = 0
  for (let i = 0; i < seats.length; i += 1)
    slowest = Math.max(slowest, (counts[i] ?? 0) * (seats[i]?.seconds.perLayer ?? 0))
  return slowest
}

/** Exact when layers are equal; else more than fits, perhaps. undefined: certainly nothing fits. */
export function handedOut(ground: Ground, set: readonly Seat[]): readonly number[] | undefined {
  const layerSeconds = set.map((s) => s.seconds.perLayer)
  const split = { layers: ground.demand.shape.layers, layerSeconds, caps: set.map(ground.mostLayers) }
  return handOut(split, ground.demand.template.parallelism.objective)
}

/** The seconds of `handedOut` for Latency, without the counts. */
export function filledSeconds(ground: Ground, set: readonly Seat[]): number | undefined {
  let rest = ground.demand.shape.layers - set.length
  if (rest < 0) return undefined
  let seconds = 0
  let pace = 0
  let sorted = true
  for (const seat of set) {
    if (ground.mostLayers(seat) < 1) return undefined
    seconds += seat.seconds.perLayer
    sorted &&= seat.seconds.perLayer >= pace
    pace = seat.seconds.perLayer
  }
  // Seats stand in order of pace but for those of siblings.
  const byPace = sorted ? set : [...set].sort((a, b) => a.seconds.perLayer - b.seconds.perLayer)
  for (const seat of byPace) {
    const taken = Math.min(rest, ground.mostLayers(seat) - 1)
    seconds += taken * seat.seconds.perLayer
    rest -= taken
  }
  return rest > 0 ? undefined : seconds
}

/** The seats in an order that holds a forced split: the needier the stage, the roomier its node; undefined: there is none. */
export function splitOrder(
  ground: Ground,
  set: readonly Seat[],
  split: readonly number[],
): readonly Seat[] | undefined {
  const neediest = stagesOf(split)
    .map(([start, end], stage) => ({ stage, bytes: ground.stageBytes(start, end) }))
    .sort((a, b) => b.bytes - a.bytes)
  const order: Seat[] = []
  for (const [i, seat] of [...set].sort(byBudget).entries()) {
    const next = neediest[i]
    if (next === undefined || next.bytes > seat.budgetBytes) return undefined
    order[next.stage] = seat
  }
  return order
}
