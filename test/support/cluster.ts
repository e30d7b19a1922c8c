/** Builders of planner worlds: what a test does not say is a sound default. */
import type { Condition } from '../../src/api/meta.ts'
import { API_VERSION, timestamp } from '../../src/api/meta.ts'
import type { Model, ModelShape } from '../../src/api/model.ts'
import type { ModelDeployment, ModelDeploymentSpec } from '../../src/api/modeldeployment.ts'
import { templateOf } from '../../src/api/template.ts'
import type { Node, NodeStatus } from '../../src/api/node.ts'
import type { Revision } from '../../src/api/records.ts'
import type { Rendezvous, Shard, ShardPhase, ShardStatus } from '../../src/api/shard.ts'
import { shardName } from '../../src/api/shard.ts'
import type { Binding, Member, ShardGroup, ShardGroupSpec, ShardGroupStatus } from '../../src/api/shardgroup.ts'
import { AGENT_FINALIZER, CHILDREN_FINALIZER } from '../../src/api/words.ts'
import type { Plan, StoreAction } from '../../src/planner/actions.ts'
import type { World } from '../../src/planner/world.ts'

export const NOW_MS = Date.parse('2026-01-01T12:00:00Z')
const MIB = 2 ** 20

export const meta = (name: string, namespace?: string, extra: object = {}) => ({
  name,
  ...(namespace === undefined ? {} : { namespace }),
  uid: `uid-${name}`,
  resourceVersion: '1',
  generation: 1,
  creationTimestamp: timestamp(NOW_MS - 3_600_000),
  ...extra,
})

export const condition = (type: string, status: 'True' | 'False' | 'Unknown', agoMs = 3_600_000): Condition => ({
  type,
  status,
  reason: 'Test',
  message: 'test',
  lastTransitionTime: timestamp(NOW_MS - agoMs),
})

/** A small model of 4 layers that any test cluster can hold. */
export const tinyShape: ModelShape = {
  architecture: 'llama',
  layers: 4,
  hiddenSize: 128,
  intermediateSize: 256,
  attentionHeads: 4,
  kvHeads: 4,
  headDim: 32,
  vocabSize: 1000,
  parameters: 1_000_000,
  weightBytes: 100 * MIB,
}

export const aModel = (name = 'tiny', shape: ModelShape = tinyShape): Model => ({
  apiVersion: API_VERSION,
  kind: 'Model',
  metadata: meta(name),
  spec: { shape },
})

export function aNode(
  name: string,
  options: { silentForMs?: number; status?: Partial<NodeStatus>; memory?: string } = {},
): Node {
  const ready =
    options.silentForMs === undefined ? condition('Ready', 'True') : condition('Ready', 'Unknown', options.silentForMs)
  const memory = options.memory ?? '16Gi'
  return {
    apiVersion: API_VERSION,
    kind: 'Node',
    metadata: meta(name),
    spec: { unschedulable: false, taints: [] },
    status: {
      nodeInfo: { chip: 'Apple M4', gpuCores: 10, osVersion: '15.3' },
      capacity: { memory },
      engines: [{ name: 'fake', version: '1', build: 'fake-1', transports: ['Ring'], pipeline: ['*'], tensor: ['*'] }],
      models: [],
      links: [],
      addresses: [{ type: 'Internal', address: '127.0.0.1' }],
      conditions: [ready],
      ...options.status,
    },
  }
}

export const deploymentSpec = (changes: Partial<ModelDeploymentSpec> = {}, name = 'chat'): ModelDeploymentSpec => ({
  model: { name: 'tiny' },
  servedName: name,
  replicas: 1,
  parallelism: { strategy: 'Data', objective: 'Latency', transport: 'Auto', split: [] },
  serving: { contextTokens: 128, concurrency: 1, maxOutputTokens: 128 },
  engine: { name: 'fake', args: [] },
  placement: { nodeSelector: {}, nodes: [], tolerations: [], spread: 'Prefer' },
  update: { strategy: 'RollingUpdate', maxUnavailable: 1, maxSurge: 0 },
  recovery: { nodeLossSeconds: 120, action: 'Replan' },
  priority: 0,
  paused: false,
  progressDeadlineSeconds: 600,
  revisionHistoryLimit: 10,
  ...changes,
})

export const aDeployment = (
  changes: Partial<ModelDeploymentSpec> = {},
  options: { name?: string; metadata?: object; status?: ModelDeployment['status'] } = {},
): ModelDeployment => {
  const name = options.name ?? 'chat'
  return {
    apiVersion: API_VERSION,
    kind: 'ModelDeployment',
    metadata: meta(name, 'default', { finalizers: [CHILDREN_FINALIZER], ...options.metadata }),
    spec: deploymentSpec(changes, name),
    ...(options.status === undefined ? {} : { status: options.status }),
  }
}

export const aRevision = (
  deployment: ModelDeployment,
  revision = 1,
  template = templateOf(deployment.spec),
): Revision => ({
  apiVersion: API_VERSION,
  kind: 'Revision',
  metadata: meta(`${deployment.metadata.name}-r${revision}`, 'default', {
    ownerReferences: [{ kind: 'ModelDeployment', name: deployment.metadata.name, uid: deployment.metadata.uid }],
  }),
  spec: { deployment: deployment.metadata.name, revision, template },
})

export const member = (rank: number, node: string, memoryBytes = 200 * MIB): Member => ({
  rank,
  node,
  stage: [0, 4],
  memoryBytes,
  parts: { weights: memoryBytes, kv: 0, runtime: 0 },
})

export const aBinding: Binding = {
  strategy: 'Tensor',
  engine: 'fake',
  transport: 'Ring',
  planHash: 'hash',
  members: [member(0, 'mini-1'), member(1, 'mini-2')],
}

export const aGroup = (
  changes: Partial<ShardGroupSpec> = {},
  options: { status?: ShardGroupStatus; metadata?: object; deployment?: string } = {},
): ShardGroup => {
  const deployment = options.deployment ?? 'chat'
  const replica = changes.replica ?? 0
  return {
    apiVersion: API_VERSION,
    kind: 'ShardGroup',
    metadata: meta(`${deployment}-${replica}`, 'default', {
      finalizers: [CHILDREN_FINALIZER],
      ownerReferences: [{ kind: 'ModelDeployment', name: deployment, uid: `uid-${deployment}`, controller: true }],
      ...options.metadata,
    }),
    spec: {
      deployment,
      replica,
      revision: 1,
      epoch: 1,
      ...aBinding,
      next: null,
      ...changes,
    },
    ...(options.status === undefined ? {} : { status: options.status }),
  }
}

export interface ShardOptions {
  readonly epoch?: number
  readonly rendezvous?: Rendezvous | null
  readonly status?: ShardStatus
  readonly metadata?: object
}

/** Rank `rank` of the group, on its member's node. */
export function aShard(group: ShardGroup, rank: number, phase?: ShardPhase, options: ShardOptions = {}): Shard {
  const epoch = options.epoch ?? group.spec.epoch
  const m = group.spec.members.find((x) => x.rank === rank) ?? member(rank, `mini-${rank + 1}`)
  const name = shardName(group.metadata.name, epoch, rank)
  return {
    apiVersion: API_VERSION,
    kind: 'Shard',
    metadata: meta(name, 'default', {
      finalizers: [AGENT_FINALIZER],
      ownerReferences: [{ kind: 'ShardGroup', name: group.metadata.name, uid: group.metadata.uid }],
      ...options.metadata,
    }),
    spec: {
      nodeName: m.node,
      deployment: group.spec.deployment,
      group: group.metadata.name,
      epoch,
      revision: 1,
      rank,
      worldSize: group.spec.members.length,
      strategy: group.spec.strategy ?? aBinding.strategy,
      transport: 'Ring',
      stage: m.stage,
      split: [],
      engine: { name: 'fake', args: [] },
      model: { layers: 4, vocabSize: 1000 },
      serving: { servedName: 'chat', contextTokens: 128, concurrency: 1, maxOutputTokens: 128 },
      memoryBytes: m.memoryBytes,
      parts: m.parts,
      rendezvous: options.rendezvous ?? null,
    },
    ...(phase === undefined && options.status === undefined
      ? {}
      : {
          status: {
            ...(phase === undefined ? {} : { phase, ringAddress: `127.0.0.1:${7000 + rank}` }),
            ...options.status,
          },
        }),
  }
}

export const aWorld = (parts: Partial<World> = {}): World => ({
  nodes: [aNode('mini-1'), aNode('mini-2')],
  models: [aModel()],
  deployments: [],
  groups: [],
  shards: [],
  revisions: [],
  headroomBytes: new Map(),
  ...parts,
})

/** The actions of one kind, in order. */
export const actionsOf = <A extends StoreAction['action']>(plan: Plan, action: A) =>
  plan.actions.filter((a): a is Extract<StoreAction, { action: A }> => a.action === action)

export const reasonsOf = (plan: Plan): readonly string[] => actionsOf(plan, 'recordEvent').map((e) => e.reason)
