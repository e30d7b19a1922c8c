/** Where one group of a deployment goes, and how that is written: bound for the first time, or as its next epoch. */
import { setConditions } from '../api/conditions.ts'
import type { PlanSummary } from '../api/modeldeployment.ts'
import type { Binding, NextEpoch, ShardGroup } from '../api/shardgroup.ts'
import { bindingOf, unboundOf } from '../api/shardgroup.ts'
import { formatBytes } from '../lib/quantity.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, isBeingDeleted, setSpec, setStatus } from './actions.ts'
import type { DeploymentScene } from './deployment.ts'
import { nextEpochOf, sceneOf } from './groupscene.ts'
import { placeGroup } from './placement/place.ts'
import type { Alternative, Demand, Incumbent, NodeView, Placed, Unplaceable } from './placement/types.ts'
import { demandOf, nodeViews, resolveShape } from './placement/view.ts'
import type { CurrentRevision } from './revisions.ts'
import { shapePendingMessage } from './shapepending.ts'
import type { World } from './world.ts'

export interface Scheduling extends Plan {
  /** The deployment's groups as this transaction leaves them. */
  readonly groups: readonly ShardGroup[]
  /** undefined: every group has its place. */
  readonly pending?: { readonly status: 'False' | 'Unknown'; readonly reason: string; readonly message: string }
  /** The plan that was just made. */
  readonly plan?: PlanSummary
  /** Waiting is all that can be done about lost nodes, and this is why. */
  readonly loss?: { readonly reason: string; readonly message: string }
}

export interface Move {
  readonly reason: 'Replanned' | 'Updating' | 'Draining'
  /** Only where nothing of the group runs. */
  readonly startFirst?: boolean
}

/** undefined: the model's shape is not known yet. */
export function place(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  where: 'Anywhere' | 'Beside' = 'Anywhere',
): Placed | Unplaceable | undefined {
  const demand = demandFor(scene, current, group)
  const { world } = scene
  return demand && placeGroup(demand, where === 'Beside' ? viewsBeside(world, group) : nodeViews(world, group))
}

/** What the group asks of placement; undefined: the model's shape is not known yet. */
export function demandFor(
  { world, groups }: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
): Demand | undefined {
  const resolved = resolveShape(world, current.template.model)
  if (resolved === undefined) return undefined
  const siblings = groups.filter((g) => g.metadata.uid !== group.metadata.uid && !isBeingDeleted(g))
  const siblingNodes = [...new Set(siblings.flatMap((g) => (g.spec.next ?? g.spec).members.map((m) => m.node)))]
  const waiting = siblings.filter((g) => g.spec.members.length === 0 && g.spec.next === null)
  const binding = bindingOf(group.spec)
  return {
    ...demandOf(current.template, resolved, siblingNodes),
    replicasAfter: waiting.length,
    ...(binding === undefined ? {} : { incumbent: incumbentOf(binding) }),
  }
}

const incumbentOf = ({ strategy, members }: Binding): Incumbent => ({ strategy, nodes: members.map((m) => m.node) })

/** The nodes on which nothing of the group is or was: a successor may run there while the group does. */
export function viewsBeside(world: World, group: ShardGroup): readonly NodeView[] {
  const own = new Set([
    ...group.spec.members.map((m) => m.node),
    ...sceneOf(world, group, 0).older.map((s) => s.spec.nodeName),
  ])
  return nodeViews(world).filter(({ name }) => !own.has(name))
}

export function bindGroup(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  placed: Placed,
): Scheduling {
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

export function moveGroup(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  placed: Placed,
  { reason, startFirst = false }: Move,
): Scheduling {
  const next: NextEpoch = {
    ...chosen(placed),
    epoch: nextEpochOf(scene.world, group),
    revision: current.number,
    ...(startFirst ? { startFirst } : {}),
  }
  const spec = { ...group.spec, next }
  const how = startFirst ? ', started before the old one stops' : ''
  const message = `${group.metadata.name} goes on as epoch ${next.epoch}, revision ${next.revision} (${describe(placed)})${how}`
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

/** A group that gives up its place; its epoch was used, so the next binding takes another one. */
export function unbind(world: World, group: ShardGroup): { readonly group: ShardGroup; readonly action: StoreAction } {
  const epoch = nextEpochOf(world, group)
  const spec = { ...unboundOf(group.spec), epoch }
  return { group: { ...group, spec }, action: setSpec(group, spec) }
}

/** Live memory changes without a change of any object: only time brings a group back that it refused. */
export const PRESSURE_RETRY_MS = 15_000

export const refusedForPressure = (placement: Placed | Unplaceable | undefined): boolean =>
  placement?.refusals?.some((r) => r.reason === 'MemoryPressure') ?? false

export function withGroup({ groups }: DeploymentScene, changed: ShardGroup): readonly ShardGroup[] {
  return groups.map((g) => (g.metadata.uid === changed.metadata.uid ? changed : g))
}

export function pendingOf(
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
