/** The Shards of a bound group's epoch, as they will be created: one per member, all in one transaction. */
import type { Manifest } from '../api/meta.ts'
import { API_VERSION } from '../api/meta.ts'
import type { Member, ShardGroup } from '../api/shardgroup.ts'
import { bindingOf } from '../api/shardgroup.ts'
import type { ShardSpec } from '../api/shard.ts'
import { shardName } from '../api/shard.ts'
import { AGENT_FINALIZER } from '../api/words.ts'
import { ownerOf } from './actions.ts'
import type { GroupScene } from './groupscene.ts'
import { NOT_BOUND } from './groupscene.ts'
import { resolveShape, templateOfGroup } from './placement/view.ts'
import type { World } from './world.ts'

export type MadeShards =
  | { readonly kind: 'Made'; readonly shards: readonly Manifest[] }
  | { readonly kind: 'Waiting'; readonly reason: string; readonly message: string }

export function makeShards({ world, group }: GroupScene): MadeShards {
  const { deployment, revision } = group.spec
  const template = templateOfGroup(world, group)
  if (template === undefined)
    return { kind: 'Waiting', reason: 'RevisionGone', message: `revision ${revision} of ${deployment} does not exist` }
  const resolved = resolveShape(world, template.model)
  if (resolved === undefined)
    return { kind: 'Waiting', reason: 'ModelShapePending', message: 'the shape of the model is not known' }

  const binding = bindingOf(group.spec)
  if (binding === undefined) return { kind: 'Waiting', reason: 'NotScheduled', message: NOT_BOUND }
  const { members, strategy, transport, engine } = binding
  const { epoch } = group.spec
  const { shape, digest, source, fetch } = resolved
  const modelRevision = fetch?.commit ?? template.model.revision
  const common: Omit<ShardSpec, 'nodeName' | 'rank' | 'stage' | 'memoryBytes' | 'parts'> = {
    deployment,
    group: group.metadata.name,
    epoch,
    revision,
    worldSize: members.length,
    strategy,
    transport,
    split: splitOf(strategy, members),
    engine: { name: engine, args: template.engine.args },
    model: {
      ...(source === undefined ? {} : { source }),
      ...(digest === undefined ? {} : { digest }),
      ...(modelRevision === undefined ? {} : { revision: modelRevision }),
      ...(fetch === undefined ? {} : { files: fetch.files }),
      ...(template.model.name === undefined ? {} : { name: template.model.name }),
      layers: shape.layers,
      vocabSize: shape.vocabSize,
    },
    serving: { servedName: template.servedName, ...template.serving },
    ...priorityOf(world, group),
    rendezvous: null,
  }
  const shards = members.map((m): Manifest => ({
    apiVersion: API_VERSION,
    kind: 'Shard',
    metadata: {
      name: shardName(group.metadata.name, epoch, m.rank),
      ...(group.metadata.namespace === undefined ? {} : { namespace: group.metadata.namespace }),
      finalizers: [AGENT_FINALIZER],
      ownerReferences: [ownerOf(group)],
      labels: { 'mctl.dev/deployment': deployment, 'mctl.dev/group': group.metadata.name },
    },
    spec: {
      ...common,
      nodeName: m.node,
      rank: m.rank,
      stage: m.stage,
      memoryBytes: m.memoryBytes,
      parts: m.parts,
    } satisfies ShardSpec,
  }))
  return { kind: 'Made', shards }
}

/** Layers per stage in model order, whatever rank the engine gives a stage. */
const splitOf = (strategy: string, members: readonly Member[]): readonly number[] =>
  strategy === 'Pipeline'
    ? members
        .map((m) => m.stage)
        .sort((a, b) => a[0] - b[0])
        .map(([start, end]) => end - start)
    : []

function priorityOf({ deployments }: World, { metadata, spec }: ShardGroup): { priority?: number } {
  const owner = deployments.find(
    (d) => d.metadata.namespace === metadata.namespace && d.metadata.name === spec.deployment,
  )
  const priority = owner?.spec.priority ?? 0
  return priority === 0 ? {} : { priority }
}
