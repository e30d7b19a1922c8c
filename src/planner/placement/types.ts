/** What placement is asked (Demand, NodeView) and what it answers (Placement). Values in, values out. */
import type { EngineInfo, NodeInfo, NodeLink, NodeModel, Taint } from '../../api/node.ts'
import type { DeploymentTemplate } from '../../api/modeldeployment.ts'
import type { ModelShape, ObservedRate } from '../../api/model.ts'
import type { Member } from '../../api/shardgroup.ts'
import type { Engine, GroupStrategy, Predicted, Refusal, Transport } from '../../api/words.ts'
import type { Terrain } from './terrain.ts'

/** A node as placement sees it: one group's planning view of one snapshot. */
export interface NodeView {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly ready: boolean
  readonly unschedulable: boolean
  readonly taints: readonly Taint[]
  readonly allocatableBytes: number
  /** Claims of all OTHER groups: the planned group may reuse its own bytes. */
  readonly boundBytes: number
  /** Live headroom when the agent reports it: an admission filter, never part of the ledger. */
  readonly headroomBytes?: number
  /** What the system keeps; tells whether a raised GPU limit would help. */
  readonly systemReserveBytes?: number
  readonly nodeInfo: NodeInfo
  readonly memoryBytes: number
  readonly engines: readonly EngineInfo[]
  readonly links: readonly NodeLink[]
  /** undefined: all models are present (thin offline manifests). */
  readonly models: readonly NodeModel[] | undefined
}

/** One group's wish. */
export interface Demand {
  readonly template: DeploymentTemplate
  readonly shape: ModelShape
  /** Digest that every rank's files must have; undefined: not known, any. */
  readonly digest: string | undefined
  /** Where the files come from; undefined: shape only (the fake engine needs none). */
  readonly source: string | undefined
  /** What a node that lacks the files can fetch; absent: they must be there. */
  readonly fetch?: { readonly commit: string }
  /** Nodes that hold other replicas of the same deployment, for `spread`. */
  readonly siblingNodes: readonly string[]
  /** Replicas of the same deployment that will want a place after this one: it leaves them room. */
  readonly replicasAfter?: number
  /** Where the group is now: it stays unless it would gain a fifth. */
  readonly incumbent?: Incumbent
  /** What groups of this model did. */
  readonly observed?: readonly ObservedRate[]
}

export interface Incumbent {
  readonly strategy: GroupStrategy
  readonly nodes: readonly string[]
}

/** A candidate that was considered; `reason` says why it was not chosen, or why it is impossible. */
export interface Alternative {
  readonly strategy: GroupStrategy
  readonly degree: number
  readonly schedulable: boolean
  readonly decodeTokensPerSecond?: number
  readonly saturatedTokensPerSecond?: number
  readonly reason: string
}

export interface Placed {
  readonly kind: 'Placed'
  readonly strategy: GroupStrategy
  readonly engine: Engine
  readonly transport: Transport
  /** By rank. Stages cover [0, layers) without gap for Pipeline; every other rank holds [0, layers). */
  readonly members: readonly Member[]
  /** Same plan, same hash, whatever the order of inputs. */
  readonly planHash: string
  /** Absent when nothing is known of a chip. */
  readonly predicted?: Predicted
  /** By rank: share of the time that its GPU works while one request is in flight. Absent as `predicted` is. */
  readonly busyShares?: readonly number[]
  /** Class of the slowest link in use; `none` for Single. */
  readonly linkClass: string
  /** Where not every set of nodes was tried. */
  readonly search?: SearchGap
  /** Whole replicas (`Data`) that the nodes have room for, this group's included. */
  readonly dataReplicas: number
  readonly why: readonly string[]
  readonly alternatives: readonly Alternative[]
  /** Why fewer ranks were not enough: those of the whole model on one node, when that was tried first. */
  readonly refusals?: readonly Refusal[]
}

/** How much better than the chosen plan any plan could be, as far as it is known. */
export interface SearchGap {
  /** No plan reaches more of the objective's tokens per second. */
  readonly boundTokensPerSecond: number
  /** 0.04: at most 4 % more than the chosen one. */
  readonly gap: number
}

export interface Unplaceable {
  readonly kind: 'Unplaceable'
  /** Those of the nearest-to-fitting candidate, per node, in numbers. */
  readonly refusals: readonly Refusal[]
  /** `0/2 nodes are available: 2 Insufficient memory (need 10.9Gi, best free 10.1Gi)` */
  readonly message: string
  readonly alternatives: readonly Alternative[]
  /** Ways out that were planned and found to fit. */
  readonly hints: readonly string[]
  /** Whole replicas (`Data`) that the nodes have room for. */
  readonly dataReplicas: number
}

export type Placement = Placed | Unplaceable

/** `placeGroup(demand, nodes)` of place.ts. Deterministic in the set of nodes, not in their order. */
export type PlaceGroup = (demand: Demand, nodes: readonly NodeView[], terrain?: Terrain) => Placement
