/** Metadata rules that are the same for every kind: scope, label and annotation syntax as Kubernetes has them. */
import type { Cause } from '../lib/errors.ts'
import { duplicate, forbidden, invalid, tooLong } from './causes.ts'
import type { Rule } from './check.ts'
import type { KindName } from './kinds.ts'
import { kinds } from './kinds.ts'
import type { Manifest } from './meta.ts'

const MAX_ANNOTATION_BYTES = 256 * 1024
const MAX_NAME_PART = 63
const MAX_PREFIX = 253

const namePart = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

const namePartWords =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric " +
  "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is " +
  "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
const labelValueWords =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end " +
  "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is " +
  "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
const prefixWords =
  "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must " +
  "start and end with an alphanumeric character (e.g. 'example.com')"

/** What is wrong with the key of a label, annotation or taint; undefined when nothing is. */
export function qualifiedNameFault(key: string): string | undefined {
  const slash = key.indexOf('/')
  const name = key.slice(slash + 1)
  if (slash >= 0 && slash === 0) return 'prefix part must be non-empty'
  if (slash > MAX_PREFIX) return `prefix part must be no more than ${MAX_PREFIX} bytes`
  if (slash > 0 && !subdomain.test(key.slice(0, slash))) return prefixWords
  if (name.includes('/'))
    return "a valid label key must be a name part with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
  if (name === '') return 'name part must be non-empty'
  if (name.length > MAX_NAME_PART) return `name part must be no more than ${MAX_NAME_PART} bytes`
  return namePart.test(name) ? undefined : namePartWords
}

/** What is wrong with the value of a label or taint; undefined when nothing is. */
export function labelValueFault(value: string): string | undefined {
  if (value.length > MAX_NAME_PART) return `must be no more than ${MAX_NAME_PART} bytes`
  return labelValue.test(value) ? undefined : labelValueWords
}

/** Keys and values of labels or of a selector by labels. */
export function checkLabels(field: string, labels: Readonly<Record<string, string>> | undefined): Cause[] {
  const causes: Cause[] = []
  for (const key in labels) {
    const value = labels[key] ?? ''
    const keyFault = qualifiedNameFault(key)
    if (keyFault !== undefined) causes.push(invalid(field, key, keyFault))
    const valueFault = labelValueFault(value)
    if (valueFault !== undefined) causes.push(invalid(field, value, valueFault))
  }
  return causes
}

function checkAnnotations(annotations: Readonly<Record<string, string>> | undefined): Cause[] {
  const causes: Cause[] = []
  let bytes = 0
  for (const key in annotations) {
    const fault = qualifiedNameFault(key)
    if (fault !== undefined) causes.push(invalid('metadata.annotations', key, fault))
    bytes += Buffer.byteLength(key) + Buffer.byteLength(annotations[key] ?? '')
  }
  if (bytes > MAX_ANNOTATION_BYTES)
    causes.push(tooLong('metadata.annotations', `must have at most ${MAX_ANNOTATION_BYTES} bytes`))
  return causes
}

function checkOwners(object: Manifest): Cause[] {
  const causes: Cause[] = []
  const uids = new Set<string>()
  for (const [index, owner] of (object.metadata.ownerReferences ?? []).entries()) {
    if (uids.has(owner.uid)) causes.push(duplicate(`metadata.ownerReferences[${index}]`, owner.uid))
    uids.add(owner.uid)
  }
  for (const [index, finalizer] of (object.metadata.finalizers ?? []).entries()) {
    const fault = qualifiedNameFault(finalizer)
    if (fault !== undefined) causes.push(invalid(`metadata.finalizers[${index}]`, finalizer, fault))
  }
  return causes
}

export const metadataRules = (kind: KindName): readonly Rule<Manifest>[] => [
  {
    reads: ['metadata.namespace'],
    check: ({ metadata }) =>
      kinds[kind].namespaced || metadata.namespace === undefined
        ? []
        : [forbidden('metadata.namespace', 'not allowed on this type')],
  },
  { reads: ['metadata.labels'], check: ({ metadata }) => checkLabels('metadata.labels', metadata.labels) },
  { reads: ['metadata.annotations'], check: ({ metadata }) => checkAnnotations(metadata.annotations) },
  { reads: ['metadata.ownerReferences', 'metadata.finalizers'], check: checkOwners },
]
