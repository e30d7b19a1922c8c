/** The status of a ModelDeployment from its groups: counts, conditions and why it is not Ready, in one place. */
import { findCondition, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import type { ModelDeploymentStatus } from '../api/modeldeployment.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { counted } from '../lib/counted.ts'
import { isBeingDeleted } from './actions.ts'
import type { Scheduling } from './binding.ts'
import type { DeploymentScene } from './deployment.ts'
import { describeCause } from './rankfailure.ts'
import { waitingForRetry } from './reform.ts'
import type { CurrentRevision } from './revisions.ts'
import { successorMessage } from './successor.ts'
import { isGroupReady } from './rollout.ts'

export interface RollUpInput {
  /** As the transaction leaves them. */
  readonly groups: readonly ShardGroup[]
  readonly current?: CurrentRevision
  readonly scheduling?: Scheduling
  readonly invalid?: { readonly reason: string; readonly message: string }
}

interface Counts {
  readonly wanted: number
  readonly bound: number
  readonly ready: number
  readonly updated: number
}

export function rollUp(scene: DeploymentScene, input: RollUpInput): { status: ModelDeploymentStatus; waitMs?: number } {
  const { deployment, nowMs, gatewayUrl } = scene
  const { status: old, metadata } = deployment
  const living = input.groups.filter((g) => !isBeingDeleted(g))
  const number = input.current?.number ?? old?.currentRevision
  const ready = living.filter(isGroupReady)
  const counts: Counts = {
    wanted: deployment.spec.replicas,
    bound: living.filter((g) => g.spec.members.length > 0).length,
    ready: ready.length,
    updated: living.filter((g) => g.spec.revision === number).length,
  }
  const progress = progressing(scene, input, counts)
  const updates = [
    valid(input),
    scheduled(scene, input, counts),
    available(scene, counts),
    progress.condition,
    readiness(living, input, counts),
  ].map((c) => ({ ...c, observedGeneration: metadata.generation }))
  const plan = input.scheduling?.plan ?? (counts.bound > 0 ? old?.plan : undefined)
  const status: ModelDeploymentStatus = {
    observedGeneration: metadata.generation,
    replicas: living.length,
    readyReplicas: counts.ready,
    updatedReplicas: counts.updated,
    ...(number === undefined ? {} : { currentRevision: number }),
    ...(counts.ready > 0 && gatewayUrl !== undefined ? { endpoint: gatewayUrl } : {}),
    ...(plan === undefined ? {} : { plan }),
    conditions: setConditions(old?.conditions, updates, nowMs),
  }
  return { status, ...(progress.waitMs === undefined ? {} : { waitMs: progress.waitMs }) }
}

export function deletingStatus({ deployment, groups, nowMs }: DeploymentScene): ModelDeploymentStatus {
  const message = `waiting for ${counted(groups.length, 'group')} to stop`
  const off = (type: string): ConditionUpdate => ({ type, status: 'False', reason: 'Deleting', message })
  const { endpoint: _, ...old } = deployment.status ?? {}
  const conditions = setConditions(old.conditions, [off('Available'), off('Ready')], nowMs)
  return { ...old, replicas: groups.length, readyReplicas: 0, conditions }
}

const valid = ({ invalid }: RollUpInput): ConditionUpdate =>
  invalid === undefined
    ? { type: 'Valid', status: 'True', reason: 'Valid', message: 'the spec can be served' }
    : { type: 'Valid', status: 'False', ...invalid }

function scheduled(
  { deployment }: DeploymentScene,
  { scheduling, invalid }: RollUpInput,
  counts: Counts,
): ConditionUpdate {
  const type = 'Scheduled'
  if (invalid !== undefined) return { type, status: 'False', reason: 'Invalid', message: invalid.message }
  if (scheduling?.pending !== undefined) return { type, ...scheduling.pending }
  const { wanted, bound } = counts
  if (bound >= wanted)
    return { type, status: 'True', reason: 'Scheduled', message: `${bound} of ${wanted} replicas are bound` }
  if (scheduling === undefined && deployment.spec.paused)
    return { type, status: 'False', reason: 'DeploymentPaused', message: 'spec.paused is set' }
  return { type, status: 'False', reason: 'Scheduling', message: `${bound} of ${wanted} replicas are bound so far` }
}

/** With maxUnavailable away it still counts as available, but never with none at all. */
function available({ deployment }: DeploymentScene, { wanted, ready }: Counts): ConditionUpdate {
  const least = Math.min(wanted, Math.max(1, wanted - deployment.spec.update.maxUnavailable))
  const message = `${ready} of ${wanted} replicas are ready, at least ${least} needed`
  return ready >= least
    ? { type: 'Available', status: 'True', reason: 'MinimumReplicasAvailable', message }
    : { type: 'Available', status: 'False', reason: 'MinimumReplicasUnavailable', message }
}

function readiness(living: readonly ShardGroup[], input: RollUpInput, counts: Counts): ConditionUpdate {
  const type = 'Ready'
  const { wanted, ready, updated } = counts
  if (input.invalid !== undefined) return { type, status: 'False', ...input.invalid }
  const message = `${ready} of ${wanted} replicas are ready`
  if (ready === wanted && updated === wanted && living.length === wanted && input.scheduling?.pending === undefined)
    return { type, status: 'True', reason: 'AllReplicasReady', message }
  const why = input.scheduling?.pending ?? input.scheduling?.loss ?? whyNotReady(living)
  if (typeof why === 'object')
    return { type, status: 'False', reason: why.reason, message: `${message}: ${why.message}` }
  return {
    type,
    status: 'False',
    reason: 'ReplicasNotReady',
    message: why === undefined ? message : `${message}: ${why}`,
  }
}

/** Of the first group that is not Ready: its failure if it is failing, else what it waits for. */
function whyNotReady(living: readonly ShardGroup[]): string | { reason: string; message: string } | undefined {
  const unready = living.filter((g) => !isGroupReady(g))
  const group = unready.find((g) => g.status?.phase === 'Failed') ?? unready[0]
  if (group === undefined) return undefined
  const { firstCause, restarts = 0, conditions } = group.status ?? {}
  if (group.status?.phase === 'Failed') {
    const { reason, message } = waitingForRetry(group.status)
    return { reason, message: `${group.metadata.name}: ${message}` }
  }
  if (firstCause !== undefined && restarts > 0) return `${group.metadata.name}: ${describeCause(firstCause)}`
  const condition = findCondition(conditions, 'Ready')
  return condition === undefined ? undefined : `${group.metadata.name}: ${condition.message}`
}

function progressing(
  scene: DeploymentScene,
  input: RollUpInput,
  { wanted, ready, updated }: Counts,
): { condition: ConditionUpdate; waitMs?: number } {
  const { deployment, nowMs } = scene
  const type = 'Progressing'
  if (deployment.spec.paused)
    return { condition: { type, status: 'Unknown', reason: 'DeploymentPaused', message: 'spec.paused is set' } }
  // Once rolled out it stays so: a replica that fails later, or is added, is no update that makes no progress.
  const known = findCondition(deployment.status?.conditions, type)?.reason === 'NewRevisionAvailable'
  const message = `revision ${input.current?.number ?? 0} is rolled out`
  const isSame = known && deployment.status?.currentRevision === input.current?.number
  const noneOld = input.groups.every((g) => isBeingDeleted(g) || g.spec.revision === input.current?.number)
  if (updated >= wanted && (ready >= wanted || (isSame && noneOld)))
    return { condition: { type, status: 'True', reason: 'NewRevisionAvailable', message } }
  const deadlineMs = lastProgressMs(scene) + deployment.spec.progressDeadlineSeconds * 1000
  const why = whatIsAwaited(input.groups)
  const counts = `${updated} of ${wanted} replicas are updated, ${ready} are ready${why === undefined ? '' : `: ${why}`}`
  if (nowMs < deadlineMs)
    return {
      condition: { type, status: 'True', reason: 'ReplicasUpdating', message: counts },
      waitMs: deadlineMs - nowMs,
    }
  const late = `no progress for ${deployment.spec.progressDeadlineSeconds} s; still trying: ${counts}`
  return { condition: { type, status: 'False', reason: 'ProgressDeadlineExceeded', message: late } }
}

/** Of the first group whose successor is on its way: how far it is. */
function whatIsAwaited(groups: readonly ShardGroup[]): string | undefined {
  for (const group of groups) {
    const message = successorMessage(group)
    if (message !== undefined) return `${group.metadata.name}: ${message}`
  }
  return undefined
}

/** The last time that anything moved: the newest Revision, a group made, a condition flipped, bytes of a model fetched. */
function lastProgressMs({ deployment, revisions, groups, nowMs }: DeploymentScene): number {
  const readySince = findCondition(deployment.status?.conditions, 'Ready')?.lastTransitionTime
  const times = [
    revisions.at(-1)?.metadata.creationTimestamp,
    readySince,
    ...groups.flatMap((g) => [
      g.metadata.creationTimestamp,
      ...(g.status?.conditions ?? []).map((c) => c.lastTransitionTime),
    ]),
  ].flatMap((t) => (t === undefined ? [] : [Date.parse(t)]))
  times.push(...groups.flatMap((g) => g.status?.fetch?.movedAtMs ?? []))
  return times.length === 0 ? nowMs : Math.max(...times)
}
