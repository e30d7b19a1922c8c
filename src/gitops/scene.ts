/** What a Sync is planned from, and what a plan is: values only. `plan.ts` decides, `perform.ts` carries out. */
import type { MctlObject } from '../api/meta.ts'
import { keyString } from '../api/meta.ts'
import type { BlockedPrune, InventoryEntry, Sync, SyncStatus } from '../api/sync.ts'
import type { Cause } from '../lib/errors.ts'
import type { Heals } from './drift.ts'
import type { Finding } from './examine.ts'
import { keyOfEntry } from './examine.ts'
import type { SourceReading } from './reader.ts'
import type { Rendered } from './render.ts'

export interface Scene {
  readonly sync: Sync
  /** All Syncs, this one too. */
  readonly syncs: readonly Sync[]
  /** What the source said last; undefined while nobody has read it as the spec wants it now. */
  readonly reading: SourceReading | undefined
  /** Requests of people that the reading answers: annotations as they were when it began. */
  readonly answers: { readonly request?: string; readonly preview?: string }
  /** How long the reading and the passes since have taken. */
  readonly tookMs: number
  readonly examine: (rendered: Rendered) => readonly Finding[]
  readonly live: (entry: InventoryEntry) => MctlObject | undefined
  readonly heals: Heals
  /** Wall time, for what is told. */
  readonly nowMs: number
  /** For durations. */
  readonly monotonicMs: number
}

export type SyncWrite =
  | { readonly do: 'Apply'; readonly finding: Finding }
  | { readonly do: 'Prune'; readonly entry: InventoryEntry }
  /** The object stays as it is, and nobody owns its fields; of a Node, what the source had set is taken back. */
  | { readonly do: 'Release'; readonly entry: InventoryEntry }

export interface SyncEvent {
  readonly type: 'Normal' | 'Warning'
  readonly reason: string
  readonly message: string
}

export interface SyncPlan {
  /** In this order, in one transaction with the status. */
  readonly writes: readonly SyncWrite[]
  /** Of the inventory these stay; what is applied joins them. */
  readonly keeps: readonly InventoryEntry[]
  /** All but what follows from the writes: inventory, objects and health. */
  readonly status: SyncStatus
  readonly events: readonly SyncEvent[]
  readonly heals: Heals
  /** Look again after so long although nothing changed. */
  readonly waitMs?: number
  /** Nothing holds the deleted Sync any more. */
  readonly isReleased?: boolean
}

/** Why the newest revision is not applied. */
export interface Refusal {
  /** CamelCase: the reason of the condition Ready. */
  readonly reason: string
  readonly message: string
  readonly causes: readonly Cause[]
  readonly revision?: string
  readonly attempt?: Rendered
  readonly blocked?: BlockedPrune
  /** Waiting alone will not mend it. */
  readonly isStalled: boolean
}

export const inventoryOf = (sync: Sync): readonly InventoryEntry[] => sync.status?.inventory ?? []

export const entryKey = (entry: InventoryEntry): string => keyString(keyOfEntry(entry))

export const desiredKeys = (rendered: Rendered): ReadonlySet<string> =>
  new Set(rendered.objects.map(({ key }) => keyString(key)))
