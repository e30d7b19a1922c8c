/**
 * One ShardGroup with all that concerns it in one snapshot: its Shards by epoch, its nodes, the time. What shardgroup.ts,
 * rankfailure.ts and reform.ts decide from.
 */
import { setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import type { GroupPhase, Member, NextEpoch, ShardGroup, ShardGroupStatus } from '../api/shardgroup.ts'
import { isReady } from './nodelife.ts'
import type { World } from './world.ts'

/** The group with what concerns it. `formed`: Shards of its epoch were made. */
export interface GroupScene {
  readonly world: World
  readonly group: ShardGroup
  readonly nowMs: number
  /** By rank. */
  readonly current: readonly Shard[]
  /** Of the planned successor, by rank: made while the current epoch serves. */
  readonly upcoming: readonly Shard[]
  /** Shards of other epochs, or of an earlier group of this name, whose processes may still live. */
  readonly older: readonly Shard[]
  readonly nodeOf: (name: string) => Node | undefined
  readonly formed: boolean
}

const formedPhases: readonly (GroupPhase | undefined)[] = ['Fetching', 'Preparing', 'Starting', 'Ready']

export function sceneOf(world: World, group: ShardGroup, nowMs: number): GroupScene {
  const nodes = new Map(world.nodes.map((n) => [n.metadata.name, n]))
  const ofName = world.shards.filter(
    (s) => s.metadata.namespace === group.metadata.namespace && s.spec.group === group.metadata.name,
  )
  const ofEpoch = (epoch: number | undefined) =>
    ofName
      .filter((s) => s.spec.epoch === epoch)
      .filter((s) => (s.metadata.ownerReferences ?? []).some((owner) => owner.uid === group.metadata.uid))
      .sort((a, b) => a.spec.rank - b.spec.rank)
  const current = ofEpoch(group.spec.epoch)
  const upcoming = ofEpoch(group.spec.next?.epoch)
  const older = ofName.filter((s) => !current.includes(s) && !upcoming.includes(s))
  const formed = current.length > 0 || formedPhases.includes(group.status?.phase)
  return { world, group, nowMs, current, upcoming, older, nodeOf: (name) => nodes.get(name), formed }
}

/** The successor as if it were current: what decides about a group decides about it, too. */
export function successorScene(scene: GroupScene, next: NextEpoch): GroupScene {
  const { group, upcoming } = scene
  const { startFirst: _, ...epoch } = next
  const spec = { ...group.spec, ...epoch, next: null }
  return { ...scene, group: { ...group, spec }, current: upcoming, upcoming: [], formed: upcoming.length > 0 }
}

/**
 * An epoch that no Shard of this name ever had. Shards of a plan that was given up may still stand on a silent node, and
 * those that are gone may have met: their epoch is remembered.
 */
export function nextEpochOf(world: Pick<World, 'shards'>, group: ShardGroup): number {
  const taken = world.shards
    .filter((s) => s.metadata.namespace === group.metadata.namespace && s.spec.group === group.metadata.name)
    .map((s) => s.spec.epoch)
  const { epoch, next, givenUpEpoch = 0 } = group.spec
  return 1 + Math.max(epoch, next?.epoch ?? 0, givenUpEpoch, ...taken)
}

/** Older Shards on nodes that can be reached: their processes must be gone first. Those on a silent node delay nothing. */
export const blockingShards = (scene: GroupScene): readonly Shard[] =>
  scene.older.filter((s) => isReady(scene.nodeOf(s.spec.nodeName)))

/**
 * As blockingShards, and those on the nodes of `members`, which want to start: an agent that says Prepared is in contact
 * again, even before its node is Ready, and will not start a rank beside its older epoch.
 */
export function holdingRendezvous(
  scene: GroupScene,
  members: readonly Member[] = scene.group.spec.members,
): readonly Shard[] {
  const starting = new Set(members.map((m) => m.node))
  return scene.older.filter((s) => starting.has(s.spec.nodeName) || isReady(scene.nodeOf(s.spec.nodeName)))
}

export const nodesOf = (members: ShardGroup['spec']['members']): string =>
  [...new Set(members.map((m) => m.node))].join(', ')

export const NOT_BOUND = 'the group is bound to no nodes yet'

export const notReady = (reason: string, message: string): ConditionUpdate => ({
  type: 'Ready',
  status: 'False',
  reason,
  message,
})

export function statusOf(
  { group, nowMs }: GroupScene,
  changes: Partial<ShardGroupStatus>,
  conditions: readonly ConditionUpdate[],
): ShardGroupStatus {
  return { ...group.status, ...changes, conditions: setConditions(group.status?.conditions, conditions, nowMs) }
}
