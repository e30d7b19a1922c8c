/**
 * What must always be true. `checkWorld` after every step of a test or simulation; `raisesOverAllocatable` before every
 * commit that touches groups or shards; `checkPlacement` of any plan. An empty list is good news.
 */
import { isTrue } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { Shard, ShardPhase } from '../api/shard.ts'
import { shardName } from '../api/shard.ts'
import type { Member, ShardGroup } from '../api/shardgroup.ts'
import { bindingOf } from '../api/shardgroup.ts'
import type { GroupStrategy } from '../api/words.ts'
import { formatBytes, tryParseBytes } from '../lib/quantity.ts'
import { boundBytes } from './ledger.ts'
import { memoryBytesOf } from './memory.ts'
import { allocatableOf } from './nodelife.ts'
import { buildOf, canCut, engineOf, formatRefusal } from './placement/engines.ts'
import { budgetBytes, cutRefusal } from './placement/filter.ts'
import type { Demand, NodeView, Placement } from './placement/types.ts'
import type { World } from './world.ts'

export interface Finding {
  /** Constant, CamelCase: which promise is broken. */
  readonly rule: string
  /** The object that breaks it: `Node/mini-1`, `ShardGroup/default/chat-0`. */
  readonly object: string
  readonly message: string
}

type Objects = Pick<World, 'nodes' | 'groups' | 'shards'>

/** Phases in which a shard has a process. */
const alivePhases: readonly (ShardPhase | undefined)[] = ['Starting', 'Loading', 'Ready', 'Stopping']

export function checkWorld(world: Objects): readonly Finding[] {
  return [
    ...oversoldNodes(world),
    ...world.groups.flatMap((group) => checkGroup(world, group)),
    ...world.shards.flatMap((shard) => checkShard(world, shard)),
    ...rankTwice(world.shards),
    ...twoEpochsAlive(world.shards),
  ]
}

/**
 * The invariant of every commit: it does not raise what is bound on a node above what that node may promise. Memory
 * that was oversold before (a falling allocatable) is no finding as long as it is not raised.
 */
export function raisesOverAllocatable(before: Objects, after: Objects): readonly Finding[] {
  const [was, is] = [boundBytes(before), boundBytes(after)]
  const raised = [...is].filter(([name, bytes]) => bytes > (was.get(name) ?? 0))
  if (raised.length === 0) return []
  const nodes = new Map(after.nodes.map((n) => [n.metadata.name, n]))
  return raised.flatMap(([name, bytes]) => {
    const allocatable = allocatableBytesOf(nodes.get(name))
    return bytes <= allocatable ? [] : [oversold(name, bytes, allocatable)]
  })
}

/** Does a plan keep what placement promises, for this demand on these nodes? */
export function checkPlacement(placement: Placement, demand: Demand, nodes: readonly NodeView[]): readonly Finding[] {
  if (placement.kind === 'Unplaceable') {
    const silent = placement.refusals.length === 0 || placement.message === ''
    return silent ? [{ rule: 'RefusalWithoutReason', object: 'Placement', message: 'nothing says why' }] : []
  }
  const { members, strategy, engine } = placement
  const finding = (rule: string, message: string): Finding => ({ rule, object: 'Placement', message })
  const found = [...checkMembers('Placement', strategy, demand.shape.layers, members)]
  const views = members.map((m) => nodes.find((n) => n.name === m.node))
  for (const [i, member] of members.entries()) {
    const view = views[i]
    const info = view === undefined ? undefined : engineOf(view, engine)
    if (view === undefined) found.push(finding('UnknownNode', `${member.node} is not among the nodes`))
    else if (member.memoryBytes > budgetBytes(view))
      found.push(finding('Oversold', `${member.node}: ${member.memoryBytes} of ${budgetBytes(view)} bytes`))
    if (info !== undefined && !canCut(info, engine, strategy, demand.shape.architecture))
      found.push(finding('EngineUnsupported', `${member.node}: ${engine} cannot run ${strategy}`))
  }
  const format = formatRefusal(engine, demand)
  if (format !== undefined) found.push(finding('EngineUnsupported', format))
  if (new Set(views.map((v) => (v === undefined ? '' : buildOf(v, engine)))).size > 1)
    found.push(finding('EngineMismatch', 'ranks of different builds'))
  const cut = cutRefusal(demand.shape, strategy, members.length)
  if (cut !== undefined) found.push(finding('Indivisible', cut.message))
  return found
}

function oversoldNodes(world: Objects): readonly Finding[] {
  const bound = boundBytes(world)
  return world.nodes.flatMap((node) => {
    const { name } = node.metadata
    const bytes = bound.get(name) ?? 0
    const allocatable = allocatableBytesOf(node)
    const stored = tryParseBytes(node.status?.bound?.memory ?? '')
    const found: Finding[] = []
    if (bytes > allocatable && !isTrue(node.status?.conditions, 'Overcommitted'))
      found.push(oversold(name, bytes, allocatable))
    if (stored !== undefined && stored !== bytes)
      found.push({
        rule: 'BoundStale',
        object: `Node/${name}`,
        message: `status says ${stored} bytes are bound, the ledger ${bytes}`,
      })
    return found
  })
}

const oversold = (name: string, bytes: number, allocatable: number): Finding => ({
  rule: 'Oversold',
  object: `Node/${name}`,
  message: `${formatBytes(bytes)} bound (${bytes} bytes), ${formatBytes(allocatable)} allocatable (${allocatable} bytes)`,
})

function allocatableBytesOf(node: Node | undefined): number {
  if (node === undefined) return 0
  return tryParseBytes(node.status?.allocatable?.memory ?? '') ?? allocatableOf(node) ?? 0
}

function checkGroup(world: Objects, group: ShardGroup): readonly Finding[] {
  const object = groupObject(group)
  const { next, members } = group.spec
  const bindings = [bindingOf(group.spec), next ?? undefined].filter((binding) => binding !== undefined)
  const found = bindings.flatMap((b) => checkMembers(object, b.strategy, undefined, b.members))
  if (members.length > 0 && bindingOf(group.spec) === undefined)
    found.push({ rule: 'BindingBroken', object, message: 'it has members, and no strategy, engine, transport or hash' })
  if (next !== null && next.epoch <= group.spec.epoch)
    found.push({
      rule: 'EpochBackwards',
      object,
      message: `next epoch ${next.epoch} follows epoch ${group.spec.epoch}`,
    })
  const known = new Set(world.nodes.map((n) => n.metadata.name))
  const lost = members.filter((m) => !known.has(m.node))
  return [
    ...found,
    ...lost.map((m) => ({
      rule: 'UnknownNode',
      object,
      message: `rank ${m.rank} is bound to ${m.node}, which does not exist`,
    })),
  ]
}

const groupObject = (group: ShardGroup) => `ShardGroup/${group.metadata.namespace ?? ''}/${group.metadata.name}`

/** `layers` undefined: the last stage's end stands for it. */
function checkMembers(
  object: string,
  strategy: GroupStrategy,
  layers: number | undefined,
  members: readonly Member[],
): Finding[] {
  const found: Finding[] = []
  const expect = (holds: boolean, rule: string, message: string) => {
    if (!holds) found.push({ rule, object, message })
  }
  const ranks = members.map((m) => m.rank)
  expect(
    ranks.every((rank, i) => rank === i),
    'RanksBroken',
    `ranks are ${ranks.join(', ')}, in this order`,
  )
  expect(new Set(members.map((m) => m.node)).size === members.length, 'NodeTwice', 'two ranks on one node')
  expect(
    strategy === 'Single' ? members.length === 1 : members.length > 1,
    'DegreeBroken',
    `${strategy} of ${members.length}`,
  )
  for (const m of members)
    expect(
      memoryBytesOf(m.parts) === m.memoryBytes,
      'PartsBroken',
      `rank ${m.rank}: parts do not add up to ${m.memoryBytes}`,
    )

  const stages = members.map((m) => m.stage).sort((a, b) => a[0] - b[0])
  const text = stages.map(([start, end]) => `[${start}, ${end})`).join(' ')
  const end = layers ?? stages.at(-1)?.[1] ?? 0
  const covers =
    strategy === 'Pipeline'
      ? stages.every(([start, stop], i) => start === (i === 0 ? 0 : stages[i - 1]?.[1]) && stop > start) &&
        stages.at(-1)?.[1] === end
      : stages.every(([start, stop]) => start === 0 && stop === end)
  expect(covers, 'StagesBroken', `stages ${text} do not cover [0, ${end})`)
  return found
}

/** A shard of the group's epoch, or of the planned next one, is exactly what its member says; none is ahead of both. */
function checkShard(world: Objects, shard: Shard): readonly Finding[] {
  const { spec, metadata } = shard
  const object = `Shard/${metadata.namespace ?? ''}/${metadata.name}`
  const found: Finding[] = []
  const name = shardName(spec.group, spec.epoch, spec.rank)
  if (metadata.name !== name) found.push({ rule: 'NameBroken', object, message: `its spec says ${name}` })
  const group = world.groups.find((g) => g.metadata.name === spec.group && g.metadata.namespace === metadata.namespace)
  if (group === undefined) return found
  const leaving = metadata.deletionTimestamp !== undefined
  if (spec.epoch > group.spec.epoch && spec.epoch !== group.spec.next?.epoch && !leaving)
    found.push({ rule: 'EpochAhead', object, message: `epoch ${spec.epoch}, its group is in ${group.spec.epoch}` })
  const ofEpoch = [group.spec, group.spec.next].find((e) => e?.epoch === spec.epoch)
  if (ofEpoch === undefined || ofEpoch === null || leaving) return found
  const member = ofEpoch.members.find((m) => m.rank === spec.rank)
  const same =
    member !== undefined &&
    member.node === spec.nodeName &&
    member.memoryBytes === spec.memoryBytes &&
    member.stage.join() === spec.stage.join()
  if (!same) found.push({ rule: 'BindingBroken', object, message: `differs from rank ${spec.rank} of its group` })
  return found
}

function rankTwice(shards: readonly Shard[]): readonly Finding[] {
  const seen = new Set<string>()
  return shards.flatMap(({ metadata, spec }) => {
    const key = `${metadata.namespace ?? ''}/${shardName(spec.group, spec.epoch, spec.rank)}`
    if (!seen.has(key)) {
      seen.add(key)
      return []
    }
    return [
      {
        rule: 'RankTwice',
        object: `Shard/${metadata.namespace ?? ''}/${metadata.name}`,
        message: `a second rank ${spec.rank} in epoch ${spec.epoch}`,
      },
    ]
  })
}

/** Two incarnations of one group never run side by side on one node: their bytes are there once. */
function twoEpochsAlive(shards: readonly Shard[]): readonly Finding[] {
  const epochs = new Map<string, Set<number>>()
  for (const { metadata, spec, status } of shards) {
    if (!alivePhases.includes(status?.phase)) continue
    const key = `ShardGroup/${metadata.namespace ?? ''}/${spec.group} on Node/${spec.nodeName}`
    epochs.set(key, (epochs.get(key) ?? new Set()).add(spec.epoch))
  }
  return [...epochs]
    .filter(([, alive]) => alive.size > 1)
    .map(([object, alive]) => ({
      rule: 'TwoEpochsAlive',
      object,
      message: `epochs ${[...alive].sort().join(' and ')} run`,
    }))
}
