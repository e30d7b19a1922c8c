/** `--sort-by`: objects by the value of a field: numbers and quantities by size, texts as people count them. */
import { tryParseBytes } from '../../lib/quantity.ts'
import { CliError } from '../context.ts'
import { fieldPath } from './jsonpath.ts'

/** The order of the objects as indices; those without the field come first. CliError when none has it. */
export function orderBy(path: string, objects: readonly unknown[]): readonly number[] {
  const find = fieldPath(path)
  const values = objects.map((object) => find(object)[0])
  if (objects.length > 0 && values.every((value) => value === undefined))
    throw new CliError(`couldn't find any field with path "${path}" in the list of objects`)
  return objects.map((_, index) => index).sort((a, b) => compare(values[a], values[b]) || a - b)
}

const collator = new Intl.Collator('en', { numeric: true })

function compare(a: unknown, b: unknown): number {
  if (a === undefined || b === undefined) return Number(a !== undefined) - Number(b !== undefined)
  const [left, right] = [sizeOf(a), sizeOf(b)]
  if (left !== undefined && right !== undefined) return left - right
  return collator.compare(textOf(a), textOf(b))
}

const sizeOf = (value: unknown): number | undefined =>
  typeof value === 'number' ? value : typeof value === 'string' ? tryParseBytes(value) : undefined
const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
