/**
 * What the cost model says of a group that stands somewhere: the yardstick for what it really does. Together with
 * `withObservation` this is all that turns a measured rate into a correction of later plans.
 */
import type { ModelShape } from '../api/model.ts'
import type { Binding } from '../api/shardgroup.ts'
import type { CostInput, Layout } from './cost.ts'
import { allReduceSeconds, decodeSeconds } from './cost.ts'
import type { GroupKind } from './observed.ts'
import { NO_LINK } from './observed.ts'
import type { Ring } from './placement/links.ts'
import { ringInOrder } from './placement/links.ts'
import { terrainOf } from './placement/terrain.ts'
import type { NodeView } from './placement/types.ts'

export type StandingGroup = Pick<Binding, 'strategy' | 'engine' | 'transport' | 'members'>

export interface GroupSpeed extends GroupKind {
  /** One stream with so many tokens in the cache, uncorrected by any observation. Absent: a chip is not known. */
  readonly tokensPerSecond?: number
}

/** undefined: a node is gone, or two that must talk report no link. */
export function speedOfGroup(
  group: StandingGroup,
  shape: ModelShape,
  nodes: readonly NodeView[],
  contextTokens: number,
): GroupSpeed | undefined {
  const { strategy, engine, members } = group
  const byName = new Map(nodes.map((node) => [node.name, node]))
  // Stages follow each other; ranks of other groups go by number.
  const inOrder = [...members].sort((a, b) => a.stage[0] - b.stage[0] || a.rank - b.rank)
  const seats = inOrder.flatMap((member) => byName.get(member.node) ?? [])
  if (seats.length < members.length || seats.length === 0) return undefined
  const terrain = terrainOf(seats)
  const speeds = seats.map((_, index) => terrain.speedOf(index))

  const input: CostInput = { shape, engine, contextTokens, concurrency: 1 }
  const degree = members.length
  const ring =
    strategy === 'Single'
      ? undefined
      : ringInOrder([...seats.keys()], {
          link: (a: number, b: number) => terrain.linkOf(a, b, group.transport),
          mesh: group.transport === 'Jaccl',
          costOf: (link) => (strategy === 'Tensor' ? allReduceSeconds(input, degree, link) : link.hopSeconds),
          adds: false,
          closed: strategy === 'Tensor',
        })
  const layout = layoutOf(
    strategy,
    speeds,
    inOrder.map(({ stage }) => stage[1] - stage[0]),
    ring,
  )
  if (layout === undefined) return undefined
  const linkClass = ring?.link.className ?? NO_LINK
  const known = speeds.every((speed) => speed.known)
  return {
    strategy,
    degree,
    engine,
    linkClass,
    ...(known ? { tokensPerSecond: 1 / decodeSeconds(input, layout) } : {}),
  }
}

function layoutOf(
  strategy: StandingGroup['strategy'],
  speeds: readonly Extract<Layout, { strategy: 'Single' }>['node'][],
  layers: readonly number[],
  ring: Ring<number> | undefined,
): Layout | undefined {
  const [node] = speeds
  if (strategy === 'Single') return node && { strategy, node }
  if (ring === undefined) return undefined
  if (strategy === 'Tensor') return { strategy, nodes: speeds, link: ring.link }
  return {
    strategy,
    stages: speeds.map((speed, i) => ({ node: speed, layers: layers[i] ?? 0 })),
    hopSeconds: ring.hopSeconds,
  }
}
