/**
 * The ledger: bytes bound on a node, from bindings, never from live free memory. A group claims the largest of what
 * its members, its successor's members and its existing shards of one epoch need on a node, so a restart or an update
 * never loses its place to a stranger, and a tight group can restart in its own bytes.
 */
import type { Member, ShardGroup } from '../api/shardgroup.ts'
import type { Shard } from '../api/shard.ts'

export interface LedgerInput {
  readonly groups: readonly ShardGroup[]
  readonly shards: readonly Shard[]
}

/** `namespace/name` of a group: shards name their group inside their own namespace. */
const groupKey = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`

/** node → bytes claimed, over all groups but `except` (the group that is being planned). */
export function boundBytes(input: LedgerInput, except?: ShardGroup): ReadonlyMap<string, number> {
  const bound = new Map<string, number>()
  const exceptKey = except === undefined ? undefined : groupKey(except.metadata.namespace, except.metadata.name)
  for (const [key, claim] of claims(input)) {
    if (key === exceptKey) continue
    for (const [node, bytes] of claim) bound.set(node, (bound.get(node) ?? 0) + bytes)
  }
  return bound
}

/** group key → node → bytes. Shards whose group is gone still claim their bytes until their process is. */
export function claims(input: LedgerInput): ReadonlyMap<string, ReadonlyMap<string, number>> {
  const byGroup = new Map<string, Map<string, number>>()
  const raise = (key: string, parts: ReadonlyMap<string, number>) => {
    const claim = byGroup.get(key) ?? new Map<string, number>()
    for (const [node, bytes] of parts) claim.set(node, Math.max(claim.get(node) ?? 0, bytes))
    byGroup.set(key, claim)
  }
  for (const group of input.groups) {
    const key = groupKey(group.metadata.namespace, group.metadata.name)
    raise(key, sumByNode(group.spec.members))
    raise(key, sumByNode(group.spec.next?.members ?? []))
  }
  // By epoch: two of one group are never alive on one node, so their bytes are there once.
  const epochs = new Map<string, { key: string; shards: { node: string; memoryBytes: number }[] }>()
  for (const { metadata, spec } of input.shards) {
    const key = groupKey(metadata.namespace, spec.group)
    const ofEpoch = epochs.get(`${key}@${spec.epoch}`) ?? { key, shards: [] }
    ofEpoch.shards.push({ node: spec.nodeName, memoryBytes: spec.memoryBytes })
    epochs.set(`${key}@${spec.epoch}`, ofEpoch)
  }
  for (const { key, shards } of epochs.values()) raise(key, sumByNode(shards))
  return byGroup
}

function sumByNode(parts: readonly Pick<Member, 'node' | 'memoryBytes'>[]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>()
  for (const part of parts) sums.set(part.node, (sums.get(part.node) ?? 0) + part.memoryBytes)
  return sums
}
