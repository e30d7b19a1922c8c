/** What executors act on: the processes, and the agent's notes about shards. */
import type { ShardExit } from '../../src/api/shard.ts'
import type { StopLimits } from '../actions.ts'
import type { Fetcher } from '../fetch/fetcher.ts'
import type { Hosts } from '../hosts.ts'
import type { ShardNotes } from '../plan.ts'

/** The notes as their owner sees them. */
export interface Notes extends ShardNotes {
  readonly failures: Map<string, ShardExit>
  readonly stopsAsked: Map<string, StopLimits>
  readonly started: Set<string>
  readonly busy: Set<string>
}

export const emptyNotes = (): Notes => ({
  failures: new Map(),
  stopsAsked: new Map(),
  started: new Set(),
  busy: new Set(),
})

export interface ExecutorDoors {
  readonly hosts: Hosts
  readonly notes: Notes
  /** Absent: this agent fetches no models. */
  readonly fetcher?: Fetcher | undefined
  readonly clusterUid: () => string
}
