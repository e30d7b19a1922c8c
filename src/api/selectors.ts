/** Label and field selectors as kubectl writes them: parsed once, matched often. */
import { OpError } from '../lib/errors.ts'
import { labelValueFault, qualifiedNameFault } from './metacheck.ts'
import type { MctlObject } from './meta.ts'

export interface LabelRequirement {
  readonly key: string
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
  /** Empty for Exists and DoesNotExist. */
  readonly values: readonly string[]
}

export interface FieldRequirement {
  readonly field: string
  readonly equal: boolean
  readonly value: string
}

/** Fields that objects may be selected by, of any kind; a field that an object does not have counts as ''. */
export const selectableFields = [
  'metadata.name',
  'metadata.namespace',
  'spec.nodeName',
  'spec.deployment',
  'spec.group',
  'status.phase',
  'involvedObject.apiVersion',
  'involvedObject.kind',
  'involvedObject.namespace',
  'involvedObject.name',
  'involvedObject.uid',
  'type',
  'reason',
] as const

const setForm = /^([^\s!=,()]+)\s+(in|notin)\s*\(([^()]*)\)$/
const comparison = /^([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)$/
const presence = /^(!?)\s*([^\s!=,()]+)$/

/** `app=x,tier!=web,chip in (m4, m4-pro),!old,gpu`. OpError Invalid says which part is not understood, and why. */
export function parseLabelSelector(selector: string): readonly LabelRequirement[] {
  return splitSelector(selector).map((part) => {
    const requirement = parseLabelPart(part)
    if (requirement === undefined)
      throw fault(
        'label',
        selector,
        `cannot understand "${part}": use key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)`,
      )
    const keyFault = qualifiedNameFault(requirement.key)
    if (keyFault !== undefined) throw fault('label', selector, `key "${requirement.key}": ${keyFault}`)
    for (const value of requirement.values) {
      const valueFault = labelValueFault(value)
      if (valueFault !== undefined) throw fault('label', selector, `value "${value}": ${valueFault}`)
    }
    return requirement
  })
}

function parseLabelPart(part: string): LabelRequirement | undefined {
  const set = setForm.exec(part)
  if (set !== null) {
    const values = (set[3] ?? '').split(',').map((value) => value.trim())
    return { key: set[1] ?? '', operator: set[2] === 'in' ? 'In' : 'NotIn', values }
  }
  const compared = comparison.exec(part)
  if (compared !== null)
    return { key: compared[1] ?? '', operator: compared[2] === '!=' ? 'NotIn' : 'In', values: [compared[3] ?? ''] }
  const present = presence.exec(part)
  if (present === null) return undefined
  return { key: present[2] ?? '', operator: present[1] === '!' ? 'DoesNotExist' : 'Exists', values: [] }
}

/** All requirements hold. An absent label matches != and notin, as in Kubernetes. */
export function matchesLabels(
  requirements: readonly LabelRequirement[],
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  return requirements.every(({ key, operator, values }) => {
    const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined
    if (operator === 'Exists') return value !== undefined
    if (operator === 'DoesNotExist') return value === undefined
    return (value !== undefined && values.includes(value)) === (operator === 'In')
  })
}

/** `status.phase=Ready,spec.nodeName!=mini-1`. OpError Invalid names a field that cannot be selected by. */
export function parseFieldSelector(selector: string): readonly FieldRequirement[] {
  return splitSelector(selector).map((part) => {
    const match = /^([^!=\s]+)\s*(==|=|!=)\s*(.*)$/.exec(part)
    if (match === null) throw fault('field', selector, `cannot understand "${part}": use field=value or field!=value`)
    const [, field = '', operator, value = ''] = match
    if (!(selectableFields as readonly string[]).includes(field))
      throw fault(
        'field',
        selector,
        `field label not supported: ${field}; supported are ${selectableFields.join(', ')}`,
      )
    return { field, equal: operator !== '!=', value }
  })
}

export const matchesFields = (requirements: readonly FieldRequirement[], object: MctlObject): boolean =>
  requirements.every(({ field, equal, value }) => (fieldValue(object, field) === value) === equal)

function fieldValue(object: MctlObject, field: string): string {
  let value: unknown = object
  for (const key of field.split('.'))
    value = typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[key] : undefined
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

/** Both selectors of a request as one test; absent or empty ones select everything. */
export function selectorOf(selection: {
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
}): (object: MctlObject) => boolean {
  const labels = parseLabelSelector(selection.labelSelector ?? '')
  const fields = parseFieldSelector(selection.fieldSelector ?? '')
  return (object) => matchesLabels(labels, object.metadata.labels) && matchesFields(fields, object)
}

/** Parts between commas that stand in no brackets; an empty selector has none, an empty part is a fault later. */
function splitSelector(selector: string): readonly string[] {
  if (selector.trim() === '') return []
  return selector.split(/,(?![^(]*\))/).map((part) => part.trim())
}

const fault = (kind: 'label' | 'field', selector: string, detail: string): OpError =>
  new OpError('Invalid', `unable to parse ${kind} selector "${selector}": ${detail}`)
