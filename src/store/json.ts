/** JSON values as the store sees them: equality by meaning, and deep freezing so that cached objects can be shared. */

export type JsonMap = Readonly<Record<string, unknown>>

/** A JSON object: neither null nor a list. */
export const isMap = (value: unknown): value is JsonMap =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Equal as JSON: order of keys does not count, a member that is undefined is an absent one. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => equalJson(item, b[i]))
  return !Array.isArray(b) && equalMaps(a as JsonMap, b as JsonMap)
}

function equalMaps(a: JsonMap, b: JsonMap): boolean {
  let members = 0
  for (const key in a) {
    if (a[key] === undefined) continue
    if (!equalJson(a[key], b[key])) return false
    members++
  }
  for (const key in b) if (b[key] !== undefined) members--
  return members === 0
}

/** Freezes a value down to its leaves, in place. A frozen part counts as frozen throughout: only the store freezes. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const key in value) deepFreeze(value[key])
  return Object.freeze(value)
}

/** `map[name] = value`, also where the name is `__proto__`: what a client calls a field is never a prototype. */
export function setMember(map: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') map[name] = value
  else Object.defineProperty(map, name, { value, enumerable: true, configurable: true, writable: true })
}
