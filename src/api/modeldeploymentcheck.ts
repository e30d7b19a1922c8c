/** Rules between the fields of a ModelDeployment. */
import type { Cause } from '../lib/errors.ts'
import { forbidden, invalid, required } from './causes.ts'
import type { Rule } from './check.ts'
import { checkUnique } from './check.ts'
import { checkEngineArgs } from './engineargs.ts'
import { checkLabels, labelValueFault, qualifiedNameFault } from './metacheck.ts'
import type { ModelDeployment, ModelRef, Toleration } from './modeldeployment.ts'
import { parseSource } from './sources.ts'

export const modelDeploymentRules: readonly Rule<ModelDeployment>[] = [
  { reads: ['spec.model'], check: ({ spec }) => checkModelRef('spec.model', spec.model) },
  { reads: ['spec.parallelism'], check: ({ spec }) => checkParallelism(spec.parallelism ?? {}) },
  { reads: ['spec.serving'], check: ({ spec }) => checkServing(spec.serving ?? {}) },
  {
    reads: ['spec.engine'],
    check: ({ spec }) => checkEngineArgs('spec.engine.args', spec.engine?.name ?? 'Auto', spec.engine?.args ?? []),
  },
  {
    reads: ['spec.placement.nodeSelector'],
    check: ({ spec }) => checkLabels('spec.placement.nodeSelector', spec.placement?.nodeSelector),
  },
  {
    reads: ['spec.placement.nodes'],
    check: ({ spec }) => checkUnique('spec.placement.nodes', spec.placement?.nodes, (node) => node),
  },
  {
    reads: ['spec.placement.tolerations'],
    check: ({ spec }) =>
      (spec.placement?.tolerations ?? []).flatMap((toleration, index) =>
        checkToleration(`spec.placement.tolerations[${index}]`, toleration),
      ),
  },
  { reads: ['spec.update'], check: ({ spec }) => checkUpdate(spec.update ?? {}) },
]

/** Rules are also asked about manifests whose defaults are not filled in yet. */
type Loose<T> = { readonly [K in keyof T]?: T[K] | undefined }

/** Exactly one of source and name; a source of a known form; a revision only where there are revisions. */
export function checkModelRef(field: string, ref: ModelRef): readonly Cause[] {
  if (ref.source === undefined && ref.name === undefined)
    return [required(field, 'exactly one of `source` and `name` must be set')]
  if (ref.source !== undefined && ref.name !== undefined)
    return [forbidden(`${field}.name`, 'may not be set together with `source`')]
  if (ref.source !== undefined) return checkSource(field, ref.source, ref.revision)
  return ref.revision === undefined ? [] : [forbidden(`${field}.revision`, 'belongs to `source`; a Model has its own')]
}

/** The source's form, and that a revision stands only beside an hf:// source. */
export function checkSource(field: string, source: string, revision: string | undefined): readonly Cause[] {
  const parsed = parseSource(source)
  if (parsed.form === 'Invalid') return [invalid(`${field}.source`, source, parsed.fault)]
  if (revision !== undefined && parsed.form !== 'HuggingFace')
    return [forbidden(`${field}.revision`, 'may only be set for an hf:// source')]
  return []
}

function checkParallelism(parallelism: Loose<ModelDeployment['spec']['parallelism']>): readonly Cause[] {
  const { degree, split = [] } = parallelism
  const strategy: string = parallelism.strategy ?? 'Auto'
  const causes: Cause[] = []
  const whole = strategy === 'Data' || strategy === 'Single'
  if (whole && degree !== undefined && degree !== 1)
    causes.push(
      invalid(
        'spec.parallelism.degree',
        degree,
        `must be 1 when strategy is ${strategy}: every replica is whole on one node (for more copies set spec.replicas)`,
      ),
    )
  if ((strategy === 'Pipeline' || strategy === 'Tensor') && degree === 1)
    causes.push(
      invalid('spec.parallelism.degree', degree, `must be greater than or equal to 2 when strategy is ${strategy}`),
    )
  if (split.length > 0 && strategy !== 'Pipeline' && strategy !== 'Auto')
    causes.push(forbidden('spec.parallelism.split', 'may only be set when strategy is Pipeline or Auto'))
  else if (split.length === 1) causes.push(invalid('spec.parallelism.split', split, 'must have at least 2 stages'))
  else if (split.length > 0 && degree !== undefined && split.length !== degree)
    causes.push(
      invalid(
        'spec.parallelism.split',
        split,
        `must have as many stages as degree says ranks: ${degree}, not ${split.length}`,
      ),
    )
  return causes
}

function checkServing(serving: Loose<ModelDeployment['spec']['serving']>): readonly Cause[] {
  const { contextTokens, maxOutputTokens } = serving
  if (contextTokens === undefined || maxOutputTokens === undefined || maxOutputTokens <= contextTokens) return []
  return [
    invalid(
      'spec.serving.maxOutputTokens',
      maxOutputTokens,
      `must be less than or equal to contextTokens, ${contextTokens}`,
    ),
  ]
}

function checkUpdate(update: Loose<ModelDeployment['spec']['update']>): readonly Cause[] {
  const { strategy = 'RollingUpdate', maxUnavailable = 1, maxSurge = 0 } = update
  if (strategy !== 'RollingUpdate' || maxUnavailable > 0 || maxSurge > 0) return []
  return [invalid('spec.update.maxUnavailable', 0, 'may not be 0 when `maxSurge` is 0')]
}

function checkToleration(field: string, { key, operator, value }: Toleration): readonly Cause[] {
  if (operator === 'Exists' && value !== undefined)
    return [forbidden(`${field}.value`, 'must be absent when `operator` is Exists, which accepts every value')]
  if (key !== undefined) return checkTaintKey(field, { key, ...(value === undefined ? {} : { value }) })
  return operator === 'Exists' ? [] : [required(`${field}.key`, 'may only be absent when `operator` is Exists')]
}

/** Key and value of a taint or toleration. */
export function checkTaintKey(
  field: string,
  taint: { readonly key: string; readonly value?: string },
): readonly Cause[] {
  const causes: Cause[] = []
  const keyFault = qualifiedNameFault(taint.key)
  if (keyFault !== undefined) causes.push(invalid(`${field}.key`, taint.key, keyFault))
  const valueFault = labelValueFault(taint.value ?? '')
  if (valueFault !== undefined) causes.push(invalid(`${field}.value`, taint.value, valueFault))
  return causes
}
