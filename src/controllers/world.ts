/** One snapshot as the planner sees it. */
import { findCondition, setConditions } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { World } from '../planner/world.ts'
import type { Snapshot } from '../store/store.ts'

export function worldOf(
  snapshot: Snapshot,
  headroomBytes: ReadonlyMap<string, number>,
  silentForMs?: ReadonlyMap<string, number>,
): World {
  return {
    nodes: snapshot.list('Node').map(withReadiness),
    models: snapshot.list('Model'),
    deployments: snapshot.list('ModelDeployment'),
    groups: snapshot.list('ShardGroup'),
    shards: snapshot.list('Shard'),
    revisions: snapshot.list('Revision'),
    headroomBytes,
    ...(silentForMs === undefined ? {} : { silentForMs }),
  }
}

/** A manifest without conditions means Ready to the offline planner; a living node is Ready only once it was fenced. */
function withReadiness(node: Node): Node {
  if (findCondition(node.status?.conditions, 'Ready') !== undefined) return node
  const unknown = { type: 'Ready', status: 'Unknown', reason: 'Registering', message: 'not fenced yet' } as const
  const createdMs = Date.parse(node.metadata.creationTimestamp)
  return {
    ...node,
    status: { ...node.status, conditions: setConditions(node.status?.conditions, [unknown], createdMs) },
  }
}
