/** The loop of ShardGroups: woken by its Shards, and by nodes of its gang that come and go. */
import { findCondition } from '../api/conditions.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { planShardGroup } from '../planner/shardgroup.ts'
import type { Change, Snapshot } from '../store/store.ts'
import { flippedReady, isOfKind } from './changes.ts'
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
  if (isOfKind(object, 'ShardGroup')) return [keyFor(object)]
  if (isOfKind(object, 'Shard')) return ownerKeys(object, 'ShardGroup')
  if (isOfKind(object, 'Node')) return flippedReady(change) ? groupsOn(object.metadata.name, snapshot) : []
  if (isOfKind(object, 'Model') || isOfKind(object, 'Revision'))
    return snapshot.list('ShardGroup').filter(waitsForShape).map(keyFor)
  return []
}

function groupsOn(node: string, snapshot: Snapshot): readonly string[] {
  const members = snapshot.list('ShardGroup').filter((g) => g.spec.members.some((m) => m.node === node))
  const shards = snapshot.list('Shard').filter((s) => s.spec.nodeName === node)
  return [...members.map(keyFor), ...shards.flatMap((s) => ownerKeys(s, 'ShardGroup'))]
}

const waitsForShape = (group: ShardGroup): boolean =>
  ['ModelShapePending', 'RevisionGone'].includes(findCondition(group.status?.conditions, 'Ready')?.reason ?? '')
