/** What a deployment's parallelism asks the search for: which cuts, at which degrees, or why it contradicts itself. */
import type { GroupStrategy, Refusal } from '../../api/words.ts'
import type { Demand } from './types.ts'

export interface Wish {
  readonly kind: 'Wish'
  /** In order of preference when equally good. */
  readonly strategies: readonly GroupStrategy[]
  readonly minDegree: number
  /** undefined: as many as there are nodes. */
  readonly maxDegree: number | undefined
}

export interface Contradiction {
  readonly kind: 'Contradiction'
  readonly refusal: Refusal
}

export function wishOf({ template, shape }: Demand): Wish | Contradiction {
  const { strategy, degree, split } = template.parallelism
  const refuse = (message: string): Contradiction => ({
    kind: 'Contradiction',
    refusal: { node: '', reason: 'StrategyUnsupported', message },
  })
  const exactly = (strategies: readonly GroupStrategy[], ranks: number): Wish => ({
    kind: 'Wish',
    strategies,
    minDegree: ranks,
    maxDegree: ranks,
  })

  if (split.length > 0) {
    const layers = split.reduce((sum, count) => sum + count, 0)
    if (strategy !== 'Pipeline' && strategy !== 'Auto') return refuse(`split is for Pipeline, not for ${strategy}`)
    if (split.length < 2) return refuse('split needs one entry per stage, at least two')
    if (degree !== undefined && degree !== split.length)
      return refuse(`split has ${split.length} stages but degree is ${degree}`)
    if (layers !== shape.layers || split.some((count) => count < 1))
      return refuse(`split [${split.join(', ')}] has ${layers} layers, the model has ${shape.layers}`)
    return exactly(['Pipeline'], split.length)
  }
  switch (strategy) {
    case 'Data':
      if ((degree ?? 1) > 1)
        return refuse(`a Data replica is whole on one node, so degree cannot be ${degree}; use replicas`)
      return exactly(['Single'], 1)
    case 'Auto':
      if (degree === 1) return exactly(['Single'], 1)
      if (degree !== undefined) return exactly(['Tensor', 'Pipeline'], degree)
      return { kind: 'Wish', strategies: ['Single', 'Tensor', 'Pipeline'], minDegree: 1, maxDegree: undefined }
    case 'Pipeline':
    case 'Tensor':
      if (degree === 1) return refuse(`${strategy} needs at least two ranks; use strategy: Data for one`)
      if (degree !== undefined) return exactly([strategy], degree)
      return { kind: 'Wish', strategies: [strategy], minDegree: 2, maxDegree: undefined }
  }
}
