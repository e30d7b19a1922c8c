/** Table rows for list, get and watch: cells from src/api/columns.ts, look-ups into the same snapshot. */
import type { Related } from '../api/columns.ts'
import { rowOf } from '../api/columns.ts'
import { placesOf } from '../api/modelplaces.ts'
import type { AnyObject } from '../api/objects.ts'
import type { MctlObject } from '../api/meta.ts'
import { formatBytes } from '../lib/quantity.ts'
import type { TableRow } from '../rpc/messages.ts'
import type { Snapshot } from '../store/store.ts'
import type { ServerDoors } from './handlers.ts'
import { liveNode } from './live.ts'

/** Makes rows of one snapshot; what other objects tell is counted once, when the first cell asks for it. */
export function rowMaker(
  { clock, sessions }: Pick<ServerDoors, 'clock' | 'sessions'>,
  snapshot: Snapshot,
): (object: MctlObject) => TableRow {
  const related = { ...relatedIn(snapshot), live: (node: string) => liveNode(sessions, node, clock.monotonicMs()) }
  const nowMs = clock.nowMs()
  return (object) => ({ cells: rowOf(object as AnyObject, nowMs, related) })
}

function relatedIn(snapshot: Snapshot): Related {
  let shards: ReadonlyMap<string, number> | undefined
  let nodes: ReadonlyMap<string, readonly string[]> | undefined
  let sources: ReadonlyMap<string, readonly string[]> | undefined
  return {
    nodesOfSource: (source) => (sources ??= nodesBySource(snapshot)).get(source) ?? [],
    placesOfSource: (source) => placesOf(source, snapshot.list('Node'), snapshot.list('Shard')),
    shardsOnNode: (node) => (shards ??= countShards(snapshot)).get(node) ?? 0,
    nodesOfDeployment: (namespace, name) => (nodes ??= nodesByDeployment(snapshot)).get(`${namespace}/${name}`) ?? [],
  }
}

function countShards(snapshot: Snapshot): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { spec } of snapshot.list('Shard')) counts.set(spec.nodeName, (counts.get(spec.nodeName) ?? 0) + 1)
  return counts
}

function nodesBySource(snapshot: Snapshot): ReadonlyMap<string, readonly string[]> {
  const nodes = new Map<string, readonly string[]>()
  for (const { metadata, status } of snapshot.list('Node'))
    for (const { source, state, sizeBytes } of status?.models ?? []) {
      const size = sizeBytes === undefined ? '' : `:${formatBytes(sizeBytes)}`
      const word = `${metadata.name}${state === 'Present' ? '' : `(${state})`}${size}`
      nodes.set(source, [...new Set([...(nodes.get(source) ?? []), word])].sort())
    }
  return nodes
}

function nodesByDeployment(snapshot: Snapshot): ReadonlyMap<string, readonly string[]> {
  const nodes = new Map<string, Set<string>>()
  for (const { metadata, spec } of snapshot.list('ShardGroup')) {
    const key = `${metadata.namespace ?? ''}/${spec.deployment}`
    const known = nodes.get(key) ?? new Set<string>()
    for (const member of spec.members) known.add(member.node)
    nodes.set(key, known)
  }
  return new Map([...nodes].map(([key, names]) => [key, [...names].sort()]))
}
