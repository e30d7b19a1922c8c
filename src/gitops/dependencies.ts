/** What a Sync waits for: other Syncs that must be applied and healthy. Pure. */
import { findCondition } from '../api/conditions.ts'
import type { Sync } from '../api/sync.ts'
import { isWell } from './health.ts'

export interface DependencyFault {
  readonly reason: 'DependencyCycle' | 'DependencyNotReady'
  readonly message: string
}

/** Why the Sync may not apply anything new yet; undefined when nothing holds it. `all` are the Syncs of the cluster. */
export function dependencyFault(sync: Sync, all: readonly Sync[]): DependencyFault | undefined {
  const byName = new Map(all.map((one) => [one.metadata.name, one]))
  const cycle = cycleThrough(sync.metadata.name, byName)
  if (cycle !== undefined)
    return { reason: 'DependencyCycle', message: `these Syncs wait for each other: ${cycle.join(' → ')}` }
  const waits = sync.spec.dependsOn.flatMap((name) => {
    const fault = notReady(byName.get(name))
    return fault === undefined ? [] : [`Sync "${name}" ${fault}`]
  })
  return waits.length === 0 ? undefined : { reason: 'DependencyNotReady', message: `waits: ${waits.join('; ')}` }
}

function notReady(sync: Sync | undefined): string | undefined {
  if (sync === undefined) return 'does not exist'
  const { status, metadata } = sync
  if (status?.lastAppliedRevision === undefined) return 'has applied nothing yet'
  if (status.observedGeneration !== metadata.generation) return 'has not looked at its own spec yet'
  const ready = findCondition(status.conditions, 'Ready')
  // A source that cannot be fetched takes nothing away from what was applied.
  if (ready?.status !== 'True' && ready?.reason !== 'FetchFailed') return `is not Ready (${ready?.reason ?? 'Unknown'})`
  const health = status.health ?? 'Unknown'
  return isWell(health) ? undefined : `is ${health}`
}

/** The way from the Sync back to itself, by names; undefined when there is none. */
function cycleThrough(start: string, byName: ReadonlyMap<string, Sync>): readonly string[] | undefined {
  const ways: (readonly string[])[] = [[start]]
  const seen = new Set<string>()
  for (let way = ways.pop(); way !== undefined; way = ways.pop()) {
    for (const next of byName.get(way.at(-1) ?? '')?.spec.dependsOn ?? []) {
      if (next === start) return [...way, next]
      if (seen.has(next)) continue
      seen.add(next)
      ways.push([...way, next])
    }
  }
  return undefined
}
