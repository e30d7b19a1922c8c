/** From what a gateway saw of a group to what the group's Model keeps of it: beside it stands what was predicted. */
import type { Model } from '../api/model.ts'
import type { ObservedSpeed } from '../api/speed.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { bindingOf } from '../api/shardgroup.ts'
import { speedOfGroup } from './groupspeed.ts'
import type { Observation } from './observed.ts'
import { modelOf, nodeViews, shapeOf, templateOfGroup } from './placement/view.ts'
import type { World } from './world.ts'

/** undefined: the group is not bound any more, or its model, a node of it or a link between them is not known. */
export function observationOf(
  world: Pick<World, 'nodes' | 'models' | 'revisions'>,
  group: ShardGroup,
  { answers, tokens, seconds, contextTokens }: Omit<ObservedSpeed, 'shardUid'>,
): { readonly model: Model; readonly observation: Observation } | undefined {
  const binding = bindingOf(group.spec)
  const template = templateOfGroup(world, group)
  const model = template === undefined ? undefined : modelOf(world, template.model)
  const shape = model === undefined ? undefined : shapeOf(model)
  if (binding === undefined || model === undefined || shape === undefined) return undefined

  const members = new Set(binding.members.map((m) => m.node))
  const nodes = world.nodes.filter((node) => members.has(node.metadata.name))
  const views = nodeViews({ nodes, groups: [], shards: [], headroomBytes: new Map() })
  const speed = speedOfGroup(binding, shape, views, Math.max(1, contextTokens))
  if (speed === undefined) return undefined
  const { tokensPerSecond: predictedTokensPerSecond, ...kind } = speed
  const seen = { ...kind, tokensPerSecond: tokens / seconds, samples: answers }
  return {
    model,
    observation: predictedTokensPerSecond === undefined ? seen : { ...seen, predictedTokensPerSecond },
  }
}
