/** The next step for a deployment that found no place: what would fit and what each node lacks, or where its model should be. */
import type { Condition, MctlObject } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'

/** undefined for everything else. */
export function planHint(object: MctlObject | undefined): string | undefined {
  if (object?.kind !== 'ModelDeployment') return undefined
  const { conditions = [] } = (object.status ?? {}) as { readonly conditions?: readonly Condition[] }
  if (conditions.some(({ type, reason }) => type === 'Scheduled' && reason === 'ModelShapePending'))
    return 'what this model is nobody has told yet: is its name right? `mctl get models` lists what is known. A file: source is a folder or GGUF file in the models folder of an agent'
  if (!conditions.some(({ type, status }) => type === 'Scheduled' && status === 'False')) return undefined
  const { name, namespace = DEFAULT_NAMESPACE } = object.metadata
  const where = namespace === DEFAULT_NAMESPACE ? '' : ` -n ${namespace}`
  return `\`mctl plan md/${name}${where}\` says what each node lacks and what would fit; \`mctl plan -f FILE\` tries a change of it`
}
