/** ShardGroup: one replica, placed, started and restarted all-or-nothing. `spec.members` IS the binding. */
import type { Condition, ObjectMeta } from './meta.ts'
import type { Engine, GroupStrategy, MemoryParts, Stage, Transport } from './words.ts'

export interface Member {
  /** The engine's rank: MLX pipeline rank r of p holds stage p−1−r. */
  readonly rank: number
  readonly node: string
  readonly stage: Stage
  /** Sum of `parts`: what the ledger counts. */
  readonly memoryBytes: number
  readonly parts: MemoryParts
}

/** What a plan chose for one epoch: how the model is cut, by which engine it runs, how its ranks talk, where each stands. */
export interface Binding {
  readonly strategy: GroupStrategy
  readonly engine: Engine
  readonly transport: Transport
  readonly planHash: string
  readonly members: readonly Member[]
}

/** Not bound (pending or unplaceable): no members, and nothing of the rest of a binding. */
export interface ShardGroupSpec extends Pick<Binding, 'members'>, Partial<Omit<Binding, 'members'>> {
  readonly deployment: string
  readonly replica: number
  readonly revision: number
  /** Incarnation, from 1. Every rank restarts together: a ring that lost a member cannot re-admit it. */
  readonly epoch: number
  /** The highest epoch of a successor that was given up: no other one may be called so. Absent: there was none. */
  readonly givenUpEpoch?: number
  /** The planned successor: its ranks fetch and prepare while the old epoch serves. */
  readonly next: NextEpoch | null
}

export interface NextEpoch extends Binding {
  /** It starts on other nodes while the old epoch still serves, which stops once this one is Ready. */
  readonly startFirst?: boolean
  readonly epoch: number
  readonly revision: number
}

/** undefined: the group is not bound. */
export function bindingOf(spec: ShardGroupSpec): Binding | undefined {
  const { strategy, engine, transport, planHash, members } = spec
  if (members.length === 0) return undefined
  if (strategy === undefined || engine === undefined || transport === undefined || planHash === undefined)
    return undefined
  return { strategy, engine, transport, planHash, members }
}

/** The spec of a group that has given up its place. */
export function unboundOf(spec: ShardGroupSpec): ShardGroupSpec {
  const { strategy: _, engine: __, transport: ___, planHash: ____, ...rest } = spec
  return { ...withoutNext(rest), members: [] }
}

/** The spec of a group whose planned successor is given up: its ranks may have met already. */
export function withoutNext<S extends Pick<ShardGroupSpec, 'next' | 'givenUpEpoch'>>(spec: S): S {
  if (spec.next === null) return spec
  return { ...spec, next: null, givenUpEpoch: Math.max(spec.givenUpEpoch ?? 0, spec.next.epoch) }
}

export type GroupPhase = 'Pending' | 'Fetching' | 'Preparing' | 'Starting' | 'Ready' | 'Stopping' | 'Backoff' | 'Failed'

/** The rank that failed on its own; what the survivors said afterwards is secondary. */
export interface FirstCause {
  readonly shard: string
  readonly node: string
  readonly rank: number
  readonly epoch: number
  readonly reason: string
  readonly message: string
  readonly code?: number
  readonly signal?: string
  readonly atMs: number
  readonly lastLogLines?: readonly string[]
}

export interface ShardGroupStatus {
  readonly phase?: GroupPhase
  /** Scheduled, Ready; SuccessorPrepared while there is a successor, Leaving while its node is being drained. */
  readonly conditions?: readonly Condition[]
  /** Failures since the group was last good for 10 minutes; the exponent of the backoff. */
  readonly restarts?: number
  readonly firstCause?: FirstCause
  /** How many times in a row the group failed to load, each time for the same cause. */
  readonly loadFailures?: number
  /** No new epoch starts before this time of the server's clock. */
  readonly backoffUntilMs?: number
  readonly readySinceMs?: number
  /** Of the epoch that is being prepared. */
  readonly fetch?: FetchStatus
  /** Why the successor came to nothing so far, while the old epoch serves. */
  readonly setback?: Setback
}

/** Bytes that the ranks have fetched, and when that last grew. */
export interface FetchStatus {
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedAtMs: number
}

export interface Setback {
  /** In a row. */
  readonly failures: number
  readonly message: string
  readonly retryAtMs: number
}

export interface ShardGroup {
  readonly apiVersion: string
  readonly kind: 'ShardGroup'
  readonly metadata: ObjectMeta
  readonly spec: ShardGroupSpec
  readonly status?: ShardGroupStatus
}

/** `<deployment>-<replica>` */
export const groupName = (deployment: string, replica: number): string => `${deployment}-${replica}`
