/**
 * A new template reaches the groups: one per transaction, each as its next epoch. One that does not serve goes at once; a
 * ready one goes beside itself where maxSurge and memory allow, else in its own bytes, and no more of them at a time
 * than may be away. When it stops is decided later, in rollout.ts.
 */
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { withoutNext } from '../api/shardgroup.ts'
import type { Scheduling } from './binding.ts'
import { moveGroup, pendingOf, place, PRESSURE_RETRY_MS, refusedForPressure, unbind, withGroup } from './binding.ts'
import type { DeploymentScene } from './deployment.ts'
import { event, isBeingDeleted, soonest } from './actions.ts'
import { sceneOf } from './groupscene.ts'
import { counted } from '../lib/counted.ts'
import type { Unplaceable } from './placement/types.ts'
import type { CurrentRevision } from './revisions.ts'
import { isGroupReady, isOnDrained } from './rollout.ts'
import { takeBackSuccessor } from './successor.ts'

/** undefined: there is nothing to update now. */
export function planUpdate(
  scene: DeploymentScene,
  current: CurrentRevision,
  living: readonly ShardGroup[],
): Scheduling | undefined {
  const superseded = living.find((g) => isSuperseded(scene, current, g))
  if (superseded !== undefined) return takeBack(scene, superseded, 'is not wanted any more')
  const held = living.find((g) => isHeldForEver(scene, g))
  if (held !== undefined) return takeBack(scene, held, 'would wait for ever (update.maxUnavailable: 0)')

  const isOutdated = (g: ShardGroup) => g.spec.revision !== current.number && g.spec.next === null
  const outdated = living.filter((g) => isOutdated(g) && g.spec.members.length > 0)
  const [first] = outdated
  if (first === undefined) return undefined
  const unready = outdated.find((g) => !isGroupReady(g))
  if (unready !== undefined) return inOwnBytes(scene, current, unready, outdated)

  const { strategy, maxUnavailable, maxSurge } = scene.deployment.spec.update
  if (strategy === 'Recreate') return inOwnBytes(scene, current, first, outdated)
  const beside = surging(living) < maxSurge ? place(scene, current, first, 'Beside') : undefined
  if (beside?.kind === 'Placed')
    return moveGroup(scene, current, first, beside, { reason: 'Updating', startFirst: true })

  const away = living.filter((g) => !isGroupReady(g) || (g.spec.next !== null && g.spec.next.startFirst !== true))
  if (maxUnavailable === 0 && beside !== undefined) return noSurge(scene, current, beside)
  return away.length < maxUnavailable ? inOwnBytes(scene, current, first, outdated) : undefined
}

/** It was planned for a revision, or a node, that is not wanted any more, and has not taken over yet. */
function isSuperseded({ world, deployment }: DeploymentScene, current: CurrentRevision, group: ShardGroup): boolean {
  const { next, revision } = group.spec
  if (next === null || !isGroupReady(group)) return false
  const isOld = next.revision !== revision && next.revision !== current.number && !deployment.spec.paused
  return isOld || isOnDrained(world, next)
}

const surging = (living: readonly ShardGroup[]): number => living.filter((g) => g.spec.next?.startFirst === true).length

/**
 * Planned in its own bytes when it did not serve, or for a drain that was taken back: where no replica may be away it
 * never stops. What can go beside it is looked for anew, and said if there is nothing. A drain's plan is the drain's.
 */
function isHeldForEver({ world, deployment }: DeploymentScene, group: ShardGroup): boolean {
  const { strategy, maxUnavailable } = deployment.spec.update
  const { next, revision } = group.spec
  if (next === null || next.startFirst === true || maxUnavailable > 0 || !isGroupReady(group)) return false
  if (strategy === 'Recreate' && next.revision !== revision) return false
  return !isOnDrained(world, group.spec)
}

function takeBack(scene: DeploymentScene, group: ShardGroup, why: string): Scheduling {
  const { next, epoch } = group.spec
  const message = `${group.metadata.name}: epoch ${next?.epoch ?? 0} (revision ${next?.revision ?? 0}) ${why}; epoch ${epoch} serves on`
  return {
    actions: [...takeBackSuccessor(scene.world, group), event(group, 'Normal', 'SuccessorDropped', message)],
    report: [`SuccessorDropped: ${message}`],
    groups: withGroup(scene, { ...group, spec: withoutNext(group.spec) }),
  }
}

function inOwnBytes(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  outdated: readonly ShardGroup[],
): Scheduling {
  const placement = place(scene, current, group)
  if (placement?.kind === 'Placed') return moveGroup(scene, current, group, placement, { reason: 'Updating' })
  const recreates = scene.deployment.spec.update.strategy === 'Recreate'
  if (recreates && fitsWithout(scene, current, group, outdated)) return makeRoom(scene, current, outdated)
  if (recreates && othersWait(scene, current)) return giveWay(scene, current, group)
  const pending = pendingOf(placement, scene, current)
  return {
    actions: [],
    report: [`${pending.reason}: ${pending.message}`],
    groups: scene.groups,
    pending: { ...pending, message: `revision ${current.number}: ${pending.message}` },
    ...soonest(refusedForPressure(placement) ? PRESSURE_RETRY_MS : undefined),
  }
}

/** Would it fit if all old groups were gone? Never stop them for something that does not. */
function fitsWithout(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  outdated: readonly ShardGroup[],
): boolean {
  const gone = new Set(outdated.map((g) => g.metadata.uid))
  const names = new Set(outdated.map((g) => `${g.metadata.namespace ?? ''}/${g.metadata.name}`))
  const world = {
    ...scene.world,
    groups: scene.world.groups.filter((g) => !gone.has(g.metadata.uid)),
    shards: scene.world.shards.filter((s) => !names.has(`${s.metadata.namespace ?? ''}/${s.spec.group}`)),
  }
  const groups = scene.groups.filter((g) => !gone.has(g.metadata.uid))
  return place({ ...scene, world, groups }, current, group)?.kind === 'Placed'
}

/** Recreate: these old groups give up their places at once. */
function recreate(scene: DeploymentScene, old: readonly ShardGroup[], message: string): Scheduling {
  const steps = old.map((group) => unbind(scene.world, group))
  const after = new Map(steps.map(({ group }) => [group.metadata.uid, group]))
  return {
    actions: [...steps.map((s) => s.action), event(scene.deployment, 'Normal', 'Recreating', message)],
    report: [`Recreating: ${message}`],
    groups: scene.groups.map((g) => after.get(g.metadata.uid) ?? g),
    pending: { status: 'False', reason: 'Recreating', message },
  }
}

/** The new ones take what that leaves. */
const makeRoom = (scene: DeploymentScene, { number }: CurrentRevision, outdated: readonly ShardGroup[]): Scheduling =>
  recreate(
    scene,
    outdated,
    `revision ${number} does not fit beside the ${counted(outdated.length, 'group')} of the old one: all stop before it starts`,
  )

/** It goes on with fewer groups rather than not at all: an old one that finds no place would be waited for for ever. */
const giveWay = (scene: DeploymentScene, { number }: CurrentRevision, old: ShardGroup): Scheduling =>
  recreate(
    scene,
    [old],
    `${old.metadata.name} stops: revision ${number} has no room for it, and its other groups wait until the old ones are gone`,
  )

/** Every group that the new revision has got a place for is prepared, and starts when the old ones are gone. */
function othersWait({ world, groups, nowMs }: DeploymentScene, current: CurrentRevision): boolean {
  const shardsOf = (group: ShardGroup): readonly Shard[] | undefined => {
    const scene = sceneOf(world, group, nowMs)
    if (group.spec.next?.revision === current.number) return scene.upcoming
    return group.spec.revision === current.number && group.spec.members.length > 0 ? scene.current : undefined
  }
  const placed = groups
    .flatMap((group) => (isBeingDeleted(group) ? [] : [shardsOf(group)]))
    .filter((s) => s !== undefined)
  const isPrepared = ({ status }: Shard) =>
    status?.phase !== undefined && !['Pending', 'Fetching'].includes(status.phase)
  return placed.length > 0 && placed.every((shards) => shards.length > 0 && shards.every(isPrepared))
}

function noSurge(scene: DeploymentScene, current: CurrentRevision, refused: Unplaceable): Scheduling {
  const pending = pendingOf(refused, scene, current)
  const message = `revision ${current.number}: update.maxUnavailable is 0, and no group fits beside the running ones: ${pending.message}`
  return {
    actions: [],
    report: [`${pending.reason}: ${message}`],
    groups: scene.groups,
    pending: { ...pending, message },
    ...soonest(refusedForPressure(refused) ? PRESSURE_RETRY_MS : undefined),
  }
}
