/**
 * The planned successor of a group that serves: its Shards are made, fetch and prepare while the old epoch answers, and
 * only then the old one stops. What does not serve any more is not waited for.
 */
import { findCondition, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import type { Shard } from '../api/shard.ts'
import type { FetchStatus, NextEpoch, Setback, ShardGroup, ShardGroupStatus } from '../api/shardgroup.ts'
import { withoutNext } from '../api/shardgroup.ts'
import type { BackoffPolicy } from '../lib/backoff.ts'
import { backoffMs } from '../lib/backoff.ts'
import { formatBytes } from '../lib/quantity.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, isBeingDeleted, setSpec, soonest } from './actions.ts'
import type { GroupScene } from './groupscene.ts'
import { nextEpochOf, nodesOf, sceneOf, successorScene } from './groupscene.ts'
import { makeShards } from './makeshards.ts'
import { isReady } from './nodelife.ts'
import { describeCause, failureOf, nextDeadlineMs } from './rankfailure.ts'
import { rendezvousActions } from './rendezvous.ts'
import { holdOf, pauseOf } from './rollout.ts'
import type { World } from './world.ts'

const retry: BackoffPolicy = { firstMs: 10_000, factor: 2, maxMs: 5 * 60_000, jitter: 0 }

export type SuccessorStep =
  /** `seamless`: the successor is Ready already, so that the group never stops answering. */
  | { readonly kind: 'Promote'; readonly seamless: boolean }
  | {
      readonly kind: 'Wait'
      readonly actions: readonly StoreAction[]
      /** undefined: there is no successor any more. */
      readonly condition: ConditionUpdate | undefined
      readonly fetch?: FetchStatus
      readonly setback?: Setback
      readonly waitMs?: number
    }

/** What the successor needs next. */
export function planSuccessor(scene: GroupScene, next: NextEpoch): SuccessorStep {
  const { upcoming, nowMs } = scene
  if (!runs(scene)) return { kind: 'Promote', seamless: false }
  const lost = next.members.map((m) => m.node).filter((node) => !isReady(scene.nodeOf(node)))
  if (lost.length > 0) return drop(scene, `no contact with ${lost.join(', ')}`)
  if (scene.group.spec.members.some((m) => !isReady(scene.nodeOf(m.node)))) return { kind: 'Promote', seamless: false }

  const { setback } = scene.group.status ?? {}
  const leftMs = (setback?.retryAtMs ?? 0) - nowMs
  if (setback !== undefined && upcoming.length === 0 && leftMs > 0) return { ...waitForRetry(setback), waitMs: leftMs }
  if (upcoming.length === 0) return make(scene, next)
  const failure = failureOf(successorScene(scene, next))
  if (failure !== undefined) return setBack(scene, next, describeCause(failure))
  return next.startFirst === true ? startFirst(scene, next) : stopFirst(scene, next)
}

/** Every process of the epoch answers, and none was said to have failed: it is worth waiting for. */
function runs({ group, current }: GroupScene): boolean {
  const ready = findCondition(group.status?.conditions, 'Ready')
  if (ready?.status !== 'True' && ready?.reason !== 'NodeNotReady') return false
  const all = current.length > 0 && current.length === group.spec.members.length
  return all && current.every((s) => s.status?.phase === 'Ready' && !isBeingDeleted(s))
}

/** The plan is given up, and made anew by whoever made it. */
function drop({ group, upcoming }: GroupScene, why: string): SuccessorStep {
  const message = `epoch ${group.spec.next?.epoch ?? 0} is given up before it served: ${why}`
  return {
    kind: 'Wait',
    actions: [...withoutSuccessor(group, upcoming), event(group, 'Warning', 'SuccessorDropped', message)],
    condition: undefined,
  }
}

const withoutSuccessor = (group: ShardGroup, upcoming: readonly Shard[]): readonly StoreAction[] => [
  setSpec(group, withoutNext(group.spec)),
  ...deleted(upcoming),
]

/** Takes the successor of a serving group back: its Shards go in the same transaction. */
export const takeBackSuccessor = (world: World, group: ShardGroup): readonly StoreAction[] =>
  withoutSuccessor(group, sceneOf(world, group, 0).upcoming)

const deleted = (shards: readonly Shard[]): readonly StoreAction[] =>
  shards.filter((s) => !isBeingDeleted(s)).map((object) => ({ action: 'delete', object }))

type Waiting = SuccessorStep & { readonly kind: 'Wait' }

function waitForRetry({ failures, message }: Setback): Waiting {
  const text = `the old epoch serves on; tried ${failures === 1 ? 'once' : `${failures} times`}: ${message}`
  return { kind: 'Wait', actions: [], condition: notPrepared('Setback', text) }
}

function make(scene: GroupScene, next: NextEpoch): SuccessorStep {
  const made = makeShards(successorScene(scene, next))
  if (made.kind === 'Waiting') return { kind: 'Wait', actions: [], condition: notPrepared(made.reason, made.message) }
  return {
    kind: 'Wait',
    actions: made.shards.map((object): StoreAction => ({ action: 'create', object })),
    condition: notPrepared('Preparing', `${nameOf(next)} fetches the model and takes its ports`),
  }
}

/** The old epoch never suffers from what becomes of the new one; that one is tried again, as yet another epoch. */
function setBack({ world, group, upcoming, nowMs }: GroupScene, next: NextEpoch, message: string): SuccessorStep {
  const failures = (group.status?.setback?.failures ?? 0) + 1
  const delayMs = backoffMs(retry, failures, 0)
  const spec = { ...group.spec, next: { ...next, epoch: nextEpochOf(world, group) } }
  const setback = { failures, message, retryAtMs: nowMs + delayMs }
  const text = `${nameOf(next)} failed, epoch ${group.spec.epoch} serves on: ${message}`
  return {
    ...waitForRetry(setback),
    actions: [setSpec(group, spec), ...deleted(upcoming), event(group, 'Warning', 'SuccessorFailed', text)],
    setback,
    waitMs: delayMs,
  }
}

/** Prepared beside the old epoch, started after it. */
function stopFirst(scene: GroupScene, next: NextEpoch): SuccessorStep {
  if (scene.upcoming.some((s) => s.status?.phase !== 'Prepared')) return preparing(scene, next)
  const hold = holdOf(scene, next)
  if (hold === undefined) return { kind: 'Promote', seamless: false }
  const message = `${nameOf(next)} is prepared and waits: ${hold.message}`
  return { kind: 'Wait', actions: [], condition: prepared(hold.reason, message) }
}

/** Started beside the old epoch, on nodes where nothing of the group runs. */
function startFirst(scene: GroupScene, next: NextEpoch): SuccessorStep {
  const { upcoming, nowMs } = scene
  if (upcoming.every((s) => s.status?.phase === 'Ready')) {
    const hold = pauseOf(scene, next)
    if (hold === undefined) return { kind: 'Promote', seamless: true }
    return { kind: 'Wait', actions: [], condition: prepared(hold.reason, hold.message) }
  }
  const successor = successorScene(scene, next)
  const actions = rendezvousActions(successor)
  const started = actions.length > 0 || upcoming.some((s) => s.spec.rendezvous !== null)
  if (!started) return preparing(scene, next)
  const deadlineMs = nextDeadlineMs(successor)
  const message = `${nameOf(next)} starts on ${nodesOf(next.members)} while epoch ${scene.group.spec.epoch} serves`
  return {
    kind: 'Wait',
    actions,
    condition: prepared('Starting', message),
    ...soonest(deadlineMs === undefined ? undefined : deadlineMs - nowMs),
  }
}

function preparing(scene: GroupScene, next: NextEpoch): SuccessorStep {
  const fetch = fetchOf(scene.upcoming, scene.group.status?.fetch, scene.nowMs)
  const fetching = scene.upcoming.some((s) => s.status?.phase === 'Fetching')
  const ranks = scene.upcoming.map((s) => `rank ${s.spec.rank} on ${s.spec.nodeName}: ${s.status?.phase ?? 'Pending'}`)
  const far = fetch === undefined ? '' : ` (${formatBytes(fetch.doneBytes)} of ${formatBytes(fetch.totalBytes)})`
  const message = `${nameOf(next)}: ${ranks.join(', ')}${fetching ? far : ''}`
  return {
    kind: 'Wait',
    actions: [],
    condition: notPrepared(fetching ? 'Fetching' : 'Preparing', message),
    ...(fetch === undefined ? {} : { fetch }),
  }
}

/** What the ranks have fetched together; the time moves only when that grows. undefined: nothing is told of it. */
export function fetchOf(
  shards: readonly Shard[],
  before: FetchStatus | undefined,
  nowMs: number,
): FetchStatus | undefined {
  const told = shards.flatMap((s) => s.status?.progress ?? [])
  if (told.length === 0) return before
  const doneBytes = told.reduce((sum, p) => sum + p.doneBytes, 0)
  const totalBytes = told.reduce((sum, p) => sum + p.totalBytes, 0)
  if (before?.doneBytes === doneBytes && before.totalBytes === totalBytes) return before
  return { doneBytes, totalBytes, movedAtMs: nowMs }
}

const TYPE = 'SuccessorPrepared'
const nameOf = ({ epoch, revision }: NextEpoch): string => `epoch ${epoch} (revision ${revision})`
const prepared = (reason: string, message: string): ConditionUpdate => ({ type: TYPE, status: 'True', reason, message })
const notPrepared = (reason: string, message: string): ConditionUpdate => ({
  type: TYPE,
  status: 'False',
  reason,
  message,
})

/** The status without what it said of a successor, and of leaving. */
export function withoutSuccessorStatus(status: ShardGroupStatus): ShardGroupStatus {
  const { fetch: _, setback: __, conditions = [], ...rest } = status
  return { ...rest, conditions: conditions.filter(({ type }) => type !== TYPE && type !== 'Leaving') }
}

/** The plan of the serving epoch, with what is done for and said of its successor. */
export function withSuccessor(own: Plan, scene: GroupScene, step: Waiting): Plan {
  const { group, nowMs } = scene
  const { condition, fetch, setback } = step
  const told = (status: ShardGroupStatus): ShardGroupStatus =>
    condition === undefined
      ? withoutSuccessorStatus(status)
      : {
          ...status,
          ...(fetch === undefined ? {} : { fetch }),
          ...(setback === undefined ? {} : { setback }),
          conditions: setConditions(status.conditions, [condition], nowMs),
        }
  const actions = own.actions.map((action) =>
    action.action === 'setStatus' && action.object.metadata.uid === group.metadata.uid
      ? { ...action, status: told(action.status as ShardGroupStatus) }
      : action,
  )
  return {
    actions: [...actions, ...step.actions],
    report: [...own.report, ...(condition === undefined ? [] : [`${condition.reason}: ${condition.message}`])],
    ...soonest(own.waitMs, step.waitMs),
  }
}

/** Why the successor of a serving group is not there yet, as the group says it. */
export const successorMessage = (group: ShardGroup): string | undefined =>
  group.spec.next === null ? undefined : findCondition(group.status?.conditions, TYPE)?.message
