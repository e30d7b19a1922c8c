/** Where files of a model lie, which shards need them there, and what pruning would free. Pure. */
import type { Node, NodeModel } from './node.ts'
import type { Shard } from './shard.ts'
import { readsFiles } from './shard.ts'

/** One copy on one node: of an `hf://` source there may be several, one a commit. */
export interface ModelPlace extends NodeModel {
  readonly node: string
  /** Names of the shards that need it, of those that are bound there. */
  readonly shards: readonly string[]
  /** 0: a shard needs it, or it is none that was fetched. */
  readonly prunableBytes: number
}

/** Every copy of the source, in order of nodes. */
export function placesOf(source: string, nodes: readonly Node[], shards: readonly Shard[]): readonly ModelPlace[] {
  const users = shards.filter((shard) => shard.spec.model.source === source && readsFiles(shard))
  const places = nodes.flatMap(({ metadata, status }) =>
    (status?.models ?? [])
      .filter((model) => model.source === source)
      .map((model): ModelPlace => {
        const own = users.filter((shard) => shard.spec.nodeName === metadata.name && isOf(shard, model))
        const names = own.map((shard) => shard.metadata.name).sort()
        // What the agent said of it may be older than a shard that has just been bound.
        const prunable = model.prunable === true && names.length === 0
        return { ...model, node: metadata.name, shards: names, prunableBytes: prunable ? (model.sizeBytes ?? 0) : 0 }
      }),
  )
  return places.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
}

const isOf = ({ spec }: Shard, { revision }: NodeModel): boolean =>
  revision === undefined || revision === spec.model.revision

const keyOf = ({ node, revision = '' }: ModelPlace): string => `${node} ${revision}`
