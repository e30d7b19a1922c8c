/** What a pass can decide for a shard: an action, or to wait and why. The vocabulary of plan.ts and the executors. */
import type { Shard, ShardExit } from '../src/api/shard.ts'

/** One list of actions: a new one does not compile without its executor. */
export interface ActionArgs {
  /** Drain, SIGTERM, grace, SIGKILL; the end is a change of the local shard. */
  readonly stopShard: {
    readonly shardUid: string
    readonly shardName: string
    readonly limits: StopLimits
    readonly reason: StopReason
  }
  /** Frees what an ended or never started shard holds. */
  readonly forgetShard: { readonly shardUid: string; readonly shardName: string }
  /** The shard is lost for this epoch: remember why, and never try it again in place. */
  readonly failShard: { readonly shardUid: string; readonly shardName: string; readonly exit: ShardExit }
  /** Begins to bring the model's files here; how far that is, is observed. */
  readonly fetchModel: { readonly shard: Shard }
  /** Takes ports and writes the handle. */
  readonly prepareShard: { readonly shard: Shard; readonly modelDir: string | undefined }
  readonly startShard: { readonly shard: Shard }
}
export type ActionKind = keyof ActionArgs
export type ActionOf<K extends ActionKind> = { readonly [P in K]: { readonly kind: P } & ActionArgs[P] }[K]
export type Action = ActionOf<ActionKind>

/** How long a stop may take (DESIGN §10a). */
export interface StopLimits {
  /** The leader answers what it has taken, and takes nothing new. */
  readonly drainMs: number
  /** From SIGTERM to SIGKILL. */
  readonly graceMs: number
}
export const PLANNED_STOP: StopLimits = { drainMs: 60_000, graceMs: 30_000 }

/** A stop with so many seconds in all: parted as a planned one is, and never longer than that. 0 kills at once. */
export function stopWithin(graceSeconds: number | undefined): StopLimits {
  const { drainMs, graceMs } = PLANNED_STOP
  const totalMs = graceSeconds === undefined ? drainMs + graceMs : Math.min(graceSeconds * 1000, drainMs + graceMs)
  const killMs = Math.round((totalMs * graceMs) / (drainMs + graceMs))
  return { drainMs: totalMs - killMs, graceMs: killMs }
}

/** After a rank's failure nobody can use what the others would still say. */
export const STOP_AFTER_FAILURE: StopLimits = { drainMs: 0, graceMs: 10_000 }

/** A host that hears nothing gets no time to obey. */
export const KILL: StopLimits = { drainMs: 0, graceMs: 0 }

export type StopReason = 'Deleted' | 'GroupFailed' | 'ShardFailed' | 'NotInList' | 'AgentStopping'

/** Nothing to do yet for this shard, and why. */
export interface Wait {
  readonly shardUid: string
  readonly shardName: string
  readonly reason:
    | 'Busy'
    | 'DiskFull'
    | 'Fetching'
    | 'ForeignShard'
    | 'ListNotRead'
    | 'ModelsNotScanned'
    | 'NotFenced'
    | 'OtherEpochAlive'
    | 'Rendezvous'
    | 'ServerTimeUnknown'
    | 'Stopping'
  readonly message: string
  /** Of a fetch. */
  readonly progress?: { readonly doneBytes: number; readonly totalBytes: number }
}

/** What a pass decides for one shard. */
export type Step = Action | Wait
export const isWait = (step: Step): step is Wait => !('kind' in step)

export const ofShard = (shard: Shard) => ({ shardUid: shard.metadata.uid, shardName: shard.metadata.name })

export const waitFor = (
  of: { shardUid: string; shardName: string },
  reason: Wait['reason'],
  message: string,
): Wait => ({
  shardUid: of.shardUid,
  shardName: of.shardName,
  reason,
  message,
})

export const fail = (shard: Shard, reason: string, message: string, nowMs: number): ActionOf<'failShard'> => ({
  kind: 'failShard',
  ...ofShard(shard),
  exit: { reason, message, atMs: nowMs },
})
