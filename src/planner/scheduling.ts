/**
 * Which group of a deployment is planned now, and where it goes: one per transaction. First a group that lost its node,
 * then one whose node is being drained, then one that is bound to nothing, then one that still runs an older template,
 * then one that would be much faster elsewhere since links changed.
 */
import { findCondition, setConditions } from '../api/conditions.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import type { StoreAction } from './actions.ts'
import { event, isBeingDeleted, setStatus, soonest } from './actions.ts'
import type { Scheduling } from './binding.ts'
import {
  bindGroup,
  moveGroup,
  pendingOf,
  place,
  PRESSURE_RETRY_MS,
  refusedForPressure,
  unbind,
  withGroup,
} from './binding.ts'
import type { DeploymentScene } from './deployment.ts'
import { planDrain } from './drain.ts'
import { planGains } from './gains.ts'
import { partitionText, silentForMs } from './nodelife.ts'
import type { CurrentRevision } from './revisions.ts'
import { planUpdate } from './update.ts'

export function planScheduling(scene: DeploymentScene, current: CurrentRevision): Scheduling {
  const living = livingOf(scene)
  const settled = living.filter((g) => g.spec.next === null)
  const bound = settled.filter((g) => g.spec.members.length > 0)

  const losses = nodeLosses(scene, bound)
  for (const lost of losses.due) {
    const moved = planLost(scene, current, lost)
    if (moved !== undefined) return { ...moved, ...soonest(moved.waitMs, losses.waitMs) }
  }
  const waiting: Pick<Scheduling, 'loss' | 'waitMs'> = {
    ...(losses.held === undefined ? {} : { loss: losses.held }),
    ...soonest(losses.waitMs),
  }
  const drain = planDrain(scene, current, living)
  const told = { ...scene, groups: drain.groups }
  const next =
    drain.step ??
    planUnbound(told, current) ??
    planUpdate(told, current, livingOf(told)) ??
    planGains(told, current, livingOf(told))
  if (next === undefined) {
    const { actions, report, groups } = drain
    return { actions, report, groups, ...waiting, ...soonest(losses.waitMs, drain.waitMs) }
  }
  return {
    ...next,
    actions: [...drain.actions, ...next.actions],
    ...waiting,
    ...soonest(losses.waitMs, drain.waitMs, next.waitMs),
  }
}

const livingOf = ({ groups, deployment }: DeploymentScene): readonly ShardGroup[] =>
  groups.filter((g) => !isBeingDeleted(g) && g.spec.replica < deployment.spec.replicas)

interface Losses {
  /** Groups that may be planned elsewhere now. */
  readonly due: readonly ShardGroup[]
  readonly waitMs?: number
  readonly held?: { readonly reason: string; readonly message: string }
}

/** A node is lost when its object is gone, or after nodeLossSeconds of silence: unless half the cluster is silent. */
function nodeLosses({ world, deployment, nowMs }: DeploymentScene, bound: readonly ShardGroup[]): Losses {
  const nodes = new Map(world.nodes.map((n) => [n.metadata.name, n]))
  const partition = partitionText(world, nowMs)
  const { nodeLossSeconds, action } = deployment.spec.recovery

  const due: ShardGroup[] = []
  const waits: number[] = []
  let held: Losses['held']
  for (const group of bound) {
    const members = group.spec.members.map((m) => nodes.get(m.node))
    const silentMs = members.flatMap((n) => (n === undefined ? [] : (silentForMs(world, n, nowMs) ?? [])))
    if (members.includes(undefined)) due.push(group)
    else if (silentMs.length > 0) {
      const waitMs = nodeLossSeconds * 1000 - Math.max(...silentMs)
      if (action === 'Wait')
        held = { reason: 'NodeNotReady', message: 'recovery.action is Wait: waiting for the node to come back' }
      else if (waitMs > 0) waits.push(waitMs)
      else if (partition !== undefined) held = { reason: 'ClusterPartitioned', message: partition }
      else due.push(group)
    }
  }
  return { due, ...soonest(...waits), ...(held === undefined ? {} : { held }) }
}

/** Elsewhere if it fits. Else a group whose node was removed gives up its members, and one whose node is silent waits. */
function planLost(scene: DeploymentScene, current: CurrentRevision, group: ShardGroup): Scheduling | undefined {
  const placement = place(scene, current, group)
  if (placement?.kind === 'Placed') return moveGroup(scene, current, group, placement, { reason: 'Replanned' })

  const known = new Set(scene.world.nodes.map((n) => n.metadata.name))
  if (group.spec.members.every((m) => known.has(m.node))) return undefined
  const gone = unbind(scene.world, group)
  const message = `${group.metadata.name} gave up its place: a node of it was removed and no other fits`
  return {
    actions: [gone.action, event(group, 'Warning', 'Unbound', message)],
    report: [`Unbound: ${message}`],
    groups: withGroup(scene, gone.group),
    pending: pendingOf(placement, scene, current),
  }
}

/** The first group that is bound to nothing. Where it does not fit, an update may: that one has bytes of its own. */
function planUnbound(scene: DeploymentScene, current: CurrentRevision): Scheduling | undefined {
  const living = livingOf(scene)
  const unbound = living.filter((g) => g.spec.members.length === 0 && g.spec.next === null)
  const [group] = unbound
  if (group === undefined) return undefined
  const placement = place(scene, current, group)
  if (placement?.kind === 'Placed') return bindGroup(scene, current, group, placement)
  const pending = pendingOf(placement, scene, current)
  const refused: Scheduling = {
    actions: pendingActions(scene, unbound, pending),
    report: [`${pending.reason}: ${pending.message}`],
    groups: scene.groups,
    pending,
    ...soonest(refusedForPressure(placement) ? PRESSURE_RETRY_MS : undefined),
  }
  const update = planUpdate(scene, current, living)
  if (update === undefined || update.actions.length === 0) return refused
  return { ...update, actions: [...refused.actions, ...update.actions], pending }
}

function pendingActions(
  { deployment, nowMs }: DeploymentScene,
  unbound: readonly ShardGroup[],
  pending: NonNullable<Scheduling['pending']>,
): readonly StoreAction[] {
  const condition = { type: 'Scheduled', ...pending }
  const statuses = unbound.map((g) => {
    const conditions = setConditions(g.status?.conditions, [condition], nowMs)
    return setStatus(g, { ...g.status, phase: 'Pending', conditions })
  })
  const known = findCondition(deployment.status?.conditions, 'Scheduled')?.message.endsWith(pending.message) === true
  const type = pending.status === 'False' ? 'Warning' : 'Normal'
  return known ? statuses : [...statuses, event(deployment, type, pending.reason, pending.message)]
}
