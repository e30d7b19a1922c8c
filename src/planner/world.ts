/** The world that decisions are made from: one snapshot's objects plus what only memory knows. */
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { Revision } from '../api/records.ts'
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'

export interface World {
  readonly nodes: readonly Node[]
  readonly models: readonly Model[]
  readonly deployments: readonly ModelDeployment[]
  readonly groups: readonly ShardGroup[]
  readonly shards: readonly Shard[]
  readonly revisions: readonly Revision[]
  /** node → live headroom in bytes, from heartbeats; a node that is not in it reports none. */
  readonly headroomBytes: ReadonlyMap<string, number>
  /** node → ms that it has been silent, as this process has seen it; one that is not in it: as its condition says. */
  readonly silentForMs?: ReadonlyMap<string, number>
}
