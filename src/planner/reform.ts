/**
 * A rank failed: the whole group goes on under the next epoch, in the same bytes, after a backoff. A ring that lost a
 * member cannot re-admit it, so the old epoch must never answer again.
 */
import { findCondition } from '../api/conditions.ts'
import { timestamp } from '../api/meta.ts'
import type { Binding, FirstCause, NextEpoch, ShardGroup, ShardGroupStatus } from '../api/shardgroup.ts'
import { unboundOf } from '../api/shardgroup.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Plan } from './actions.ts'
import { event, setSpec, setStatus } from './actions.ts'
import { FAILED_RETRY_MS, hasGivenUp, loadFailuresAfter } from './loadfailure.ts'
import { describeCause } from './rankfailure.ts'
import type { GroupScene } from './groupscene.ts'
import { nextEpochOf, notReady, statusOf } from './groupscene.ts'
import { remedyOf } from './remedy.ts'

/** 2 s ×2 ≤ 300 s (DESIGN §10a). No chance in it: a gang restarts on its own nodes and meets no herd. */
const crashBackoff = { firstMs: 2_000, factor: 2, maxMs: 300_000, jitter: 0 }
export const RESTARTS_FORGOTTEN_AFTER_MS = 10 * 60_000

export function reform(scene: GroupScene, binding: Binding, cause: FirstCause): Plan {
  const { group, nowMs } = scene
  const { restarts: before = 0, readySinceMs } = group.status ?? {}
  const wasGood = readySinceMs !== undefined && nowMs - readySinceMs >= RESTARTS_FORGOTTEN_AFTER_MS
  const restarts = (wasGood ? 0 : before) + 1
  // An exit without a time of its own is dated now.
  const firstCause = { ...cause, atMs: Math.min(cause.atMs, nowMs) }
  const loadFailures = loadFailuresAfter(group.status, firstCause)
  const delayMs = hasGivenUp({ loadFailures }) ? FAILED_RETRY_MS : backoffMs(crashBackoff, restarts, 0)
  const { revision } = group.spec
  const epoch = nextEpochOf(scene.world, group)
  const next: NextEpoch = { ...binding, epoch, revision }
  const counts = { restarts, loadFailures, firstCause, backoffUntilMs: nowMs + delayMs }
  if (cause.reason === 'MemoryPressure') return giveUpPlace(scene, epoch, counts)
  const message = describeCause(firstCause)
  const { phase, reason, message: why } = waitingForRetry(counts)
  const { readySinceMs: _, ...failed } = statusOf(scene, { phase, ...counts }, [
    hasGivenUp(counts) ? notReady(reason, why) : notReady('RankFailed', message),
  ])
  const events = [event(group, 'Warning', 'RankFailed', message)]
  if (hasGivenUp(counts)) events.push(event(group, 'Warning', 'LoadFailed', failedText(counts)))
  else
    events.push(
      event(group, 'Warning', 'BackOff', `epoch ${epoch} starts in ${delayMs / 1000} s (restart ${restarts})`),
    )
  return {
    actions: [setSpec(group, { ...group.spec, next }), setStatus(group, failed), ...events],
    report: [`RankFailed: ${message}`, `${hasGivenUp(counts) ? 'LoadFailed' : 'BackOff'}: ${delayMs / 1000} s`],
  }
}

/** Coming back where there was no memory would only take it away again: the group is planned anew, or waits. */
function giveUpPlace(scene: GroupScene, epoch: number, counts: Partial<ShardGroupStatus>): Plan {
  const { group } = scene
  const message = evictionText(counts.firstCause)
  const { readySinceMs: _, ...status } = statusOf(scene, { phase: 'Pending', ...counts }, [notReady(EVICTED, message)])
  // An unbound group's epoch was never used: the next binding takes it as it is.
  const spec = { ...unboundOf(group.spec), epoch }
  return {
    actions: [setSpec(group, spec), setStatus(group, status), event(group, 'Warning', 'Evicted', message)],
    report: [`Evicted: ${message}`],
  }
}

/** Why it is not Ready, as long as it is not bound again. */
const EVICTED = 'MemoryPressure'

const evictionText = (cause: FirstCause | undefined): string =>
  `gave up its place${cause === undefined ? '' : `: ${describeCause(cause)}`}`

/** Why a group without a place lost its last one, where that was for want of memory. */
export function evictionOf({ status }: ShardGroup): string | undefined {
  const ready = findCondition(status?.conditions, 'Ready')
  return ready?.reason === EVICTED ? evictionText(status?.firstCause) : undefined
}

/** What a group says of itself while no new epoch may start yet. */
export function waitingForRetry(status: ShardGroupStatus) {
  const { restarts = 0, backoffUntilMs = 0, firstCause } = status
  const untilText = timestamp(backoffUntilMs)
  if (hasGivenUp(status)) {
    const message = `${failedText(status)}; next try after ${untilText}`
    return { phase: 'Failed', reason: 'LoadFailed', message } as const
  }
  const cause = firstCause === undefined ? '' : `; ${describeCause(firstCause)}`
  return { phase: 'Backoff', reason: 'BackOff', message: `restart ${restarts} after ${untilText}${cause}` } as const
}

function failedText({ loadFailures = 0, firstCause }: ShardGroupStatus): string {
  if (firstCause === undefined) return `failed to load ${loadFailures} times`
  return `failed to load ${loadFailures} times in a row for the same cause: ${describeCause(firstCause)}; what to do: ${remedyOf(firstCause)}`
}

/**
 * Ms until a new epoch may start. The end of the backoff is a wall time: one that lies further off than any backoff
 * can be was written before the clock was set back, and counts for nothing.
 */
export function backoffLeftMs({ group, nowMs }: GroupScene): number {
  const leftMs = (group.status?.backoffUntilMs ?? 0) - nowMs
  return leftMs > Math.max(crashBackoff.maxMs, FAILED_RETRY_MS) ? 0 : Math.max(0, leftMs)
}
