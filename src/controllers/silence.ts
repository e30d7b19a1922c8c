/**
 * How long each node has been silent, by the monotone clock of this process: a wall clock that jumps would evict at once
 * or never. A control plane that starts has seen no silence yet, and counts anew.
 */
import { isTrue } from '../api/conditions.ts'
import type { Clock } from '../lib/clock.ts'
import type { Store } from '../store/store.ts'

export interface Silence {
  /** node → ms. A node that is Ready, or was not looked at yet, is not in it. */
  forMs(): ReadonlyMap<string, number>
  stop(): void
}

export function watchSilence({ store, clock }: { readonly store: Store; readonly clock: Clock }): Silence {
  const sinceMs = new Map<string, number>()
  const look = () => {
    const nodes = store.snapshot().list('Node')
    const silent = new Set(nodes.filter((n) => !isTrue(n.status?.conditions, 'Ready')).map((n) => n.metadata.name))
    for (const name of sinceMs.keys()) if (!silent.has(name)) sinceMs.delete(name)
    for (const name of silent) if (!sinceMs.has(name)) sinceMs.set(name, clock.monotonicMs())
  }
  look()
  const stop = store.onCommit((changes) => {
    if (changes.some(({ object }) => object.kind === 'Node')) look()
  })
  return {
    forMs: () => new Map([...sinceMs].map(([name, ms]) => [name, clock.monotonicMs() - ms])),
    stop,
  }
}
