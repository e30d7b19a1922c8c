/** A composed YAML node as a JSON value, with a fault for whatever JSON cannot say exactly; and the place of a field in it. */
import type { Pair, ParsedNode, Scalar } from 'yaml'
import { isMap, isScalar, isSeq } from 'yaml'
import { fieldIn, invalid, shown } from './causes.ts'
import type { Cause } from '../lib/errors.ts'

/** Told of each fault with its offset in the text; `kept`: the value stands all the same and may be judged further. */
export type OnFault = (offset: number, cause: Cause, kept: boolean) => void

type AnyNode = ParsedNode | Scalar | null | undefined

export const offsetOf = (node: unknown): number | undefined => {
  const range = (node as { range?: readonly number[] | null } | null | undefined)?.range
  return range?.[0]
}

/** The value of the node; `field` is its path. Maps become plain objects, safe from keys such as `__proto__`. */
export function readNode(node: AnyNode, field: string, onFault: OnFault): unknown {
  if (isMap(node)) return readMap(node.items as readonly Pair[], field, onFault)
  if (isSeq(node)) return node.items.map((item, index) => readNode(item as AnyNode, `${field}[${index}]`, onFault))
  return isScalar(node) ? readScalar(node as Scalar, field, onFault) : null
}

function readMap(pairs: readonly Pair[], field: string, onFault: OnFault): unknown {
  const map: Record<string, unknown> = {}
  for (const pair of pairs) {
    const offset = offsetOf(pair.key) ?? 0
    const key = isScalar(pair.key) ? pair.key.value : undefined
    if (typeof key !== 'string') {
      const text = isScalar(pair.key) ? (pair.key.source ?? String(key)) : 'a map or list'
      onFault(offset, invalid(field, text, 'keys must be strings; write it in quotes'), false)
      continue
    }
    const at = fieldIn(field, key)
    if (Object.hasOwn(map, key)) onFault(offset, { field: at, message: `duplicate field ${shown(at)}` }, true)
    // defineProperty: a plain assignment of `__proto__` would replace the prototype and hide the field from validation.
    const value = readNode(pair.value as AnyNode, at, onFault)
    if (key === '__proto__')
      Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true })
    else map[key] = value
  }
  return map
}

function readScalar(scalar: Scalar, field: string, onFault: OnFault): unknown {
  const { value } = scalar
  const source = scalar.source ?? String(value)
  const fault = (detail: string) => onFault(offsetOf(scalar) ?? 0, invalid(field, source, detail), false)
  if (typeof value === 'bigint' || typeof value === 'number') {
    const number = Number(value)
    if (Number.isNaN(number) || !Number.isFinite(number)) fault('must be a finite number')
    else if (Number.isInteger(number) && !Number.isSafeInteger(number))
      fault('must be within ±9007199254740991; a number beyond it would lose digits')
    return number
  }
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  fault('must be a string, number, boolean, map or list')
  return undefined
}

/** The node that a path such as `spec.split[1]` leads to, or the nearest one around it: the key where there is one. */
export function placeOf(node: unknown, path: string): unknown {
  let place = node
  let value = node
  let rest = path
  while (rest !== '') {
    const step = isSeq(value)
      ? stepIntoSeq(value.items, rest)
      : isMap(value)
        ? stepIntoMap(value.items, rest)
        : undefined
    if (step === undefined) return place
    ;({ place, value, rest } = step)
  }
  return place
}

interface Step {
  readonly place: unknown
  readonly value: unknown
  readonly rest: string
}

function stepIntoSeq(items: readonly unknown[], path: string): Step | undefined {
  const match = /^\[(\d+)\]\.?/.exec(path)
  const item = items[Number(match?.[1])]
  return match === null || item === undefined
    ? undefined
    : { place: item, value: item, rest: path.slice(match[0].length) }
}

/** Keys may hold dots, so the longest key that the path begins with is the one; of duplicates the last. */
function stepIntoMap(pairs: readonly Pair[], path: string): Step | undefined {
  let best: { readonly pair: Pair; readonly length: number } | undefined
  for (const pair of pairs) {
    const key = isScalar(pair.key) ? pair.key.value : undefined
    if (typeof key !== 'string') continue
    const bracketed = `[${key}]`
    const length = path.startsWith(bracketed) ? bracketed.length : startsWithKey(path, key) ? key.length : 0
    if (length > 0 && length >= (best?.length ?? 0)) best = { pair, length }
  }
  if (best === undefined) return undefined
  const rest = path.slice(best.length)
  return { place: best.pair.key, value: best.pair.value, rest: rest.startsWith('.') ? rest.slice(1) : rest }
}

const startsWithKey = (path: string, key: string): boolean =>
  path.startsWith(key) && (path.length === key.length || path[key.length] === '.' || path[key.length] === '[')
