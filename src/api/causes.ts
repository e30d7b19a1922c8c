/** Causes of an Invalid in Kubernetes' words: one place for the wording, so that every check speaks alike. */
import type { ErrorObject } from 'ajv/dist/2020.js'
import type { Cause } from '../lib/errors.ts'
import type { JsonSchema } from './schemas.ts'

const SHOWN_CHARACTERS = 100

/** A value as errors show it: strings in quotes, the rest as JSON, long ones cut. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'undefined' : typeof value === 'number' ? String(value) : JSON.stringify(value)
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text
}

export const required = (field: string, detail?: string): Cause => ({
  field,
  message: detail === undefined ? 'Required value' : `Required value: ${detail}`,
})
export const invalid = (field: string, value: unknown, detail: string): Cause => ({
  field,
  message: `Invalid value: ${shown(value)}: ${detail}`,
})
export const unsupported = (field: string, value: unknown, supported: readonly unknown[]): Cause => ({
  field,
  message: `Unsupported value: ${shown(value)}: supported values: ${supported.map(shown).join(', ')}`,
})
export const forbidden = (field: string, detail: string): Cause => ({ field, message: `Forbidden: ${detail}` })
export const duplicate = (field: string, value: unknown): Cause => ({
  field,
  message: `Duplicate value: ${shown(value)}`,
})
export const tooLong = (field: string, detail: string): Cause => ({ field, message: `Too long: ${detail}` })

/** A field that the schema does not know; `known` are the names it could have been meant for. */
export function unknownField(parent: string, name: string, known: readonly string[]): Cause {
  const field = fieldIn(parent, name)
  const meant = closest(name, known)
  const hint = meant === undefined ? '' : `, did you mean "${fieldIn(parent, meant)}"?`
  return { field, message: `unknown field "${field}"${hint}` }
}

/** Whether a cause says that a field is not known: such a field stands in nobody's way. */
export const isUnknownField = (cause: Cause): boolean => cause.message.startsWith('unknown field ')

/** `apps.yaml:7: spec.replicas: Invalid value: …`: a cause as one line for people. */
export function causeText(cause: Cause): string {
  const where = cause.where === undefined ? '' : `${cause.where}: `
  return cause.field === '' || isUnknownField(cause)
    ? `${where}${cause.message}`
    : `${where}${cause.field}: ${cause.message}`
}

/** The path of a key in a map: `spec.model`, or `metadata.labels[a/b]` for keys that are no plain words. */
export function fieldIn(parent: string, key: string): string {
  if (!/^[A-Za-z_$][A-Za-z0-9_$-]*$/.test(key)) return `${parent}[${key}]`
  return parent === '' ? key : `${parent}.${key}`
}

/** A JSON pointer into `root` as a field path: list positions in brackets. */
export function fieldOfPointer(root: unknown, pointer: string): string {
  let field = ''
  let value = root
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    field = Array.isArray(value) ? `${field}[${key}]` : fieldIn(field, key)
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined
  }
  return field
}

const typeWords: Readonly<Record<string, string>> = {
  string: 'must be a string',
  integer: 'must be an integer',
  number: 'must be a number',
  boolean: 'must be true or false',
  object: 'must be a map',
  array: 'must be a list',
  'object,null': 'must be a map or null',
}

/** One error of the validator in words. */
export function causeOfSchemaError(error: ErrorObject, root: unknown): Cause {
  const field = fieldOfPointer(root, error.instancePath)
  const schema = (error.parentSchema ?? {}) as JsonSchema
  const params = error.params as Readonly<Record<string, unknown>>
  const limit = String(params['limit'])
  switch (error.keyword) {
    case 'required':
      return required(fieldIn(field, String(params['missingProperty'])))
    case 'additionalProperties':
      return unknownField(field, String(params['additionalProperty']), Object.keys(schema.properties ?? {}))
    case 'enum':
      return unsupported(field, error.data, schema.enum ?? [])
    case 'const':
      return unsupported(field, error.data, [schema.const])
    case 'type':
      return invalid(field, error.data, typeWords[String(schema.type)] ?? schema['x-message'] ?? 'has the wrong type')
    case 'pattern':
      return invalid(field, error.data, schema['x-message'] ?? `must match ${String(schema.pattern)}`)
    case 'minLength':
      return required(field)
    case 'maxLength':
      return tooLong(field, schema['x-tooLong'] ?? `must have at most ${limit} characters`)
    case 'maxItems':
      return { field, message: `Too many: ${(error.data as unknown[]).length}: must have at most ${limit} items` }
    case 'minItems':
      return invalid(field, error.data, `must have at least ${limit} items`)
    case 'minimum':
      return invalid(field, error.data, `must be greater than or equal to ${limit}`)
    case 'exclusiveMinimum':
      return invalid(field, error.data, `must be greater than ${limit}`)
    case 'maximum':
      return invalid(field, error.data, `must be less than or equal to ${limit}`)
    default:
      return invalid(field, error.data, error.message ?? error.keyword)
  }
}

/** The word that was probably meant: the nearest within two edits (one for short words), whatever its case. */
export function closest(word: string, known: readonly string[]): string | undefined {
  if (word.length > 64) return undefined
  const allowed = word.length <= 4 ? 1 : 2
  let best: string | undefined
  let bestDistance = allowed + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** Edits between two words: insert, delete, replace, or swap of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  const at = (i: number, j: number) => rows[i]?.[j] ?? Infinity
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i]
    for (let j = 1; j <= b.length; j++) {
      const replace = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swap = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Infinity
      rows[i]?.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replace, swap))
    }
  }
  return at(a.length, b.length)
}
