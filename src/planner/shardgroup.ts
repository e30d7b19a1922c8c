/**
 * The life of one ShardGroup, a gang: bound → Shards of the epoch → all Prepared → rendezvous → all Ready; any rank
 * lost ⇒ the whole group re-forms under the next epoch. Every step is decided afresh from one snapshot; where and
 * whether it is bound is decided by deployment.ts.
 */
import { isTrue, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import type { Shard, ShardPhase } from '../api/shard.ts'
import type { GroupPhase, NextEpoch, ShardGroup, ShardGroupStatus } from '../api/shardgroup.ts'
import { bindingOf } from '../api/shardgroup.ts'
import { CHILDREN_FINALIZER } from '../api/words.ts'
import { counted } from '../lib/counted.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, isBeingDeleted, removeFinalizer, setSpec, setStatus, soonest } from './actions.ts'
import { NOT_BOUND, blockingShards, holdingRendezvous, nodesOf, notReady, sceneOf, statusOf } from './groupscene.ts'
import type { GroupScene } from './groupscene.ts'
import { makeShards } from './makeshards.ts'
import { isReady } from './nodelife.ts'
import { hasGivenUp } from './loadfailure.ts'
import { describeCause, failureOf, nextDeadlineMs, refineCause } from './rankfailure.ts'
import { backoffLeftMs, evictionOf, reform, RESTARTS_FORGOTTEN_AFTER_MS, waitingForRetry } from './reform.ts'
import { RENDEZVOUS_WINDOW_MS, rendezvousActions } from './rendezvous.ts'
import { recreateHold } from './rollout.ts'
import { fetchOf, planSuccessor, withoutSuccessorStatus, withSuccessor } from './successor.ts'
import type { World } from './world.ts'

export function planShardGroup(world: World, group: ShardGroup, nowMs: number): Plan {
  const scene = sceneOf(world, group, nowMs)
  if (isBeingDeleted(group)) return planStop(scene)
  if (group.spec.next !== null) return planNext(scene, group.spec.next)
  const binding = bindingOf(group.spec)
  if (binding === undefined) return planUnbound(scene)
  if (!scene.formed) return planForming(scene)
  if (group.spec.members.some((m) => scene.nodeOf(m.node) === undefined)) return planNodeGone(scene)

  const failure = failureOf(scene)
  return failure === undefined ? planStart(scene) : reform(scene, binding, failure)
}

/** Deletion: the Shards go first; the group vanishes when no process of it is left. */
function planStop(scene: GroupScene): Plan {
  const { group } = scene
  const shards = [...scene.current, ...scene.upcoming, ...scene.older]
  if (shards.length === 0)
    return {
      actions: [removeFinalizer(group, CHILDREN_FINALIZER)],
      report: ['Deleted: no shard of the group is left'],
    }
  const message = `waiting for ${counted(shards.length, 'shard')} to stop`
  const actions = [
    ...deletions(shards),
    setStatus(group, statusOf(scene, { phase: 'Stopping' }, [notReady('Stopping', message)])),
  ]
  if (group.status?.phase !== 'Stopping') actions.push(event(group, 'Normal', 'Stopping', message))
  return { actions, report: [`Stopping: ${message}`] }
}

/** While the group serves its successor is brought near; then it takes over. */
function planNext(scene: GroupScene, next: NextEpoch): Plan {
  const step = planSuccessor(scene, next)
  if (step.kind === 'Wait') return withSuccessor(planStart(scene), scene, step)
  return step.seamless ? planHandOver(scene, next) : planPromotion(scene, next)
}

/** The successor is Ready on other nodes: it is routed from this transaction on, and the old Shards go. */
function planHandOver(scene: GroupScene, next: NextEpoch): Plan {
  const { group, nowMs, upcoming } = scene
  const message = `epoch ${next.epoch} on ${nodesOf(next.members)} took over from epoch ${group.spec.epoch} on ${nodesOf(group.spec.members)} without a gap`
  const ready = allReady(upcoming.length, next.epoch)
  const conditions = setConditions(withoutSuccessorStatus(group.status ?? {}).conditions, [ready], nowMs)
  return {
    actions: [
      setSpec(group, promoted(group, next)),
      setStatus(group, { phase: 'Ready', readySinceMs: nowMs, restarts: 0, conditions }),
      ...deletions([...scene.current, ...scene.older]),
      event(group, 'Normal', 'TookOver', message),
    ],
    report: [`TookOver: ${message}`],
  }
}

function promoted({ spec }: ShardGroup, { startFirst: _, ...next }: NextEpoch): ShardGroup['spec'] {
  return { ...spec, ...next, next: null }
}

/** The successor becomes current and the old Shards are deleted, in one transaction: never two epochs routed. */
function planPromotion(scene: GroupScene, next: NextEpoch): Plan {
  const { group, nowMs } = scene
  const sameRevision = next.revision === group.spec.revision
  const { restarts, loadFailures, backoffUntilMs, firstCause } = group.status ?? {}
  // A new template starts with a clean slate: what crashed may be what it mends.
  const kept: ShardGroupStatus = sameRevision
    ? {
        ...(restarts === undefined ? {} : { restarts }),
        ...(loadFailures === undefined ? {} : { loadFailures }),
        ...(backoffUntilMs === undefined ? {} : { backoffUntilMs }),
        ...(firstCause === undefined ? {} : { firstCause }),
      }
    : {}
  const inBackoff = kept.backoffUntilMs !== undefined && backoffLeftMs(scene) > 0
  const retry = waitingForRetry(kept)
  const message = `epoch ${next.epoch} follows epoch ${group.spec.epoch}`
  const condition =
    inBackoff && hasGivenUp(kept) ? notReady(retry.reason, retry.message) : notReady('Reforming', message)
  const status: ShardGroupStatus = {
    ...kept,
    phase: inBackoff ? retry.phase : 'Stopping',
    conditions: setConditions(withoutSuccessorStatus(group.status ?? {}).conditions, [condition], nowMs),
  }
  const failure = isTrue(group.status?.conditions, 'Ready') ? failureOf(scene) : undefined
  return {
    actions: [
      ...(failure === undefined ? [] : [event(group, 'Warning', 'RankFailed', describeCause(failure))]),
      setSpec(group, promoted(group, next)),
      setStatus(group, status),
      ...deletions(
        [...scene.current, ...scene.older],
        firstCause?.epoch === group.spec.epoch ? 'GroupFailed' : undefined,
      ),
      event(group, 'Normal', 'Reforming', `${message} on ${nodesOf(next.members)}`),
    ],
    report: [`Reforming: ${message}`],
  }
}

function planUnbound(scene: GroupScene): Plan {
  const shards = [...scene.current, ...scene.older]
  const evicted = evictionOf(scene.group)
  const why = evicted ?? NOT_BOUND
  const status = statusOf(scene, { phase: 'Pending' }, [
    notReady(evicted === undefined ? 'NotScheduled' : 'MemoryPressure', why),
  ])
  return {
    actions: [...deletions(shards, evicted === undefined ? undefined : 'GroupFailed'), setStatus(scene.group, status)],
    report: [`Pending: ${why}`],
  }
}

/** Bound, and no Shard of the epoch made yet. */
function planForming(scene: GroupScene): Plan {
  const { group, older } = scene
  const blocking = blockingShards(scene)
  const leftMs = backoffLeftMs(scene)
  const firstCause = refineCause(scene)
  const wait = (phase: GroupPhase, reason: string, message: string, waitMs?: number): Plan => ({
    actions: [
      ...deletions(older),
      setStatus(group, statusOf(scene, { phase, ...firstCause }, [scheduled(scene), notReady(reason, message)])),
    ],
    report: [`${phase}: ${message}`],
    ...soonest(waitMs),
  })
  if (leftMs > 0) {
    const { phase, reason, message } = waitingForRetry({ ...group.status, ...firstCause })
    return wait(phase, reason, message, leftMs)
  }
  if (blocking.length > 0) {
    const { reason, message } = waitingForOld(blocking)
    return wait('Stopping', reason, message)
  }

  const made = makeShards(scene)
  if (made.kind === 'Waiting') return wait('Pending', made.reason, made.message)
  const message = `epoch ${group.spec.epoch} on ${nodesOf(group.spec.members)}`
  const conditions = [scheduled(scene), notReady('Preparing', 'the ranks fetch the model and take their ports')]
  return {
    actions: [
      ...deletions(older),
      ...made.shards.map((object): StoreAction => ({ action: 'create', object })),
      setStatus(group, statusOf(scene, { phase: 'Preparing' }, conditions)),
      event(group, 'Normal', 'ShardsCreated', `created ${counted(made.shards.length, 'shard')} of ${message}`),
    ],
    report: [`Preparing: ${message}`],
  }
}

/** A member's Node object was deleted: what ran there is released; only a new plan can help. */
function planNodeGone(scene: GroupScene): Plan {
  const gone = scene.group.spec.members.filter((m) => scene.nodeOf(m.node) === undefined).map((m) => m.node)
  const message = `nodes that are no longer part of the cluster: ${[...new Set(gone)].join(', ')}`
  const status = statusOf(scene, {}, [notReady('NodeGone', message)])
  return { actions: [setStatus(scene.group, status)], report: [`NodeGone: ${message}`] }
}

/** Formed, and no rank has failed: on to Ready, and staying so. */
function planStart(scene: GroupScene): Plan {
  const { group, current, older, nowMs } = scene
  const phases = current.map((s) => s.status?.phase ?? 'Pending')
  if (phases.every((p) => p === 'Ready')) return planReady(scene)

  const waitMs = nextDeadlineMs(scene)
  const rendezvous = rendezvousActions(scene)
  const phase = rendezvous.length > 0 ? 'Starting' : gangPhase(current, phases)
  const message = current
    .map((s, i) => `rank ${s.spec.rank} on ${s.spec.nodeName}: ${phases[i] ?? 'Pending'}`)
    .join(', ')
  const silent = silentNodes(scene)
  const held = rendezvous.length === 0 ? startHold(scene) : undefined
  const condition = silent.length > 0 ? nodeNotReady(silent) : (held ?? notReady(phase, message))
  const fetch = fetchOf(current, group.status?.fetch, nowMs)
  const actions = [
    ...deletions(older),
    ...rendezvous,
    setStatus(
      group,
      withoutReadySince(statusOf(scene, { phase, ...(fetch && { fetch }) }, [scheduled(scene), condition])),
    ),
  ]
  if (rendezvous.length > 0)
    actions.push(
      event(
        group,
        'Normal',
        'Starting',
        `${everyRank(current.length)} prepared: rendezvous of epoch ${group.spec.epoch}`,
      ),
    )
  const startBy = rendezvous.length > 0 ? RENDEZVOUS_WINDOW_MS : undefined
  return {
    actions,
    report: [`${phase}: ${message}`],
    ...soonest(waitMs === undefined ? undefined : waitMs - nowMs, startBy),
  }
}

/** All are prepared, and something older must be gone before they may meet. */
function startHold(scene: GroupScene): ConditionUpdate | undefined {
  if (scene.current.some((s) => s.status?.phase !== 'Prepared')) return undefined
  const holding = holdingRendezvous(scene)
  if (holding.length > 0) return waitingForOld(holding)
  const hold = recreateHold(scene)
  return hold && notReady(hold.reason, hold.message)
}

const waitingForOld = (shards: readonly Shard[]): ConditionUpdate => {
  const names = shards.map((s) => `${s.metadata.name} on ${s.spec.nodeName}`).join(', ')
  return notReady('WaitingForOldEpoch', `waiting for shards of an older epoch to stop: ${names}`)
}

function planReady(scene: GroupScene): Plan {
  const { group, current, older, nowMs } = scene
  const { restarts = 0, loadFailures = 0, readySinceMs = nowMs, conditions } = group.status ?? {}
  const forgetMs = readySinceMs + RESTARTS_FORGOTTEN_AFTER_MS - nowMs
  const silent = silentNodes(scene)
  const ready = silent.length > 0 ? nodeNotReady(silent) : allReady(current.length, group.spec.epoch)
  const before = conditions?.find((c) => c.type === 'Ready')
  const counts = { restarts: forgetMs <= 0 ? 0 : restarts, ...(loadFailures > 0 ? { loadFailures: 0 } : {}) }
  const status = statusOf(scene, { phase: 'Ready', readySinceMs, ...counts }, [scheduled(scene), ready])
  const actions = [...deletions(older), setStatus(group, status)]
  if (before?.status !== ready.status || before.reason !== ready.reason) {
    if (ready.status === 'True') actions.push(event(group, 'Normal', 'Ready', ready.message))
    else actions.push(event(group, 'Warning', 'NodeNotReady', ready.message))
  }
  return {
    actions,
    report: [`${ready.reason}: ${ready.message}`],
    ...soonest(restarts > 0 && forgetMs > 0 ? forgetMs : undefined),
  }
}

const everyRank = (n: number): string => (n === 1 ? 'the only rank is' : `all ${n} ranks are`)
const ranksOf = (n: number, epoch: number): string =>
  n === 1 ? `the only rank of epoch ${epoch} is` : `all ${n} ranks of epoch ${epoch} are`

const allReady = (n: number, epoch: number): ConditionUpdate => ({
  type: 'Ready',
  status: 'True',
  reason: 'AllRanksReady',
  message: `${ranksOf(n, epoch)} ready`,
})

const gangPhase = (current: readonly Shard[], phases: readonly ShardPhase[]): GroupPhase =>
  current.some((s) => s.spec.rendezvous !== null) ? 'Starting' : phases.includes('Fetching') ? 'Fetching' : 'Preparing'

const silentNodes = (scene: GroupScene): readonly string[] => [
  ...new Set(scene.group.spec.members.map((m) => m.node).filter((name) => !isReady(scene.nodeOf(name)))),
]

const deletions = (shards: readonly Shard[], stopReason?: string): StoreAction[] =>
  shards
    .filter((s) => !isBeingDeleted(s))
    .map((object) => ({ action: 'delete', object, ...(stopReason === undefined ? {} : { stopReason }) }))

const nodeNotReady = (silent: readonly string[]): ConditionUpdate =>
  notReady('NodeNotReady', `no contact with ${silent.join(', ')}: not routed, and left running`)

const scheduled = ({ group }: GroupScene): ConditionUpdate => ({
  type: 'Scheduled',
  status: 'True',
  reason: 'Scheduled',
  message: `${group.spec.strategy ?? 'bound'} on ${nodesOf(group.spec.members)}`,
})

function withoutReadySince(status: ShardGroupStatus): ShardGroupStatus {
  const { readySinceMs: _, ...rest } = status
  return rest
}
