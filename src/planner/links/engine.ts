/** May a link be measured through the engine now? Only between two nodes that have it and hold nothing. Pure. */
import { isTrue } from '../../api/conditions.ts'
import type { EngineInfo, Node } from '../../api/node.ts'
import type { Shard } from '../../api/shard.ts'
import type { ShardGroup } from '../../api/shardgroup.ts'

export type EnginePart =
  | { readonly kind: 'Wanted' }
  /** Something is bound there, or memory is short. */
  | { readonly kind: 'Later' }
  /** Not with what is installed there. */
  | { readonly kind: 'Impossible'; readonly message: string }

export function enginePart(a: Node, b: Node, bound: ReadonlySet<string>): EnginePart {
  const [one, other] = [ringOf(a), ringOf(b)]
  const without = [...(one === undefined ? [a] : []), ...(other === undefined ? [b] : [])]
  if (without.length > 0)
    return { kind: 'Impossible', message: `no mlx with a ring on ${without.map(nameOf).join(' and ')}` }
  if (one?.build !== other?.build)
    return { kind: 'Impossible', message: `${nameOf(a)} and ${nameOf(b)} have different builds of mlx` }
  const isHeld = (node: Node) => bound.has(nameOf(node)) || isTrue(node.status?.conditions, 'MemoryPressure')
  return { kind: isHeld(a) || isHeld(b) ? 'Later' : 'Wanted' }
}

const nameOf = ({ metadata }: Node): string => metadata.name

const ringOf = ({ status }: Node): EngineInfo | undefined =>
  status?.engines?.find(({ name, transports }) => name === 'mlx' && transports.includes('Ring'))

/** Nodes on which a rank runs, is to run, or may come back after a failure. */
export function boundNodes(shards: readonly Shard[], groups: readonly ShardGroup[]): ReadonlySet<string> {
  const ended = (shard: Shard) => shard.status?.phase === 'Stopped' || shard.status?.phase === 'Failed'
  return new Set([
    ...shards.filter((shard) => !ended(shard)).map(({ spec }) => spec.nodeName),
    ...groups.flatMap(({ spec }) => [...spec.members, ...(spec.next?.members ?? [])]).map(({ node }) => node),
  ])
}
