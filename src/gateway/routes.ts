/**
 * The routing table: which replica may answer for which served name. Derived from the watch as a pure function, so
 * the gateway can keep its last table while the server is away.
 */
import { isTrue } from '../api/conditions.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import { isLeader } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'

export interface Replica {
  /** The leader's uid: its door refuses every other one, so a stale table can not reach a stranger. */
  readonly shardUid: string
  readonly group: string
  /** The leader's: its door proves to be that node's. */
  readonly node: string
  readonly address: string
  readonly port: number
  /** Requests that the engine was planned for at once; more wait in the gateway's queue. */
  readonly concurrency: number
}

/** servedName → replicas that are ready; a name without replicas is known, but not ready (503, not 404). */
export type RoutingTable = ReadonlyMap<string, readonly Replica[]>

export interface RoutingWorld {
  readonly deployments: readonly ModelDeployment[]
  readonly groups: readonly ShardGroup[]
  readonly shards: readonly Shard[]
  readonly nodes: readonly Node[]
}

export function deriveRoutes(world: RoutingWorld): RoutingTable {
  const readyNodes = new Set(
    world.nodes.filter((n) => isTrue(n.status?.conditions, 'Ready')).map((n) => n.metadata.name),
  )
  const leaders = world.shards.filter((s) => isLeader(s) && isRoutable(s))
  const table = new Map<string, Replica[]>()
  for (const deployment of world.deployments) {
    // A second deployment of the same served name is Valid=False (ServedNameConflict) and must not take its traffic.
    if (deployment.status?.conditions?.some((c) => c.type === 'Valid' && c.status === 'False')) continue
    table.set(deployment.spec.servedName, table.get(deployment.spec.servedName) ?? [])
  }
  for (const leader of leaders) {
    const group = world.groups.find(
      (g) => g.metadata.name === leader.spec.group && g.metadata.namespace === leader.metadata.namespace,
    )
    if (group === undefined || !isServing(group, leader, readyNodes)) continue
    table.get(leader.spec.serving.servedName)?.push(replicaOf(leader))
  }
  for (const replicas of table.values()) replicas.sort((a, b) => (a.group < b.group ? -1 : 1))
  return table
}

const isRoutable = (shard: Shard): boolean =>
  shard.status?.phase === 'Ready' && shard.metadata.deletionTimestamp === undefined && shard.status.port !== undefined

/** Never two epochs of a group are routed, and never a group with a rank on a node that is not Ready. */
function isServing(group: ShardGroup, leader: Shard, readyNodes: ReadonlySet<string>): boolean {
  return (
    group.spec.epoch === leader.spec.epoch &&
    group.metadata.deletionTimestamp === undefined &&
    isTrue(group.status?.conditions, 'Ready') &&
    group.spec.members.every((member) => readyNodes.has(member.node))
  )
}

const replicaOf = (leader: Shard): Replica => ({
  shardUid: leader.metadata.uid,
  group: leader.spec.group,
  node: leader.spec.nodeName ?? '',
  address: leader.status?.address ?? '127.0.0.1',
  port: leader.status?.port ?? 0,
  concurrency: leader.spec.serving.concurrency,
})
