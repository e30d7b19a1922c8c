/**
 * What a schema cannot say: rules between fields. Each kind lists its rules; a rule names the fields that it reads and
 * is skipped when one of them is already broken, so that one slip makes one cause and the others are still found.
 */
import type { Cause } from '../lib/errors.ts'
import { tryParseBytes } from '../lib/quantity.ts'
import { duplicate, invalid } from './causes.ts'
import type { MemoryParts, Stage } from './words.ts'

export interface Rule<T> {
  /** Paths such as `spec.parallelism`: everything below them may be read. */
  readonly reads: readonly string[]
  check(object: T): readonly Cause[]
}

/** The causes of all rules whose fields are sound, given the causes that were found before. */
export function checkRules<T>(rules: readonly Rule<T>[], object: T, found: readonly Cause[]): Cause[] {
  const sound = (path: string) => !found.some((cause) => isWithin(cause.field, path) || isWithin(path, cause.field))
  return rules.filter((rule) => rule.reads.every(sound)).flatMap((rule) => rule.check(object))
}

/** Whether a field is the path or below it. */
export const isWithin = (field: string, path: string): boolean =>
  field === path || path === '' || field.startsWith(`${path}.`) || field.startsWith(`${path}[`)

/** A quantity that must be more than nothing and a whole number of bytes below 2^53. */
export function checkQuantity(field: string, quantity: string | undefined, minimumBytes = 1): readonly Cause[] {
  if (quantity === undefined) return []
  const bytes = tryParseBytes(quantity)
  if (bytes === undefined) return [invalid(field, quantity, 'must be less than 8Pi')]
  return bytes >= minimumBytes ? [] : [invalid(field, quantity, `must be greater than or equal to ${minimumBytes}`)]
}

/** A Duplicate value for each entry whose key was seen before. */
export function checkUnique<T>(field: string, list: readonly T[] | undefined, keyOf: (entry: T) => string): Cause[] {
  const seen = new Set<string>()
  return (list ?? []).flatMap((entry, index) => {
    const key = keyOf(entry)
    if (seen.has(key)) return [duplicate(`${field}[${index}]`, key)]
    seen.add(key)
    return []
  })
}

export const checkStage = (field: string, [start, end]: Stage): readonly Cause[] =>
  start < end ? [] : [invalid(field, [start, end], 'must be a half-open range [start, end) with start less than end')]

/** The ledger counts memoryBytes, so it must be what the parts add up to. */
export function checkMemory(field: string, memoryBytes: number, parts: MemoryParts): readonly Cause[] {
  const sum = parts.weights + parts.kv + parts.runtime
  return sum === memoryBytes ? [] : [invalid(field, memoryBytes, `must be the sum of its parts, ${sum}`)]
}
