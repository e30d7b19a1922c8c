/**
 * How a change reaches the groups of a deployment: which of them may stop serving now, and what holds the others. The
 * bound is looked at in the very transaction that stops a group, not when its successor is planned: hours may lie
 * between the two, and other groups may have failed meanwhile.
 */
import { isTrue } from '../api/conditions.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { NextEpoch, ShardGroup } from '../api/shardgroup.ts'
import { isBeingDeleted } from './actions.ts'
import type { GroupScene } from './groupscene.ts'
import { holdingRendezvous, sceneOf } from './groupscene.ts'
import { isReady } from './nodelife.ts'
import type { World } from './world.ts'

/** Why a group that serves may not stop yet. */
export interface Hold {
  /** Constant, CamelCase. */
  readonly reason: string
  readonly message: string
}

export const isGroupReady = (group: ShardGroup): boolean => isTrue(group.status?.conditions, 'Ready')

export const deploymentOf = ({ deployments }: World, group: ShardGroup): ModelDeployment | undefined =>
  deployments.find(({ metadata }) => (group.metadata.ownerReferences ?? []).some(({ uid }) => uid === metadata.uid))

const ownedBy = ({ groups }: Pick<World, 'groups'>, { metadata }: ModelDeployment): readonly ShardGroup[] =>
  groups.filter((g) => (g.metadata.ownerReferences ?? []).some(({ uid }) => uid === metadata.uid))

const stays = (group: ShardGroup, { spec }: ModelDeployment): boolean =>
  !isBeingDeleted(group) && group.spec.replica < spec.replicas

/** The groups of the same deployment that stay, this one among them. */
export const groupsOf = (world: Pick<World, 'groups'>, deployment: ModelDeployment): readonly ShardGroup[] =>
  ownedBy(world, deployment).filter((g) => stays(g, deployment))

/** undefined: stopping one ready group leaves as many as update.maxUnavailable asks for. */
export function bound(world: World, deployment: ModelDeployment): Hold | undefined {
  const { replicas, update } = deployment.spec
  const ready = groupsOf(world, deployment).filter(isGroupReady).length
  const least = Math.max(0, replicas - update.maxUnavailable)
  if (ready - 1 >= least) return undefined
  const message = `${ready} of ${replicas} replicas are ready and ${least} must stay so (update.maxUnavailable: ${update.maxUnavailable})`
  return { reason: 'MinimumReplicas', message }
}

/** Why the serving group must wait although its successor is prepared; undefined: it may stop now. */
export function holdOf(scene: GroupScene, next: NextEpoch): Hold | undefined {
  const { world, group } = scene
  const deployment = deploymentOf(world, group)
  if (deployment === undefined) return undefined
  const paused = pauseOf(scene, next)
  if (paused !== undefined) return paused
  if (next.revision !== group.spec.revision && deployment.spec.update.strategy === 'Recreate')
    return unpreparedSibling(scene, deployment, next)
  if (isForced(world, group)) return undefined
  return bound(world, deployment)
}

/** An update of a paused deployment goes no further. */
export function pauseOf({ world, group }: GroupScene, next: NextEpoch): Hold | undefined {
  if (next.revision === group.spec.revision || deploymentOf(world, group)?.spec.paused !== true) return undefined
  return { reason: 'DeploymentPaused', message: 'the deployment is paused: the old revision serves on' }
}

/** A node of it is being drained. */
export const isOnDrained = ({ nodes }: Pick<World, 'nodes'>, { members }: Pick<NextEpoch, 'members'>): boolean =>
  nodes.some((n) => n.spec.drain !== undefined && members.some((m) => m.node === n.metadata.name))

/** A drain that may cost replicas. */
export const isForced = ({ nodes }: Pick<World, 'nodes'>, { spec }: ShardGroup): boolean =>
  nodes.some((n) => n.spec.drain?.force === true && spec.members.some((m) => m.node === n.metadata.name))

/** Recreate stops all old groups at once: when the successor of each is prepared. */
function unpreparedSibling(scene: GroupScene, deployment: ModelDeployment, next: NextEpoch): Hold | undefined {
  const { world, group, nowMs } = scene
  for (const sibling of groupsOf(world, deployment)) {
    const isOld = sibling.spec.revision !== next.revision && sibling.spec.members.length > 0 && isGroupReady(sibling)
    if (!isOld || sibling.metadata.uid === group.metadata.uid) continue
    const { upcoming } = sceneOf(world, sibling, nowMs)
    const planned = sibling.spec.next?.revision === next.revision && upcoming.length > 0
    if (planned && upcoming.every((s) => s.status?.phase === 'Prepared')) continue
    return { reason: 'WaitingForGroups', message: `all groups stop together: ${sibling.metadata.name} is not prepared` }
  }
  return undefined
}

/** Recreate starts no new group while an old one may still run: also one that goes because there shall be fewer. */
export function recreateHold({ world, group, nowMs }: GroupScene): Hold | undefined {
  const deployment = deploymentOf(world, group)
  if (deployment?.spec.update.strategy !== 'Recreate') return undefined
  const { revision } = group.spec
  for (const sibling of ownedBy(world, deployment)) {
    if (sibling.metadata.uid === group.metadata.uid) continue
    const scene = sceneOf(world, sibling, nowMs)
    const isOld = sibling.spec.revision < revision
    const stopping = holdingRendezvous(scene, group.spec.members).some((s) => s.spec.revision !== revision)
    const serves = stays(sibling, deployment)
      ? sibling.spec.members.length > 0
      : scene.current.some((s) => isReady(scene.nodeOf(s.spec.nodeName)))
    if (stopping || (isOld && serves))
      return { reason: 'WaitingForGroups', message: `all groups stop first: ${sibling.metadata.name} runs still` }
  }
  return undefined
}
