/** What the agent says of one shard: its status as it is now, and the patch that tells the server what changed. Pure. */
import { isDeepStrictEqual } from 'node:util'
import { setConditions } from '../src/api/conditions.ts'
import type { ConditionUpdate } from '../src/api/conditions.ts'
import type { Condition } from '../src/api/meta.ts'
import type { Shard, ShardExit, ShardPhase, ShardStatus } from '../src/api/shard.ts'
import { isLeader } from '../src/api/shard.ts'
import type { Wait } from './actions.ts'
import type { LocalShard } from './hosts.ts'
import type { ShardNotes } from './plan.ts'
import { isAlive } from './plan.ts'

export interface StatusInput {
  readonly shard: Shard
  readonly local: LocalShard | undefined
  readonly notes: ShardNotes
  /** Why nothing happens yet, if so. */
  readonly wait: Wait | undefined
  /** Stamps transitions. */
  readonly nowMs: number
}

/** The status that the shard has now; undefined when there is nothing to say that the server does not know. */
export function shardStatus(input: StatusInput): ShardStatus | undefined {
  const { shard, local, notes } = input
  const uid = shard.metadata.uid
  const alive = local !== undefined && isAlive(local, notes.started)
  if (shard.metadata.deletionTimestamp !== undefined && !alive)
    return notes.busy.has(uid) || shard.status?.phase === 'Stopped' ? undefined : ended(input, 'Stopped', exitOf(input))
  if (!alive && (shard.status?.phase === 'Failed' || shard.status?.phase === 'Stopped')) return undefined
  // A verdict of ours (stalled) stands before its process is gone, and what the process says afterwards is secondary.
  const exit = alive ? notes.failures.get(uid) : exitOf(input)
  if (exit !== undefined) return ended(input, 'Failed', exit)
  if (local === undefined) return waiting(input)
  return living(input, local)
}

/** How a shard that does not live came to its end here; undefined when it never began or lives. */
function exitOf({ shard, local, notes, nowMs }: StatusInput): ShardExit | undefined {
  const failure = notes.failures.get(shard.metadata.uid)
  if (failure !== undefined) return failure
  if (local?.state?.phase === 'Exited')
    return (
      local.state.exit ??
      shard.status?.exit ?? { reason: 'EngineExited', message: 'the engine ended and left no word', atMs: nowMs }
    )
  if (local?.lost === true)
    return (
      local.state?.exit ??
      shard.status?.exit ?? {
        reason: 'ShardhostLost',
        message: 'the shardhost of the engine is gone (killed?), so its engine was stopped',
        atMs: nowMs,
      }
    )
  return shard.status?.exit
}

function ended(input: StatusInput, phase: 'Failed' | 'Stopped', exit: ShardExit | undefined): ShardStatus {
  const lines = input.local?.state?.lastLogLines ?? []
  const update: ConditionUpdate = {
    type: 'Ready',
    status: 'False',
    reason: exit?.reason ?? phase,
    message: exit?.message ?? (phase === 'Stopped' ? 'the shard is stopped' : 'the shard failed'),
  }
  return {
    phase,
    conditions: setConditions(input.shard.status?.conditions, [update], input.nowMs),
    ...(exit === undefined ? {} : { exit }),
    ...(lines.length === 0 ? {} : { lastLogLines: lines }),
  }
}

/** Not prepared yet. Only what keeps it waiting is worth a write. */
function waiting(input: StatusInput): ShardStatus | undefined {
  if (input.wait === undefined || input.wait.reason === 'Busy') return undefined
  const { reason, message, progress } = input.wait
  const phase = reason === 'Fetching' || reason === 'DiskFull' ? 'Fetching' : 'Pending'
  return { phase, conditions: notReady(input, reason, message), ...(progress === undefined ? {} : { progress }) }
}

function living(input: StatusInput, local: LocalShard): ShardStatus {
  const phase = livePhase(input, local)
  const { prepared, state } = local
  return {
    phase,
    ...(state?.enginePid === undefined ? {} : { pid: state.enginePid }),
    ...(isLeader(input.shard) ? { address: prepared.address, port: prepared.port } : {}),
    ringAddress: prepared.ringAddress,
    conditions:
      phase === 'Ready'
        ? setConditions(input.shard.status?.conditions, [readyCondition], input.nowMs)
        : notReady(input, phase, sentences[phase] ?? phase),
    ...(state?.progress === undefined || phase === 'Ready' ? {} : { progress: state.progress }),
  }
}

function livePhase({ notes }: StatusInput, local: LocalShard): ShardPhase {
  const phase = local.state?.phase
  if (phase !== undefined && phase !== 'Exited') return phase
  return isAlive(local, notes.started) ? 'Starting' : 'Prepared'
}

const readyCondition: ConditionUpdate = {
  type: 'Ready',
  status: 'True',
  reason: 'EngineReady',
  message: 'the engine answers',
}
const sentences: Partial<Record<ShardPhase, string>> = {
  Prepared: 'ports are taken and the model is verified',
  Starting: 'the engine was started and meets its ranks',
  Loading: 'the engine loads the model',
  Stopping: 'the engine was asked to stop',
}

const notReady = ({ shard, nowMs }: StatusInput, reason: string, message: string) =>
  setConditions(shard.status?.conditions, [{ type: 'Ready', status: 'False', reason, message }], nowMs)

const fields = [
  'phase',
  'pid',
  'address',
  'port',
  'ringAddress',
  'conditions',
  'progress',
  'exit',
  'lastLogLines',
] as const satisfies readonly (keyof ShardStatus)[]

export type StatusPatch = { readonly [K in keyof ShardStatus]?: ShardStatus[K] | null }

/** What stays as it was said once, though the process that had it is gone. */
const lasting: readonly (keyof ShardStatus)[] = ['pid', 'address', 'port', 'ringAddress', 'exit', 'lastLogLines']

/** The patch, by whole fields, from the status that the server holds to the one that is; undefined when they say the same. */
export function statusPatch(held: ShardStatus | undefined, now: ShardStatus): StatusPatch | undefined {
  const changes = fields.flatMap((field): [string, unknown][] => {
    const value = now[field]
    if (value === undefined) return held?.[field] === undefined || lasting.includes(field) ? [] : [[field, null]]
    return saysTheSame(field, value, held?.[field]) ? [] : [[field, value]]
  })
  return changes.length === 0 ? undefined : (Object.fromEntries(changes) as StatusPatch)
}

/** The server stamps conditions by its own clock: the time of a transition is not ours to compare. */
function saysTheSame(field: keyof ShardStatus, now: unknown, held: unknown): boolean {
  if (field !== 'conditions') return isDeepStrictEqual(now, held)
  const said = (conditions: unknown) =>
    ((conditions ?? []) as readonly Condition[]).map(({ type, status, reason, message }) => [
      type,
      status,
      reason,
      message,
    ])
  return isDeepStrictEqual(said(now), said(held))
}

export const PROGRESS_PERIOD_MS = 10_000
const PROGRESS_SHARE = 0.05

/** Progress alone is worth a write every 10 s or 5 %; everything else at once. */
export function isDue(held: ShardStatus | undefined, patch: StatusPatch, sinceLastMs: number): boolean {
  const { progress } = patch
  if (Object.keys(patch).some((key) => key !== 'progress') || progress === null || progress === undefined) return true
  const done = held?.progress?.doneBytes ?? 0
  const moved = Math.abs(progress.doneBytes - done) / Math.max(1, progress.totalBytes)
  return sinceLastMs >= PROGRESS_PERIOD_MS || moved >= PROGRESS_SHARE
}
