/**
 * A rank failed: the whole group goes on under the next epoch, in the same bytes, after a backoff. A ring that lost a
 * member cannot re-admit it, so the old epoch must never answer again.
 */
import type { FirstCause } from '../api/shardgroup.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Plan } from './actions.ts'
import { event, setSpec, setStatus } from './actions.ts'
import { describeCause } from './rankfailure.ts'
import type { GroupScene } from './groupscene.ts'
import { notReady, statusOf } from './groupscene.ts'

/** 2 s ×2 ≤ 300 s (DESIGN §10a). No chance in it: a gang restarts on its own nodes and meets no herd. */
const crashBackoff = { firstMs: 2_000, factor: 2, maxMs: 300_000, jitter: 0 }
export const RESTARTS_FORGOTTEN_AFTER_MS = 10 * 60_000

export function reform(scene: GroupScene, cause: FirstCause): Plan {
  const { group, nowMs } = scene
  const { restarts: before = 0, readySinceMs } = group.status ?? {}
  const wasGood = readySinceMs !== undefined && nowMs - readySinceMs >= RESTARTS_FORGOTTEN_AFTER_MS
  const restarts = (wasGood ? 0 : before) + 1
  const delayMs = backoffMs(crashBackoff, restarts, 0)
  const { revision, strategy, engine, transport, planHash, members, epoch } = group.spec
  const next = { epoch: epoch + 1, revision, strategy, engine, transport, planHash, members }
  // An exit without a time of its own is dated now.
  const firstCause = { ...cause, atMs: Math.min(cause.atMs, nowMs) }
  const message = describeCause(firstCause)
  const status = statusOf(scene, { phase: 'Backoff', restarts, firstCause, backoffUntilMs: nowMs + delayMs }, [
    notReady('RankFailed', message),
  ])
  const { readySinceMs: _, ...failed } = status
  return {
    actions: [
      setSpec(group, { ...group.spec, next }),
      setStatus(group, failed),
      event(group, 'Warning', 'RankFailed', message),
      event(group, 'Warning', 'BackOff', `epoch ${epoch + 1} starts in ${delayMs / 1000} s (restart ${restarts})`),
    ],
    report: [`RankFailed: ${message}`, `BackOff: ${delayMs / 1000} s`],
  }
}
