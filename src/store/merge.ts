/** Patches of JSON: merge patch (RFC 7386) and JSON patch (RFC 6902). Pure; what they are given is never changed. */
import { applyPatch } from 'rfc6902'
import { OpError } from '../lib/errors.ts'
import { isMap, setMember } from './json.ts'

export type PatchType = 'merge' | 'json'

/** The patched value. OpError Invalid says which operation of a JSON patch could not be done. */
export function patched(type: PatchType, value: unknown, patch: unknown): unknown {
  return type === 'merge' ? mergePatched(value, patch) : jsonPatched(value, patch)
}

/** A null member removes, a map merges, all else (lists too) replaces. */
export function mergePatched(value: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch
  const result: Record<string, unknown> = isMap(value) ? { ...value } : {}
  for (const [name, member] of Object.entries(patch)) {
    if (member === null) delete result[name]
    else setMember(result, name, mergePatched(Object.hasOwn(result, name) ? result[name] : undefined, member))
  }
  return result
}

type Operations = Parameters<typeof applyPatch>[1]
const operations: ReadonlySet<unknown> = new Set(['add', 'remove', 'replace', 'move', 'copy', 'test'])

function jsonPatched(value: unknown, patch: unknown): unknown {
  const isOperation = (item: unknown) => isMap(item) && operations.has(item['op']) && typeof item['path'] === 'string'
  if (!Array.isArray(patch) || !patch.every(isOperation))
    throw new OpError(
      'Invalid',
      'a JSON patch must be a list of operations such as {"op": "replace", "path": "/spec/replicas", "value": 2}',
    )
  const result: unknown = structuredClone(value)
  const failed = applyPatch(result, patch as Operations).findIndex((error) => error !== null)
  if (failed >= 0)
    throw new OpError('Invalid', `JSON patch operation ${failed} cannot be done: ${JSON.stringify(patch[failed])}`)
  return result
}
