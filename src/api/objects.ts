/** Kind name → type: what lets the store, the controllers and the printers speak of any kind and lose no types. */
import type { Authority } from './authority.ts'
import type { Model } from './model.ts'
import type { ModelDeployment } from './modeldeployment.ts'
import type { Node } from './node.ts'
import type { ApplySet, Event, Revision } from './records.ts'
import type { Shard } from './shard.ts'
import type { ShardGroup } from './shardgroup.ts'
import type { Sync } from './sync.ts'
import type { ApiKey, JoinToken, User } from './trust.ts'

export interface ObjectOf {
  Node: Node
  Model: Model
  ModelDeployment: ModelDeployment
  ShardGroup: ShardGroup
  Shard: Shard
  Revision: Revision
  Sync: Sync
  ApplySet: ApplySet
  Event: Event
  User: User
  ApiKey: ApiKey
  JoinToken: JoinToken
  Authority: Authority
}
export type AnyObject = ObjectOf[keyof ObjectOf]
