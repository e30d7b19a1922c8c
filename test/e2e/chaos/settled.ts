/** Do all states agree? The store, the processes of this machine and the gateway, after the faults. */
import { isTrue } from '../../../src/api/conditions.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { parseBytes } from '../../../src/lib/quantity.ts'
import type { RealCluster } from '../../support/realcluster.ts'

/** undefined: they do. Else what does not. */
export async function unsettled(cluster: RealCluster): Promise<string | undefined> {
  const { client } = cluster
  const nodes = (await client.list({ kind: 'Node' })).items as readonly Node[]
  const deployments = (await client.list({ kind: 'ModelDeployment' })).items as readonly ModelDeployment[]
  const shards = (await client.list({ kind: 'Shard' })).items as readonly Shard[]
  const silent = nodes.find((node) => !isTrue(node.status?.conditions, 'Ready'))
  if (nodes.length !== cluster.nodes.length || silent !== undefined)
    return `${silent?.metadata.name ?? 'a node'} is not Ready`
  for (const { metadata, status } of deployments)
    if (!isTrue(status?.conditions, 'Ready'))
      return `${metadata.name}: ${status?.conditions?.find((c) => c.type === 'Ready')?.message ?? 'no condition'}`
  return unlikeProcesses(cluster, shards) ?? unlikeLedger(nodes, shards)
}

/** Each shard is one living engine with one host, and there are no others. */
function unlikeProcesses(cluster: RealCluster, shards: readonly Shard[]): string | undefined {
  const living = cluster.living()
  const engines = new Set(living.filter((p) => p.role === 'engine').map((p) => p.pid))
  const dead = shards.find((shard) => !engines.has(shard.status?.pid ?? -1))
  if (dead !== undefined) return `${dead.metadata.name} is ${dead.status?.phase ?? 'Pending'}, its process is not there`
  const wanted = new Set(shards.map((shard) => shard.status?.pid))
  const orphan = [...engines].find((pid) => !wanted.has(pid))
  if (orphan !== undefined) return `engine ${orphan} belongs to no shard`
  const hosts = living.filter((p) => p.role === 'shardhost').length
  if (hosts !== shards.length) return `${hosts} shardhosts for ${shards.length} shards`
  return cluster.shardFolders() === shards.length
    ? undefined
    : `${cluster.shardFolders()} folders for ${shards.length} shards`
}

function unlikeLedger(nodes: readonly Node[], shards: readonly Shard[]): string | undefined {
  for (const { metadata, status } of nodes) {
    const bytes = shards
      .filter((shard) => shard.spec.nodeName === metadata.name)
      .reduce((sum, shard) => sum + shard.spec.memoryBytes, 0)
    const bound = parseBytes(status?.bound?.memory ?? '0')
    if (bytes !== bound) return `${metadata.name}: ${bound} bytes are bound, shards have ${bytes}`
  }
  return undefined
}
