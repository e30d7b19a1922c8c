/** The loop of Shards: lets one go when its agent has stopped it, or when its node was removed. */
import { planShardEnd } from '../planner/shardend.ts'
import type { Change, Snapshot } from '../store/store.ts'
import { isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { keyFor, reconcileObject } from './controller.ts'

export const shardLoop = (doors: ControllerDoors): Loop => ({
  name: 'shard',
  allKeys: (snapshot) => snapshot.list('Shard').map(keyFor),
  keysOf,
  reconcile: (key) =>
    reconcileObject(doors, 'Shard', key, (shard, world) =>
      planShardEnd(
        shard,
        world.nodes.find((n) => n.metadata.name === shard.spec.nodeName),
        world.groups.find(
          (g) => g.metadata.namespace === shard.metadata.namespace && g.metadata.name === shard.spec.group,
        ),
      ),
    ),
})

function keysOf({ type, object }: Change, snapshot: Snapshot): readonly string[] {
  if (isOfKind(object, 'Shard')) return type === 'DELETED' ? [] : [keyFor(object)]
  if (!isOfKind(object, 'Node') || type !== 'DELETED') return []
  return snapshot
    .list('Shard')
    .filter((s) => s.spec.nodeName === object.metadata.name)
    .map(keyFor)
}
