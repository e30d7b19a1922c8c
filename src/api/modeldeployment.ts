/** ModelDeployment: what the user wants served, how often, and how it may be cut. */
import type { Condition, ObjectMeta } from './meta.ts'
import type { Engine, GroupStrategy, Predicted, Transport } from './words.ts'

export interface ModelRef {
  /** `hf://org/name`, `file:NAME` in the agents' models folder, `https://…` for one GGUF file. Exactly one of source, name. */
  readonly source?: string
  readonly revision?: string
  /** Name of a Model. */
  readonly name?: string
}

export interface ModelDeploymentSpec {
  readonly model: ModelRef
  /** What clients say in "model". */
  readonly servedName: string
  readonly replicas: number
  readonly parallelism: {
    readonly strategy: 'Auto' | 'Data' | 'Pipeline' | 'Tensor'
    /** Ranks per replica; absent: the planner chooses. */
    readonly degree?: number
    readonly objective: 'Latency' | 'Throughput'
    readonly transport: 'Auto' | Exclude<Transport, 'Rpc'>
    /** Layers per pipeline stage, first stage first; empty: the planner chooses. */
    readonly split: readonly number[]
  }
  readonly serving: {
    readonly contextTokens: number
    readonly concurrency: number
    readonly maxOutputTokens: number
  }
  readonly engine: { readonly name: 'Auto' | Engine; readonly args: readonly string[] }
  readonly placement: {
    readonly nodeSelector: Readonly<Record<string, string>>
    readonly nodes: readonly string[]
    readonly tolerations: readonly Toleration[]
    readonly spread: 'Prefer' | 'Require' | 'None'
  }
  readonly update: {
    readonly strategy: 'RollingUpdate' | 'Recreate'
    readonly maxUnavailable: number
    readonly maxSurge: number
  }
  readonly recovery: { readonly nodeLossSeconds: number; readonly action: 'Replan' | 'Wait' }
  readonly priority: number
  readonly paused: boolean
  readonly progressDeadlineSeconds: number
  readonly revisionHistoryLimit: number
  /** `mctl rollout restart` writes the time here: another time restarts every group. RFC 3339. */
  readonly restartedAt?: string
}

/** The part of the spec that shards are made of: a change of it, compared semantically after defaulting, is a new Revision. */
export type DeploymentTemplate = Pick<
  ModelDeploymentSpec,
  'model' | 'servedName' | 'parallelism' | 'serving' | 'engine' | 'placement' | 'restartedAt'
>

/** As Kubernetes has it. `operator` absent: Equal with a value, else Exists. */
export interface Toleration {
  readonly key?: string
  readonly operator?: 'Exists' | 'Equal'
  readonly value?: string
  readonly effect?: 'NoSchedule'
}

/** The plan as a person reads it: what was chosen, why, and what was not. */
export interface PlanSummary {
  readonly hash: string
  readonly strategy: GroupStrategy
  readonly degree: number
  readonly predicted?: Predicted
  readonly why: readonly string[]
  readonly rejected: readonly string[]
}

export interface ModelDeploymentStatus {
  readonly observedGeneration?: number
  readonly replicas?: number
  readonly readyReplicas?: number
  readonly updatedReplicas?: number
  readonly currentRevision?: number
  /** Base URL of the gateway, once a replica is ready. */
  readonly endpoint?: string
  readonly plan?: PlanSummary
  /** Valid, Scheduled, Available, Progressing, Ready. */
  readonly conditions?: readonly Condition[]
}

export interface ModelDeployment {
  readonly apiVersion: string
  readonly kind: 'ModelDeployment'
  readonly metadata: ObjectMeta
  readonly spec: ModelDeploymentSpec
  readonly status?: ModelDeploymentStatus
}
