/** The JSON merge patch (RFC 7386) that makes one value of another. Pure. */

type Json = Readonly<Record<string, unknown>>

const isMap = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** undefined when both are equal. A list that differs is given whole; a member that is gone is null. */
export function mergePatchBetween(old: unknown, fresh: unknown): unknown {
  if (!isMap(old) || !isMap(fresh)) return JSON.stringify(old) === JSON.stringify(fresh) ? undefined : fresh
  const patch: Record<string, unknown> = {}
  for (const key of new Set([...Object.keys(old), ...Object.keys(fresh)])) {
    if (!Object.hasOwn(fresh, key)) patch[key] = null
    else {
      const member = Object.hasOwn(old, key) ? mergePatchBetween(old[key], fresh[key]) : fresh[key]
      if (member !== undefined) patch[key] = member
    }
  }
  return Object.keys(patch).length === 0 ? undefined : patch
}
