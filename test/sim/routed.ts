/** What requests are sent to, measured by the store's objects and the machines rather than by the gateway's own rules. */
import { isTrue } from '../../src/api/conditions.ts'
import { worldOf } from '../../src/controllers/world.ts'
import type { Replica, RoutingTable } from '../../src/gateway/routes.ts'
import { deriveRoutes } from '../../src/gateway/routes.ts'
import type { Snapshot } from '../../src/store/store.ts'
import type { SimMachine } from '../support/simmachine.ts'

/** Of a table that a gateway has, be it old: never two epochs of a group. */
export function tableFindings(table: RoutingTable): readonly string[] {
  return [...table].flatMap(([name, replicas]) => {
    const groups = replicas.map((replica) => replica.group)
    return new Set(groups).size === groups.length ? [] : [`RoutedTwice: ${name} to ${groups.join(', ')}`]
  })
}

/** Of a commit: who looks now sends requests only to leaders of the current epoch that are Ready, on nodes that are. */
export function routeFindings(snapshot: Snapshot): readonly string[] {
  const table = deriveRoutes(worldOf(snapshot, new Map()))
  return [...table.values()].flat().flatMap((replica) => {
    const why = whyNot(snapshot, replica)
    return why === undefined ? [] : [`RoutedWrongly: ${replica.group} at ${replica.address}:${replica.port}: ${why}`]
  })
}

function whyNot(snapshot: Snapshot, { shardUid, group: name, port, node }: Replica): string | undefined {
  const shard = snapshot.list('Shard').find(({ metadata }) => metadata.uid === shardUid)
  const group = snapshot.list('ShardGroup').find(({ metadata }) => metadata.name === name)
  if (shard === undefined || group === undefined) return 'it is not there'
  if (shard.metadata.deletionTimestamp !== undefined || group.metadata.deletionTimestamp !== undefined)
    return 'it is being deleted'
  if (shard.spec.group !== name || shard.spec.rank !== 0) return `${shard.metadata.name} does not lead it`
  if (shard.spec.epoch !== group.spec.epoch) return `epoch ${shard.spec.epoch} is not epoch ${group.spec.epoch}`
  if (shard.status?.phase !== 'Ready') return `its leader is ${shard.status?.phase ?? 'Pending'}`
  if (shard.status.port !== port || shard.spec.nodeName !== node) return 'its leader listens elsewhere'
  const away = group.spec.members.find((m) => !isTrue(snapshot.get('Node', '', m.node)?.status?.conditions, 'Ready'))
  return away === undefined ? undefined : `${away.node} is not Ready`
}

/** When all is settled every group that is Ready is in the table, at a process that lives. */
export function unrouted(
  snapshot: Snapshot,
  table: RoutingTable | undefined,
  machines: ReadonlyMap<string, SimMachine>,
): string | undefined {
  const living = new Set([...machines.values()].flatMap((m) => m.processes().map((p) => p.shard.metadata.uid)))
  const replicas = [...(table?.values() ?? [])].flat()
  const dead = replicas.find((replica) => !living.has(replica.shardUid))
  if (dead !== undefined) return `${dead.group} is routed to a leader that is gone`
  const ready = snapshot.list('ShardGroup').filter((g) => isTrue(g.status?.conditions, 'Ready'))
  const missing = ready.find((g) => !replicas.some((replica) => replica.group === g.metadata.name))
  if (missing !== undefined) return `${missing.metadata.name} is Ready, and the gateway does not route to it`
  const wrong = replicas.find((replica) => whyNot(snapshot, replica) !== undefined)
  return wrong && `${wrong.group} is routed, though ${whyNot(snapshot, wrong)}`
}
