/**
 * A group that cannot load: it failed before it ever was Ready in its epoch, and again, for the same cause. Three times
 * the same is not bad luck: it is said to be Failed, with what to do, and tried only every five minutes.
 */
import type { FirstCause, ShardGroupStatus } from '../api/shardgroup.ts'
import { isItsOwn } from './rankfailure.ts'

/** Identical load failures in a row that make a group Failed. */
export const LOAD_FAILURES_MAX = 3
/** How often a Failed group is tried. */
export const FAILED_RETRY_MS = 5 * 60_000

/** Ends that say nothing of whether the group can load: nodes, agents and people came between. */
const unrelated = new Set([
  'ShardDeleted',
  'ShardGone',
  'ShardhostLost',
  'StartWindowMissed',
  'Stopped',
  'MemoryPressure',
])

/** Identical load failures in a row, this one counted; 0 once the group was Ready in between. */
export function loadFailuresAfter(status: ShardGroupStatus | undefined, cause: FirstCause): number {
  const { readySinceMs, firstCause, loadFailures = 0 } = status ?? {}
  const isLoading = isItsOwn(cause) || cause.reason === 'StartDeadline'
  if (readySinceMs !== undefined || unrelated.has(cause.reason) || !isLoading) return 0
  return firstCause !== undefined && loadFailures > 0 && isSame(firstCause, cause) ? loadFailures + 1 : 1
}

/** Has failed to load so often that only somebody's help will do. */
export const hasGivenUp = (status: ShardGroupStatus | undefined): boolean =>
  (status?.loadFailures ?? 0) >= LOAD_FAILURES_MAX

function isSame(a: FirstCause, b: FirstCause): boolean {
  return a.reason === b.reason && a.code === b.code && a.signal === b.signal && plain(a.message) === plain(b.message)
}

/** Without what differs from try to try: numbers, addresses, paths of the shard's own folder. */
const plain = (message: string): string => message.replace(/0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+/gi, '#')
