/**
 * Which group of a deployment is planned now, and where it goes: one per transaction. First a group that lost its node,
 * then one that is bound to nothing, then one that still runs an older template (planned in its own bytes).
 */
import { findCondition, isTrue, setConditions } from '../api/conditions.ts'
import type { PlanSummary } from '../api/modeldeployment.ts'
import type { NextEpoch, ShardGroup } from '../api/shardgroup.ts'
import { formatBytes } from '../lib/quantity.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, isBeingDeleted, setSpec, setStatus, soonest } from './actions.ts'
import type { DeploymentScene } from './deployment.ts'
import { notReadySinceMs } from './nodelife.ts'
import { placeGroup } from './placement/place.ts'
import type { Alternative, Demand, Placed, Unplaceable } from './placement/types.ts'
import { demandOf, nodeViews, resolveShape } from './placement/view.ts'
import type { CurrentRevision } from './revisions.ts'
import { shapePendingMessage } from './shapepending.ts'

/** Live memory changes without a change of any object: only time brings a group back that it refused. */
const PRESSURE_RETRY_MS = 15_000

export interface Scheduling extends Plan {
  /** The deployment's groups as this transaction leaves them. */
  readonly groups: readonly ShardGroup[]
  /** undefined: every group has its place. */
  readonly pending?: { readonly status: 'False' | 'Unknown'; readonly reason: string; readonly message: string }
  /** The plan that was just made. */
  readonly plan?: PlanSummary
  /** Waiting is all that can be done about lost nodes, and this is why. */
  readonly lossMessage?: string
}

export function planScheduling(scene: DeploymentScene, current: CurrentRevision): Scheduling {
  const living = scene.groups.filter((g) => !isBeingDeleted(g) && g.spec.replica < scene.deployment.spec.replicas)
  const settled = living.filter((g) => g.spec.next === null)
  const bound = settled.filter((g) => g.spec.members.length > 0)

  const losses = nodeLosses(scene, bound)
  for (const lost of losses.due) {
    const moved = planLost(scene, current, lost)
    if (moved !== undefined) return { ...moved, ...soonest(moved.waitMs, losses.waitMs) }
  }
  const unbound = settled.filter((g) => g.spec.members.length === 0)
  const [first] = unbound
  const outdated = first === undefined ? nextOutdated(scene, current, living, bound) : undefined
  const group = first ?? outdated
  const waiting: Pick<Scheduling, 'lossMessage' | 'waitMs'> = {
    ...(losses.message === undefined ? {} : { lossMessage: losses.message }),
    ...soonest(losses.waitMs),
  }
  if (group === undefined) return { actions: [], report: [], groups: scene.groups, ...waiting }
  const plan = planOne(scene, current, group, unbound)
  return { ...plan, ...waiting, ...soonest(losses.waitMs, plan.waitMs) }
}

interface Losses {
  /** Groups that may be planned elsewhere now. */
  readonly due: readonly ShardGroup[]
  readonly waitMs?: number
  readonly message?: string
}

/** A node is lost when its object is gone, or after nodeLossSeconds of silence: unless half the cluster is silent. */
function nodeLosses({ world, deployment, nowMs }: DeploymentScene, bound: readonly ShardGroup[]): Losses {
  const nodes = new Map(world.nodes.map((n) => [n.metadata.name, n]))
  const silentCount = world.nodes.filter((n) => notReadySinceMs(n) !== undefined).length
  const partitioned = silentCount * 2 > world.nodes.length
  const { nodeLossSeconds, action } = deployment.spec.recovery

  const due: ShardGroup[] = []
  const waits: number[] = []
  let held: string | undefined
  for (const group of bound) {
    const members = group.spec.members.map((m) => nodes.get(m.node))
    const sinceMs = members.flatMap((n) => (n === undefined ? [] : (notReadySinceMs(n) ?? [])))
    if (members.includes(undefined)) due.push(group)
    else if (sinceMs.length > 0) {
      const waitMs = Math.min(...sinceMs) + nodeLossSeconds * 1000 - nowMs
      if (action === 'Wait') held = 'recovery.action is Wait: waiting for the node to come back'
      else if (waitMs > 0) waits.push(waitMs)
      else if (partitioned)
        held = `ClusterPartitioned: ${silentCount} of ${world.nodes.length} nodes are silent, so nothing is moved`
      else due.push(group)
    }
  }
  return { due, ...soonest(...waits), ...(held === undefined ? {} : { message: held }) }
}

/** Elsewhere if it fits. Else a group whose node was removed gives up its members, and one whose node is silent waits. */
function planLost(scene: DeploymentScene, current: CurrentRevision, group: ShardGroup): Scheduling | undefined {
  const placement = place(scene, current, group)
  if (placement?.kind === 'Placed') return moveGroup(scene, current, group, placement, 'Replanned')

  const known = new Set(scene.world.nodes.map((n) => n.metadata.name))
  if (group.spec.members.every((m) => known.has(m.node))) return undefined
  // An unbound group's epoch was never used: the next binding takes it as it is.
  const spec = { ...group.spec, members: [], next: null, planHash: '', epoch: group.spec.epoch + 1 }
  const message = `${group.metadata.name} gave up its place: a node of it was removed and no other fits`
  return {
    actions: [setSpec(group, spec), event(group, 'Warning', 'Unbound', message)],
    report: [`Unbound: ${message}`],
    groups: withGroup(scene, { ...group, spec }),
    pending: pendingOf(placement, scene, current),
  }
}

/**
 * The next group that leaves an older template behind. One that is not ready goes at once; a ready one only while
 * fewer than maxUnavailable are away.
 */
function nextOutdated(
  { deployment }: DeploymentScene,
  current: CurrentRevision,
  living: readonly ShardGroup[],
  bound: readonly ShardGroup[],
): ShardGroup | undefined {
  const ready = (g: ShardGroup) => g.spec.next === null && isTrue(g.status?.conditions, 'Ready')
  const outdated = bound.filter((g) => g.spec.revision !== current.number)
  const unready = outdated.find((g) => !ready(g))
  if (unready !== undefined) return unready
  const away = living.filter((g) => !ready(g)).length
  const { strategy, maxUnavailable } = deployment.spec.update
  const mayLeave = strategy === 'Recreate' || away < Math.max(1, maxUnavailable)
  return mayLeave ? outdated[0] : undefined
}

function planOne(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  unbound: readonly ShardGroup[],
): Scheduling {
  const placement = place(scene, current, group)
  if (placement?.kind === 'Placed') {
    return group.spec.members.length === 0
      ? bindGroup(scene, current, group, placement)
      : moveGroup(scene, current, group, placement, 'Updating')
  }
  const pending = pendingOf(placement, scene, current)
  const pressed = placement?.refusals.some((r) => r.reason === 'MemoryPressure') ?? false
  return {
    actions: pendingActions(scene, unbound, pending),
    report: [`${pending.reason}: ${pending.message}`],
    groups: scene.groups,
    pending:
      group.spec.members.length === 0
        ? pending
        : { ...pending, message: `revision ${current.number}: ${pending.message}` },
    ...soonest(pressed ? PRESSURE_RETRY_MS : undefined),
  }
}

/** undefined: the model's shape is not known yet. */
function place(scene: DeploymentScene, current: CurrentRevision, group: ShardGroup): Placed | Unplaceable | undefined {
  const { world, groups } = scene
  const resolved = resolveShape(world, current.template.model)
  if (resolved === undefined) return undefined
  const siblings = groups.filter((g) => g.metadata.uid !== group.metadata.uid && !isBeingDeleted(g))
  const siblingNodes = [...new Set(siblings.flatMap((g) => (g.spec.next ?? g.spec).members.map((m) => m.node)))]
  const waiting = siblings.filter((g) => g.spec.members.length === 0 && g.spec.next === null)
  const { strategy, members } = group.spec
  const incumbent = { strategy, nodes: members.map((m) => m.node) }
  const demand: Demand = {
    ...demandOf(current.template, resolved, siblingNodes),
    replicasAfter: waiting.length,
    ...(members.length === 0 ? {} : { incumbent }),
  }
  return placeGroup(demand, nodeViews(world, group))
}

function bindGroup(scene: DeploymentScene, current: CurrentRevision, group: ShardGroup, placed: Placed): Scheduling {
  const spec = { ...group.spec, ...chosen(placed), revision: current.number, next: null }
  const message = `bound ${group.metadata.name} (${describe(placed)})`
  const scheduled = { type: 'Scheduled', status: 'True', reason: 'Scheduled', message } as const
  const conditions = setConditions(group.status?.conditions, [scheduled], scene.nowMs)
  return {
    actions: [
      setSpec(group, spec),
      setStatus(group, { ...group.status, phase: 'Pending', conditions }),
      event(group, 'Normal', 'Scheduled', message),
      event(scene.deployment, 'Normal', 'Scheduled', message),
    ],
    report: [`Scheduled: ${message}`, ...placed.why],
    groups: withGroup(scene, { ...group, spec }),
    plan: summaryOf(placed),
  }
}

function moveGroup(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  placed: Placed,
  reason: 'Replanned' | 'Updating',
): Scheduling {
  const next: NextEpoch = { ...chosen(placed), epoch: group.spec.epoch + 1, revision: current.number }
  const spec = { ...group.spec, next }
  const message = `${group.metadata.name} goes on as epoch ${next.epoch}, revision ${next.revision} (${describe(placed)})`
  return {
    actions: [
      setSpec(group, spec),
      event(group, 'Normal', reason, message),
      event(scene.deployment, 'Normal', reason, message),
    ],
    report: [`${reason}: ${message}`],
    groups: withGroup(scene, { ...group, spec }),
    plan: summaryOf(placed),
  }
}

const chosen = ({ strategy, engine, transport, planHash, members }: Placed) => ({
  strategy,
  engine,
  transport,
  planHash,
  members,
})

function withGroup({ groups }: DeploymentScene, changed: ShardGroup): readonly ShardGroup[] {
  return groups.map((g) => (g.metadata.uid === changed.metadata.uid ? changed : g))
}

function pendingOf(
  placement: Unplaceable | Placed | undefined,
  { world }: DeploymentScene,
  { template }: CurrentRevision,
): NonNullable<Scheduling['pending']> {
  if (placement === undefined || placement.kind === 'Placed')
    return {
      status: 'Unknown',
      reason: 'ModelShapePending',
      message: shapePendingMessage(world.models, template.model),
    }
  const perNode = placement.refusals.filter((r) => r.node !== '').map((r) => `${r.node}: ${r.message}`)
  const parts = [placement.message, ...perNode, ...placement.hints.map((hint) => `would fit: ${hint}`)]
  return { status: 'False', reason: 'Unschedulable', message: parts.join('; ') }
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

/** `Pipeline 2: mini-1 layers 0–14 4.1Gi, mini-2 layers 14–28 3.9Gi` */
function describe({ strategy, members }: Placed): string {
  const ranks = members.map((m) => `${m.node} layers ${m.stage[0]}–${m.stage[1]} ${formatBytes(m.memoryBytes)}`)
  return `${strategy} ${members.length}: ${ranks.join(', ')}`
}

function summaryOf(placed: Placed): PlanSummary {
  const { planHash: hash, strategy, members, predicted, why, alternatives } = placed
  return {
    hash,
    strategy,
    degree: members.length,
    ...(predicted === undefined ? {} : { predicted }),
    why,
    rejected: alternatives.map(describeAlternative),
  }
}

const describeAlternative = ({ strategy, degree, reason }: Alternative): string => `${strategy} ${degree}: ${reason}`
