/** What `/metrics` tells of Syncs. Gauges are read from the store when asked, so a restarted server tells the same. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { isTrue } from '../api/conditions.ts'
import type { Sync } from '../api/sync.ts'
import type { Store } from '../store/store.ts'
import type { Finished } from './readings.ts'
import type { SyncPlan } from './scene.ts'

export interface GitopsMetrics {
  onPass(sync: string, plan: SyncPlan): void
  onRead(sync: string, finished: Finished): void
  text(): Promise<string>
}

export function createGitopsMetrics(store: Store): GitopsMetrics {
  const registry = new Registry()
  const registers = [registry]
  const labelNames = ['sync']
  const gauge = (name: string, help: string, value: (sync: Sync) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const sync of store.snapshot().list('Sync')) {
          const told = value(sync)
          if (told !== undefined) this.set({ sync: sync.metadata.name }, told)
        }
      },
    })
  const flag = (type: string) => (sync: Sync) => (isTrue(sync.status?.conditions, type) ? 1 : 0)
  gauge('mctl_sync_ready', '1: the newest revision is applied.', flag('Ready'))
  gauge('mctl_sync_prune_blocked', '1: deletions wait for a person.', flag('PruneBlocked'))
  gauge('mctl_sync_stalled', '1: waiting alone will not mend it.', flag('Stalled'))
  gauge('mctl_sync_suspended', '1: it follows nothing for now.', ({ spec }) => (spec.suspend ? 1 : 0))
  gauge('mctl_sync_objects', 'Objects that it follows.', ({ status }) => status?.objects ?? 0)
  gauge('mctl_sync_last_applied_timestamp_seconds', 'When a revision was last applied whole.', ({ status }) =>
    status?.lastAppliedTime === undefined ? undefined : Date.parse(status.lastAppliedTime) / 1000,
  )
  const counter = (name: string, help: string, more: string[] = []) =>
    new Counter({ name, help, labelNames: [...labelNames, ...more], registers })
  const writes = counter('mctl_sync_writes_total', 'Objects applied, pruned or released.', ['action'])
  const drift = counter('mctl_sync_drift_corrected_total', 'Objects whose drift was undone.')
  const failures = counter('mctl_sync_read_failures_total', 'Readings of the source that failed.', ['reason'])
  const reads = new Histogram({
    name: 'mctl_sync_read_duration_seconds',
    help: 'Time to fetch and read the source.',
    labelNames,
    buckets: [0.05, 0.1, 0.5, 1, 5, 10, 30, 60],
    registers,
  })
  return {
    onPass(sync, { writes: made, events }) {
      for (const write of made) writes.inc({ sync, action: write.do })
      const healed = events.filter(({ reason }) => reason === 'DriftCorrected').length
      if (healed > 0) drift.inc({ sync }, healed)
    },
    onRead(sync, { reading, startedMs, endedMs }) {
      reads.observe({ sync }, (endedMs - startedMs) / 1000)
      if (reading.failure !== undefined) failures.inc({ sync, reason: reading.failure.reason })
    },
    text: () => registry.metrics(),
  }
}
