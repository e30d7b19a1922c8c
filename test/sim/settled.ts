/** Has the cluster come to what is asked of it? In the store, on the machines and in the gateway. */
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import { worldOf } from '../../src/controllers/world.ts'
import { checkWorld } from '../../src/planner/check.ts'
import { boundBytes } from '../../src/planner/ledger.ts'
import type { Snapshot } from '../../src/store/store.ts'
import type { SimCluster } from '../support/simcluster.ts'
import type { SimMachine } from '../support/simmachine.ts'
import { unrouted } from './routed.ts'
import type { Witness } from './witness.ts'

/** undefined: it has. Else what is still open. */
export function unsettled(cluster: SimCluster, witness: Witness): string | undefined {
  if (!cluster.serverAnswers) return 'the server does not answer'
  const snapshot = cluster.store.snapshot()
  const bound = boundBytes({ groups: snapshot.list('ShardGroup'), shards: snapshot.list('Shard') })
  return (
    unsettledObject(snapshot) ??
    [...cluster.machines.values()]
      .map((machine) => unsettledMachine(machine, snapshot, bound.get(machine.name) ?? 0))
      .find((open) => open !== undefined) ??
    unrouted(snapshot, cluster.routes, cluster.machines) ??
    witness.behind(snapshot)
  )
}

function unsettledObject(snapshot: Snapshot): string | undefined {
  for (const { metadata, status } of snapshot.list('ModelDeployment')) {
    const scheduled = findCondition(status?.conditions, 'Scheduled')
    const refused = scheduled?.reason === 'Unschedulable' && scheduled.message.includes('nodes are available')
    if (metadata.deletionTimestamp !== undefined) return `${metadata.name} is being deleted`
    if (!isTrue(status?.conditions, 'Ready') && !refused)
      return `${metadata.name}: ${findCondition(status?.conditions, 'Ready')?.message ?? 'no condition'}`
  }
  for (const node of snapshot.list('Node'))
    if (!isTrue(node.status?.conditions, 'Ready')) return `${node.metadata.name} is not Ready`
  for (const group of snapshot.list('ShardGroup'))
    if (group.spec.members.length > 0 && !isTrue(group.status?.conditions, 'Ready'))
      return `${group.metadata.name}: ${findCondition(group.status?.conditions, 'Ready')?.message ?? ''}`
  const broken = checkWorld(worldOf(snapshot, new Map())).at(0)
  return broken === undefined ? undefined : `${broken.rule} ${broken.object}: ${broken.message}`
}

/**
 * Exactly what is bound there runs there. The successor of a group that may not stop yet (its deployment is refused for
 * want of room) has its bytes bound and waits, prepared.
 */
function unsettledMachine(machine: SimMachine, snapshot: Snapshot, boundBytes: number): string | undefined {
  const { name } = machine
  if (snapshot.get('Node', '', name) === undefined) return `${name} has no Node`
  const living = new Map(machine.processes().map(({ shard }) => [shard.metadata.uid, shard]))
  const orphan = [...living.values()].find((shard) => snapshot.getByUid(shard.metadata.uid) === undefined)
  if (orphan !== undefined) return `${orphan.metadata.name} is an orphan on ${name}`
  const own = snapshot.list('Shard').filter((shard) => shard.spec.nodeName === name)
  const missing = own.find((shard) => shard.status?.phase !== 'Prepared' && !living.has(shard.metadata.uid))
  if (missing !== undefined)
    return `${missing.metadata.name} is ${missing.status?.phase ?? 'Pending'}, and not on ${name}`
  const waits = snapshot
    .list('ShardGroup')
    .some((group) => group.spec.next?.members.some((member) => member.node === name) === true)
  const bytes = [...living.values()].reduce((sum, shard) => sum + shard.spec.memoryBytes, 0)
  return bytes === boundBytes || waits ? undefined : `${name} runs ${bytes} bytes, ${boundBytes} are bound`
}
