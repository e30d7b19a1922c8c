/** Shard: one process, one rank of worldSize, on one node, in one epoch. Immutable but for rendezvous; status is the agent's. */
import type { Condition, ObjectMeta } from './meta.ts'
import type { ModelFile } from './model.ts'
import type { Engine, GroupStrategy, MemoryParts, Stage, Transport } from './words.ts'

/** Written by the control plane into all ranks in one transaction once every rank is Prepared. */
export interface Rendezvous {
  /** Server time; an agent that reads it later than this does not start the rank. */
  readonly startByMs: number
  /** Per rank, the addresses (`ip:port`) under which THIS rank must see it. */
  readonly hosts: readonly (readonly string[])[]
  /** Per rank, who holds it. Absent: an older server wrote it. */
  readonly members?: readonly RendezvousMember[]
}

export interface RendezvousMember {
  readonly node: string
  readonly shardUid: string
  /** From which it may come to the others: its node has one on each link. Absent: those in `hosts`. */
  readonly addresses?: readonly string[]
}

export interface ShardSpec {
  readonly nodeName: string
  readonly deployment: string
  readonly group: string
  readonly epoch: number
  readonly revision: number
  readonly rank: number
  readonly worldSize: number
  readonly strategy: GroupStrategy
  readonly transport: Transport
  readonly stage: Stage
  /** Layers per stage in model order, for Pipeline; else []. */
  readonly split: readonly number[]
  readonly engine: { readonly name: Engine; readonly args: readonly string[] }
  readonly model: {
    readonly source?: string
    readonly digest?: string
    /** The commit of an `hf://` source; else what the deployment says. */
    readonly revision?: string
    /** What the node may fetch at that commit, and must get; absent: the files have to be on the node. */
    readonly files?: readonly ModelFile[]
    readonly name?: string
    readonly layers: number
    readonly vocabSize: number
  }
  readonly serving: {
    readonly servedName: string
    readonly contextTokens: number
    readonly concurrency: number
    readonly maxOutputTokens: number
  }
  readonly memoryBytes: number
  readonly parts: MemoryParts
  /** Of the deployment, when the epoch was formed: under memory pressure the lowest goes first. Absent: 0. */
  readonly priority?: number
  readonly rendezvous: Rendezvous | null
}

export type ShardPhase =
  'Pending' | 'Fetching' | 'Prepared' | 'Starting' | 'Loading' | 'Ready' | 'Stopping' | 'Stopped' | 'Failed'

export interface ShardExit {
  readonly code?: number
  readonly signal?: string
  /** CamelCase: EngineExited, EngineCrashed, StartDeadline, ShardhostLost, ModelInvalid, StartWindowMissed, … */
  readonly reason: string
  readonly message: string
  readonly atMs: number
}

export interface ShardStatus {
  readonly phase?: ShardPhase
  /** Pid of the engine, not of the shardhost. */
  readonly pid?: number
  /** Where the gateway reaches the leader's shardhost door. */
  readonly address?: string
  readonly port?: number
  /** The rank's rendezvous address `ip:port`, taken at Prepared. */
  readonly ringAddress?: string
  readonly conditions?: readonly Condition[]
  readonly progress?: { readonly doneBytes: number; readonly totalBytes: number }
  readonly exit?: ShardExit
  readonly lastLogLines?: readonly string[]
}

export interface Shard {
  readonly apiVersion: string
  readonly kind: 'Shard'
  readonly metadata: ObjectMeta
  readonly spec: ShardSpec
  readonly status?: ShardStatus
}

/** `<group>-e<epoch>-<rank>` */
export const shardName = (group: string, epoch: number, rank: number): string => `${group}-e${epoch}-${rank}`

/** Rank 0: it owns the group's HTTP endpoint. */
export const isLeader = (shard: Pick<Shard, 'spec'>): boolean => shard.spec.rank === 0

/** Does the rank read the model's files? A worker of llama.cpp gets its layers from the leader. */
export const readsFiles = ({ spec }: Pick<Shard, 'spec'>): boolean => spec.transport !== 'Rpc' || spec.rank === 0

/** What must be loaded before the rank is Ready, out of its own bytes: a leader over Rpc sends the others theirs. */
export function bytesToLoad({ spec }: Pick<Shard, 'spec'>, ownBytes: number): number {
  const { rank, stage, transport, worldSize, model } = spec
  if (transport !== 'Rpc' || rank !== 0 || worldSize === 1) return ownBytes
  const ownLayers = Math.max(1, stage[1] - stage[0])
  // Read from disk, and once more at the speed of a link: 100 MB/s where a disk gives 200.
  return ownBytes + (2 * ownBytes * Math.max(0, model.layers - ownLayers)) / ownLayers
}
