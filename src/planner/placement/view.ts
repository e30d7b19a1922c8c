/** From stored objects to what placement is asked: nodes with their free bytes, and the shape of a model. */
import { isTrue } from '../../api/conditions.ts'
import { systemReserveBytes } from '../../api/hardware.ts'
import type { Model, ModelFile, ModelShape, ObservedRate } from '../../api/model.ts'
import type { DeploymentTemplate, ModelRef } from '../../api/modeldeployment.ts'
import { isOfRef } from '../../api/modelhub.ts'
import type { Node } from '../../api/node.ts'
import type { ShardGroup } from '../../api/shardgroup.ts'
import { tryParseBytes } from '../../lib/quantity.ts'
import { boundBytes } from '../ledger.ts'
import { allocatableOf, isReady } from '../nodelife.ts'
import type { World } from '../world.ts'
import type { Demand, NodeView } from './types.ts'

/** What is known of a model that a deployment names. */
export interface ResolvedShape {
  readonly shape: ModelShape
  /** undefined: not known, any. */
  readonly digest: string | undefined
  /** undefined: a shape without files. */
  readonly source: string | undefined
  /** What groups of the model did. */
  readonly observed?: readonly ObservedRate[]
  /** What a node that lacks the files can fetch; undefined: they must be there. */
  readonly fetch?: { readonly commit: string; readonly files: readonly ModelFile[] }
}

/** Every node as a plan for `group` sees it: bound by all OTHER groups, for it may reuse its own bytes. */
export function nodeViews(
  world: Pick<World, 'nodes' | 'groups' | 'shards' | 'headroomBytes'>,
  group?: ShardGroup,
): readonly NodeView[] {
  const bound = boundBytes(world, group)
  return world.nodes.map((node) => nodeView(node, bound.get(node.metadata.name) ?? 0, world.headroomBytes))
}

function nodeView(node: Node, bound: number, headroomBytes: ReadonlyMap<string, number>): NodeView {
  const { name, labels = {}, deletionTimestamp } = node.metadata
  const status = node.status ?? {}
  const memoryBytes = tryParseBytes(status.capacity?.memory ?? '0') ?? 0
  const stored = tryParseBytes(status.allocatable?.memory ?? '')
  const headroom = isTrue(status.conditions, 'MemoryPressure') ? 0 : headroomBytes.get(name)
  return {
    name,
    labels,
    ready: isReady(node),
    unschedulable: node.spec.unschedulable || node.spec.drain !== undefined || deletionTimestamp !== undefined,
    taints: node.spec.taints,
    allocatableBytes: stored ?? allocatableOf(node) ?? 0,
    boundBytes: bound,
    ...(headroom === undefined ? {} : { headroomBytes: headroom }),
    systemReserveBytes: systemReserveBytes(memoryBytes, node.spec.systemReserve),
    nodeInfo: status.nodeInfo ?? { chip: '' },
    memoryBytes,
    engines: status.engines ?? [],
    links: status.links ?? [],
    models: status.models,
  }
}

/**
 * The shape that the reference means: by name the Model of that name, by source the Model with that source (and
 * revision; who says none means main). Headers (status) are preferred to what a person wrote (spec). undefined: not known yet,
 * ModelShapePending.
 */
export function resolveShape(world: Pick<World, 'models'>, ref: ModelRef): ResolvedShape | undefined {
  const model = modelOf(world, ref)
  const shape = model === undefined ? undefined : shapeOf(model)
  if (model === undefined || shape === undefined) return undefined
  const source = ref.source ?? model.spec.source
  const observed = model.status?.observed
  const seen = observed === undefined ? {} : { observed }
  return { shape, digest: model.status?.digest, source, ...seen, ...fetchable(source, model) }
}

/** The Model behind `resolveShape`. */
export const modelOf = ({ models }: Pick<World, 'models'>, ref: ModelRef): Model | undefined =>
  matching(models, ref).find((model) => shapeOf(model) !== undefined)

export const shapeOf = ({ spec, status }: Model): ModelShape | undefined => status?.shape ?? spec.shape

/** The template that a group is made of; undefined: its revision is gone. */
export const templateOfGroup = (
  { revisions }: Pick<World, 'revisions'>,
  { metadata, spec }: ShardGroup,
): DeploymentTemplate | undefined =>
  revisions.find(
    (r) =>
      r.metadata.namespace === metadata.namespace &&
      r.spec.deployment === spec.deployment &&
      r.spec.revision === spec.revision,
  )?.spec.template

function fetchable(source: string | undefined, { status }: Model): Pick<ResolvedShape, 'fetch'> {
  const { resolvedRevision: commit, files } = status ?? {}
  const afar = source !== undefined && /^(?:hf|https):\/\//.test(source)
  const known = afar && commit !== undefined && files !== undefined
  return known ? { fetch: { commit, files } } : {}
}

/** Best match first: shapes from headers, then by name, so that the answer does not depend on the order of models. */
function matching(models: readonly Model[], ref: ModelRef): readonly Model[] {
  if (ref.name !== undefined) return models.filter((m) => m.metadata.name === ref.name)
  const rank = (m: Model) => `${m.status?.shape === undefined ? 1 : 0}/${m.metadata.name}`
  return models.filter(({ spec }) => isOfRef(spec, ref)).sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
}

export const demandOf = (
  template: DeploymentTemplate,
  resolved: ResolvedShape,
  siblingNodes: readonly string[],
): Demand => ({ template, ...resolved, siblingNodes })
