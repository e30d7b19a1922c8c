/** The loop of ShardGroups: woken by its Shards, and by nodes of its gang that come and go. */
import { findCondition, isTrue } from '../api/conditions.ts'
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { planShardGroup } from '../planner/shardgroup.ts'
import type { Change, Snapshot } from '../store/store.ts'
import { flippedForce, flippedReady, isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { keyFor, ownerKeys, reconcileObject, sayRefused } from './controller.ts'

export const shardGroupLoop = (doors: ControllerDoors): Loop => ({
  name: 'shardgroup',
  allKeys: (snapshot) => snapshot.list('ShardGroup').map(keyFor),
  keysOf,
  reconcile: (key) =>
    reconcileObject(doors, 'ShardGroup', key, (group, world, nowMs) => planShardGroup(world, group, nowMs)),
  refused: (key, error) =>
    sayRefused(doors, 'ShardGroup', key, { type: 'Ready', status: 'False', reason: 'Invalid', message: error.message }),
})

function keysOf(change: Change, snapshot: Snapshot): readonly string[] {
  const { object } = change
  if (isOfKind(object, 'ShardGroup')) return [keyFor(object), ...waitingSiblings(object, snapshot)]
  if (isOfKind(object, 'Shard'))
    return [...ownerKeys(object, 'ShardGroup'), ...(change.type === 'DELETED' ? waitingSiblings(object, snapshot) : [])]
  if (isOfKind(object, 'ModelDeployment'))
    return snapshot
      .list('ShardGroup')
      .filter((g) => isOf(g, object.metadata.namespace, object.metadata.name) && g.spec.next !== null)
      .map(keyFor)
  if (isOfKind(object, 'Node'))
    return flippedReady(change) || flippedForce(change) ? groupsOn(object.metadata.name, snapshot) : []
  if (isOfKind(object, 'Model') || isOfKind(object, 'Revision'))
    return snapshot.list('ShardGroup').filter(waitsForShape).map(keyFor)
  return []
}

const isOf = ({ metadata, spec }: ShardGroup, namespace: string | undefined, deployment: string): boolean =>
  metadata.namespace === namespace && spec.deployment === deployment

/** Groups of the same deployment that may wait for this one: until it is ready again, or has stopped. */
function waitingSiblings({ metadata, spec }: ShardGroup | Shard, snapshot: Snapshot): readonly string[] {
  return snapshot
    .list('ShardGroup')
    .filter((g) => isOf(g, metadata.namespace, spec.deployment))
    .filter((g) => g.spec.next !== null || !isTrue(g.status?.conditions, 'Ready'))
    .map(keyFor)
}

function groupsOn(node: string, snapshot: Snapshot): readonly string[] {
  const isOn = ({ spec }: ShardGroup) => [...spec.members, ...(spec.next?.members ?? [])].some((m) => m.node === node)
  const members = snapshot.list('ShardGroup').filter(isOn)
  const shards = snapshot.list('Shard').filter((s) => s.spec.nodeName === node)
  return [...members.map(keyFor), ...shards.flatMap((s) => ownerKeys(s, 'ShardGroup'))]
}

const waitsForShape = (group: ShardGroup): boolean =>
  ['ModelShapePending', 'RevisionGone'].includes(findCondition(group.status?.conditions, 'Ready')?.reason ?? '')
