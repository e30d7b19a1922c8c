/** Closed word lists that several kinds share. One thing, one word: schema, type, log key and CLI say the same. */

/** How one group is cut. `Data` is a word of deployments: each replica is then a Single group. */
export type GroupStrategy = 'Single' | 'Pipeline' | 'Tensor'
export type Engine = 'mlx' | 'llamacpp' | 'fake'
/** The backend ranks talk over. Single groups say Ring and do not use it. */
export type Transport = 'Ring' | 'Jaccl' | 'Rpc'

/** Half-open layer range [start, end) in model order: stage 0 holds the embedding side. */
export type Stage = readonly [start: number, end: number]

/** One request whose KV cache holds `serving.contextTokens` tokens (facts/performance.md §1). */
export interface Predicted {
  readonly decodeTokensPerSecond: number
  readonly prefillTokensPerSecond: number
  readonly timeToFirstTokenSeconds: number
  /** Steady state with `concurrency` requests in flight, over all replicas. */
  readonly aggregateTokensPerSecond: number
  /** With as many requests in flight as help: the figure of objective Throughput. */
  readonly saturatedTokensPerSecond?: number
  /** The decode rates are right within ± this share: 0.15 says 15 %. */
  readonly uncertainty?: number
}

/** Terms of a rank's need in bytes; memoryBytes is their sum. */
export interface MemoryParts {
  readonly weights: number
  readonly kv: number
  readonly runtime: number
}

export const refusalReasons = [
  'InsufficientMemory',
  'Unschedulable',
  'NotReady',
  'UntoleratedTaint',
  'NodeSelectorMismatch',
  'EngineUnsupported',
  'EngineMismatch',
  'StrategyUnsupported',
  'ModelNotPresent',
  'ModelDigestMismatch',
  'NoLink',
  'MemoryPressure',
  'NotEnoughNodes',
  'Indivisible',
] as const
export type RefusalReason = (typeof refusalReasons)[number]

/** Why a node cannot take a rank, in numbers where there are numbers. */
export interface Refusal {
  /** '' when the reason concerns the group and no single node. */
  readonly node: string
  readonly reason: RefusalReason
  readonly needBytes?: number
  readonly haveBytes?: number
  readonly message: string
}

/** A finalizer holds an object until its holder has cleaned up. */
export const CHILDREN_FINALIZER = 'mctl.dev/children'
export const AGENT_FINALIZER = 'mctl.dev/agent'
export const SYNC_FINALIZER = 'mctl.dev/sync'
