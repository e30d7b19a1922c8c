/**
 * `mctl plan`: what would become of these deployments, as plain data (DESIGN §7). Offline from manifests alone, or on
 * the server with what is bound already. Replicas are placed one after the other on one ledger, deployments by priority.
 */
import { setConditions } from '../api/conditions.ts'
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import { templateOf } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import { groupName } from '../api/shardgroup.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import type { Engine, GroupStrategy, MemoryParts, Predicted, Refusal, Transport } from '../api/words.ts'
import { hintsToShrink } from './placement/hints.ts'
import { bestCandidate, placeGroup } from './placement/place.ts'
import type { Alternative, NodeView, Placed, Unplaceable } from './placement/types.ts'
import { demandOf, nodeViews, resolveShape } from './placement/view.ts'
import { whyNoShape } from './shapepending.ts'
import type { World } from './world.ts'

export interface PlanInput {
  /** Thin ones will do: chip and capacity.memory. One without conditions counts as Ready. */
  readonly nodes: readonly Node[]
  readonly models: readonly Model[]
  /** Validated and defaulted. */
  readonly deployments: readonly ModelDeployment[]
  /** Plan each deployment as if it were the only one of these. */
  readonly independent?: boolean
  /** What is bound already; groups of a planned deployment give their bytes back first. */
  readonly groups?: readonly ShardGroup[]
  readonly shards?: readonly Shard[]
  readonly headroomBytes?: ReadonlyMap<string, number>
}

export interface PlanRank {
  readonly node: string
  /** The engine's rank. */
  readonly rank: number
  /** In model order. */
  readonly layers: readonly [start: number, end: number]
  readonly memoryBytes: number
  readonly allocatableBytes: number
  readonly parts: MemoryParts
}

export interface PlanItem {
  readonly name: string
  /** Every replica has its place. */
  readonly schedulable: boolean
  /** Of the first replica; absent when there is none. */
  readonly strategy?: GroupStrategy
  readonly degree?: number
  readonly engine?: Engine
  readonly transport?: Transport
  readonly replicas: readonly { readonly ranks: readonly PlanRank[] }[]
  /** Latency of the slowest replica, aggregate of all; absent when a chip is not known. */
  readonly predicted?: Predicted
  /** Of the first replica that found no place; of one that needs several nodes: why one is not enough. */
  readonly refusals: readonly Refusal[]
  readonly message?: string
  readonly alternatives: readonly Alternative[]
  readonly hints: readonly string[]
  readonly why: readonly string[]
}

export interface PlanReport {
  readonly items: readonly PlanItem[]
}

type Ledger = Pick<World, 'nodes' | 'models' | 'groups' | 'shards' | 'headroomBytes'>

export function planReport(input: PlanInput): PlanReport {
  const start: Ledger = {
    nodes: input.nodes.map(readyUnlessSaid),
    models: input.models,
    ...withoutDeployments(input),
    headroomBytes: input.headroomBytes ?? new Map(),
  }
  const items = new Map<ModelDeployment, PlanItem>()
  let ledger = start
  for (const deployment of byPriority(input.deployments)) {
    const planned = planDeployment(input.independent === true ? start : ledger, deployment)
    items.set(deployment, planned.item)
    ledger = { ...ledger, groups: [...ledger.groups, ...planned.groups] }
  }
  return { items: input.deployments.flatMap((deployment) => items.get(deployment) ?? []) }
}

/** A hand-written Node says nothing of its conditions. */
function readyUnlessSaid(node: Node): Node {
  if (node.status?.conditions !== undefined) return node
  const ready = { type: 'Ready', status: 'True', reason: 'Assumed', message: 'no condition is written' } as const
  return { ...node, status: { ...node.status, conditions: setConditions([], [ready], 0) } }
}

const isOf = (deployment: ModelDeployment, object: ShardGroup | Shard): boolean =>
  object.spec.deployment === deployment.metadata.name && object.metadata.namespace === deployment.metadata.namespace

function withoutDeployments({ groups = [], shards = [], deployments }: PlanInput): Pick<Ledger, 'groups' | 'shards'> {
  const stays = (object: ShardGroup | Shard) => !deployments.some((d) => isOf(d, object))
  return { groups: groups.filter(stays), shards: shards.filter(stays) }
}

const byPriority = (deployments: readonly ModelDeployment[]): readonly ModelDeployment[] =>
  [...deployments].sort(
    (a, b) =>
      b.spec.priority - a.spec.priority ||
      (a.metadata.name < b.metadata.name ? -1 : a.metadata.name > b.metadata.name ? 1 : 0),
  )

function planDeployment(
  start: Ledger,
  deployment: ModelDeployment,
): { readonly item: PlanItem; readonly groups: readonly ShardGroup[] } {
  const { name } = deployment.metadata
  const resolved = resolveShape(start, deployment.spec.model)
  if (resolved === undefined) return { item: shapePending(deployment, start.models), groups: [] }

  const template = templateOf(deployment.spec)
  const groups: ShardGroup[] = []
  const placements: Placed[] = []
  let refused: Unplaceable | undefined
  for (let replica = 0; replica < deployment.spec.replicas && refused === undefined; replica += 1) {
    const siblingNodes = [...new Set(groups.flatMap((g) => g.spec.members.map((m) => m.node)))]
    const views = nodeViews({ ...start, groups: [...start.groups, ...groups] })
    const placement = placeGroup(demandOf(template, resolved, siblingNodes), views)
    if (placement.kind === 'Unplaceable') refused = placement
    else {
      placements.push(placement)
      groups.push(boundGroup(deployment, replica, placement))
    }
  }
  const views = nodeViews(start)
  const wide = placements.some((p) => p.members.length > 1)
  const shrink = wide ? hintsToShrink(demandOf(template, resolved, []), views, bestCandidate) : []
  const hints = refused?.hints ?? shrink
  return { item: { ...itemOf(name, views, placements, refused), hints }, groups }
}

function itemOf(
  name: string,
  views: readonly NodeView[],
  placements: readonly Placed[],
  refused: Unplaceable | undefined,
): Omit<PlanItem, 'hints'> {
  const [first] = placements
  const predicted = predictedOfAll(placements)
  return {
    name,
    schedulable: refused === undefined,
    ...(first === undefined
      ? {}
      : { strategy: first.strategy, degree: first.members.length, engine: first.engine, transport: first.transport }),
    replicas: placements.map((p) => ({ ranks: ranksOf(p, views) })),
    ...(predicted === undefined ? {} : { predicted }),
    refusals: refused?.refusals ?? first?.refusals ?? [],
    ...(refused === undefined ? {} : { message: messageFor(placements.length, refused) }),
    alternatives: first?.alternatives ?? refused?.alternatives ?? [],
    why: first?.why ?? [],
  }
}

const messageFor = (placedCount: number, refused: Unplaceable): string =>
  placedCount === 0 ? refused.message : `${placedCount} replicas fit, the next does not: ${refused.message}`

const ranksOf = (placement: Placed, views: readonly NodeView[]): readonly PlanRank[] =>
  placement.members.map(({ node, rank, stage, memoryBytes, parts }) => ({
    node,
    rank,
    layers: stage,
    memoryBytes,
    allocatableBytes: views.find((v) => v.name === node)?.allocatableBytes ?? 0,
    parts,
  }))

function predictedOfAll(placements: readonly Placed[]): Predicted | undefined {
  const all = placements.map((p) => p.predicted)
  // A decode speed of 0 says: not predicted.
  if (all.length === 0 || all.some((p) => p.decodeTokensPerSecond === 0)) return undefined
  return {
    decodeTokensPerSecond: Math.min(...all.map((p) => p.decodeTokensPerSecond)),
    prefillTokensPerSecond: Math.min(...all.map((p) => p.prefillTokensPerSecond)),
    timeToFirstTokenSeconds: Math.max(...all.map((p) => p.timeToFirstTokenSeconds)),
    aggregateTokensPerSecond: all.reduce((sum, p) => sum + p.aggregateTokensPerSecond, 0),
  }
}

function shapePending(deployment: ModelDeployment, models: readonly Model[]): PlanItem {
  const { model } = deployment.spec
  const wanted = model.name === undefined ? `with source ${model.source ?? ''}` : `named ${model.name}`
  const why = whyNoShape(models, model) ?? `no Model ${wanted} has a shape; add a Model with spec.shape`
  const message = `ModelShapePending: ${why}`
  const refusal: Refusal = { node: '', reason: 'ModelNotPresent', message }
  return {
    name: deployment.metadata.name,
    schedulable: false,
    replicas: [],
    refusals: [refusal],
    message,
    alternatives: [],
    hints: [],
    why: [],
  }
}

/** A placed replica as the ledger counts it. */
function boundGroup(deployment: ModelDeployment, replica: number, placed: Placed): ShardGroup {
  const { name, namespace } = deployment.metadata
  const { strategy, engine, transport, planHash, members } = placed
  return {
    apiVersion: deployment.apiVersion,
    kind: 'ShardGroup',
    metadata: {
      name: groupName(name, replica),
      ...(namespace === undefined ? {} : { namespace }),
      uid: '',
      resourceVersion: '0',
      generation: 1,
      creationTimestamp: '',
    },
    spec: {
      deployment: name,
      replica,
      revision: 1,
      epoch: 1,
      strategy,
      engine,
      transport,
      planHash,
      members,
      next: null,
    },
  }
}
