/**
 * Which cuts are worth an attempt? Up to EXACT_NODES ranks all that the deployment allows. More ranks only where fewer
 * do not hold the model: each further rank waits for more links, so they never pay by themselves.
 */
import { fieldOf } from './attempt.ts'
import type { Cut } from './candidates.ts'
import { cutRefusal } from './filter.ts'
import type { Ground } from './ground.ts'
import { EXACT_NODES } from './seats.ts'
import type { Wish } from './wish.ts'

/** Beyond the fewest stages that hold a model, so many more are tried: they may stand on faster nodes. */
const MORE_STAGES = 2

export interface Cuts {
  readonly usual: readonly Cut[]
  /** For when none of the usual fits. */
  readonly large: () => readonly Cut[]
}

export function cutsOf(ground: Ground, wish: Wish): Cuts {
  const { strategies, minDegree, maxDegree } = wish
  const nodes = ground.seats.length
  const most = maxDegree ?? Math.max(minDegree, nodes)
  const usual: Cut[] = []
  // A degree that was asked for is tried, however large.
  const last = minDegree === maxDegree ? most : Math.min(most, Math.max(minDegree, EXACT_NODES))
  for (let degree = minDegree; degree <= last; degree += 1)
    for (const strategy of strategies) if ((strategy === 'Single') === (degree === 1)) usual.push({ strategy, degree })
  const large = () => (last === most ? [] : strategies.flatMap((strategy) => largeCuts(ground, strategy, last, most)))
  return { usual, large }
}

function largeCuts(ground: Ground, strategy: Cut['strategy'], above: number, most: number): readonly Cut[] {
  const degrees = new Set<number>()
  if (strategy === 'Tensor')
    for (let degree = above + 1; degree <= most; degree += 1)
      if (cutRefusal(ground.demand.shape, strategy, degree) === undefined) degrees.add(degree)
  if (strategy === 'Pipeline') {
    const fewest = fewestStages(ground)
    for (let degree = Math.max(above + 1, fewest); degree <= Math.min(most, fewest + MORE_STAGES); degree += 1)
      degrees.add(degree)
    // The largest pipeline tells best what is missing.
    if (fewest > most) degrees.add(Math.min(most, ground.demand.shape.layers))
  }
  return [...degrees].map((degree) => ({ strategy, degree }))
}

/** Stages that hold all layers on the roomiest nodes; Infinity: all nodes together do not. */
function fewestStages(ground: Ground): number {
  const { able } = fieldOf(ground, { strategy: 'Pipeline', degree: 0 })
  const caps = able.map(ground.mostLayers).sort((a, b) => b - a)
  let room = 0
  for (const [i, cap] of caps.entries()) {
    room += cap
    if (cap > 0 && room >= ground.demand.shape.layers) return i + 1
  }
  return Infinity
}
