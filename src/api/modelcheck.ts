/** Rules between the fields of a Model and of a model's shape. */
import type { Cause } from '../lib/errors.ts'
import { invalid, required } from './causes.ts'
import type { Rule } from './check.ts'
import type { Model, ModelShape } from './model.ts'
import { checkSource } from './modeldeploymentcheck.ts'

export const modelRules: readonly Rule<Model>[] = [
  {
    reads: ['spec.source', 'spec.revision'],
    check: ({ spec }) => (spec.source === undefined ? [] : checkSource('spec', spec.source, spec.revision)),
  },
  {
    reads: ['spec'],
    check: ({ spec, status }) =>
      spec.source === undefined && spec.shape === undefined && status?.shape === undefined
        ? [required('spec', 'at least one of `source` and `shape` must be set')]
        : [],
  },
  { reads: ['spec.shape'], check: ({ spec }) => checkShape('spec.shape', spec?.shape) },
  { reads: ['status.shape'], check: ({ status }) => checkShape('status.shape', status?.shape) },
]

const perLayer = [
  'layerBytes',
  'kvBytesPerTokenPerLayer',
  'kvWindowTokensPerLayer',
  'stateBytesPerSequencePerLayer',
] as const

/** Sizes that contradict each other would make wrong plans. */
export function checkShape(field: string, shape: ModelShape | undefined): Cause[] {
  if (shape === undefined) return []
  const causes: Cause[] = []
  const { layers, experts, activeParameters, replicatedBytes } = shape
  for (const key of perLayer) {
    const list = shape[key] ?? []
    if (list.length !== 0 && list.length !== layers)
      causes.push(invalid(`${field}.${key}`, list, `must have one entry per layer, ${layers}, or none`))
  }
  if (activeParameters !== undefined && activeParameters > shape.parameters)
    causes.push(invalid(`${field}.activeParameters`, activeParameters, 'must be less than or equal to parameters'))
  if (experts !== undefined && experts.perToken > experts.count)
    causes.push(invalid(`${field}.experts.perToken`, experts.perToken, 'must be less than or equal to count'))
  if (shape.kvHeads > shape.attentionHeads)
    causes.push(invalid(`${field}.kvHeads`, shape.kvHeads, 'must be less than or equal to attentionHeads'))
  if (replicatedBytes !== undefined && replicatedBytes > shape.weightBytes)
    causes.push(invalid(`${field}.replicatedBytes`, replicatedBytes, 'must be less than or equal to weightBytes'))
  return causes
}
