/**
 * `mctl plan`: what would become of these deployments, as plain data (DESIGN §7). Offline from manifests alone, or on
 * the server with what is bound already. Replicas are placed one after the other on one ledger, deployments by priority.
 */
import { setConditions } from '../api/conditions.ts'
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import { templateOf } from '../api/template.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import type { Member, ShardGroup } from '../api/shardgroup.ts'
import { bindingOf } from '../api/shardgroup.ts'
import type { Engine, GroupStrategy, MemoryParts, Predicted, Refusal, Transport } from '../api/words.ts'
import { hintsToShrink } from './placement/hints.ts'
import type { LedgerInput } from './ledger.ts'
import { placeGroup, search } from './placement/place.ts'
import type { Terrain } from './placement/terrain.ts'
import { terrainOf } from './placement/terrain.ts'
import type { Alternative, Incumbent, NodeView, Placed, SearchGap, Unplaceable } from './placement/types.ts'
import { demandOf, nodeViews, resolveShape } from './placement/view.ts'
import { whyNoShape } from './shapepending.ts'

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
  /** Share of the time that its GPU works while one request is in flight; absent when nothing is known of a chip. */
  readonly gpuBusyShare?: number
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
  /** Replicas may differ in their strategy, where the first one's did not leave room for all. */
  readonly replicas: readonly { readonly strategy?: GroupStrategy; readonly ranks: readonly PlanRank[] }[]
  /** Latency of the slowest replica, aggregate of all; absent when nothing is known of a chip. */
  readonly predicted?: Predicted
  /** Of the first replica, where not every set of nodes was tried: how far the best plan may be. */
  readonly search?: SearchGap
  /** Whole replicas (`Data`) that the nodes have room for, these included. */
  readonly dataReplicas?: number
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

/** What is left for a deployment: the nodes with what others have bound. */
interface Ledger {
  readonly models: readonly Model[]
  readonly views: readonly NodeView[]
  readonly terrain: Terrain
  /** Where groups of the planned deployments are now, by deployment and replica. */
  readonly incumbents: ReadonlyMap<string, Incumbent>
}

export function planReport(input: PlanInput): PlanReport {
  const nodes = input.nodes.map(readyUnlessSaid)
  const headroomBytes = input.headroomBytes ?? new Map<string, number>()
  const views = nodeViews({ nodes, ...withoutDeployments(input), headroomBytes })
  const start: Ledger = { models: input.models, views, terrain: terrainOf(views), incumbents: incumbentsOf(input) }
  const items = new Map<ModelDeployment, PlanItem>()
  let ledger = start
  for (const deployment of byPriority(input.deployments)) {
    const planned = planDeployment(input.independent === true ? start : ledger, deployment)
    items.set(deployment, planned.item)
    ledger = { ...ledger, views: planned.views }
  }
  return { items: input.deployments.flatMap((deployment) => items.get(deployment) ?? []) }
}

/** A hand-written Node says nothing of its conditions. */
function readyUnlessSaid(node: Node): Node {
  if (node.status?.conditions !== undefined) return node
  const ready = { type: 'Ready', status: 'True', reason: 'Assumed', message: 'no condition is written' } as const
  return { ...node, status: { ...node.status, conditions: setConditions([], [ready], 0) } }
}

const keyOf = (namespace: string | undefined, deployment: string) => `${namespace ?? ''}/${deployment}`

function withoutDeployments({ groups = [], shards = [], deployments }: PlanInput): LedgerInput {
  const planned = new Set(deployments.map((d) => keyOf(d.metadata.namespace, d.metadata.name)))
  const stays = ({ metadata, spec }: ShardGroup | Shard) => !planned.has(keyOf(metadata.namespace, spec.deployment))
  return { groups: groups.filter(stays), shards: shards.filter(stays) }
}

function incumbentsOf({ groups = [] }: PlanInput): ReadonlyMap<string, Incumbent> {
  return new Map(
    groups.flatMap(({ metadata, spec }) => {
      const binding = spec.next ?? bindingOf(spec)
      const key = `${keyOf(metadata.namespace, spec.deployment)}/${spec.replica}`
      if (binding === undefined) return []
      return [[key, { strategy: binding.strategy, nodes: binding.members.map((m) => m.node) }] as const]
    }),
  )
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
): { readonly item: PlanItem; readonly views: readonly NodeView[] } {
  const { name, namespace } = deployment.metadata
  const { replicas } = deployment.spec
  const resolved = resolveShape(start, deployment.spec.model)
  if (resolved === undefined) return { item: shapePending(deployment, start.models), views: start.views }

  const demand = demandOf(templateOf(deployment.spec), resolved, [])
  const placements: Placed[] = []
  const siblingNodes = new Set<string>()
  let views = start.views
  let refused: Unplaceable | undefined
  for (let replica = 0; replica < replicas && refused === undefined; replica += 1) {
    const incumbent = start.incumbents.get(`${keyOf(namespace, name)}/${replica}`)
    const placement = placeGroup(
      {
        ...demand,
        siblingNodes: [...siblingNodes],
        replicasAfter: replicas - replica - 1,
        ...(incumbent === undefined ? {} : { incumbent }),
      },
      views,
      start.terrain,
    )
    if (placement.kind === 'Unplaceable') refused = placement
    else {
      placements.push(placement)
      for (const member of placement.members) siblingNodes.add(member.node)
      views = bound(views, placement.members)
    }
  }
  const wide = placements.some((p) => p.members.length > 1)
  const shrink = wide ? hintsToShrink(demand, start.views, search) : []
  const hints = refused?.hints ?? shrink
  return { item: { ...itemOf(name, start.views, placements, refused), hints }, views }
}

function bound(views: readonly NodeView[], members: readonly Member[]): readonly NodeView[] {
  const bytes = new Map(members.map((m) => [m.node, m.memoryBytes]))
  return views.map((view) => {
    const more = bytes.get(view.name)
    return more === undefined ? view : { ...view, boundBytes: view.boundBytes + more }
  })
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
    replicas: placements.map((p) => ({ strategy: p.strategy, ranks: ranksOf(p, views) })),
    ...(predicted === undefined ? {} : { predicted }),
    ...(first?.search === undefined ? {} : { search: first.search }),
    ...dataReplicasOf(first ?? refused),
    refusals: refused?.refusals ?? first?.refusals ?? [],
    ...(refused === undefined ? {} : { message: messageFor(placements.length, refused) }),
    alternatives: first?.alternatives ?? refused?.alternatives ?? [],
    why: first?.why ?? [],
  }
}

const dataReplicasOf = (placement: Placed | Unplaceable | undefined): Pick<PlanItem, 'dataReplicas'> =>
  placement === undefined ? {} : { dataReplicas: placement.dataReplicas }

const messageFor = (placedCount: number, refused: Unplaceable): string =>
  placedCount === 0 ? refused.message : `${placedCount} replicas fit, the next does not: ${refused.message}`

const ranksOf = (placement: Placed, views: readonly NodeView[]): readonly PlanRank[] =>
  placement.members.map(({ node, rank, stage, memoryBytes, parts }, i) => {
    const gpuBusyShare = placement.busyShares?.[i]
    return {
      node,
      rank,
      layers: stage,
      memoryBytes,
      allocatableBytes: views.find((v) => v.name === node)?.allocatableBytes ?? 0,
      parts,
      ...(gpuBusyShare === undefined ? {} : { gpuBusyShare }),
    }
  })

/** Of the slowest replica, and of all together; undefined when a replica has none. */
function predictedOfAll(placements: readonly Placed[]): Predicted | undefined {
  const all = placements.flatMap((p) => p.predicted ?? [])
  if (all.length === 0 || all.length < placements.length) return undefined
  const sum = (of: (p: Predicted) => number | undefined) => all.reduce((total, p) => total + (of(p) ?? 0), 0)
  return {
    decodeTokensPerSecond: Math.min(...all.map((p) => p.decodeTokensPerSecond)),
    prefillTokensPerSecond: Math.min(...all.map((p) => p.prefillTokensPerSecond)),
    timeToFirstTokenSeconds: Math.max(...all.map((p) => p.timeToFirstTokenSeconds)),
    aggregateTokensPerSecond: sum((p) => p.aggregateTokensPerSecond),
    saturatedTokensPerSecond: sum((p) => p.saturatedTokensPerSecond),
    uncertainty: Math.max(...all.map((p) => p.uncertainty ?? 0)),
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
