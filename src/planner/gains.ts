/**
 * Links changed: would a group that serves be faster elsewhere now? Only for a gain of a fifth it goes (DESIGN §7), and
 * it says what it would gain. What it was judged by stands on it as an annotation, so that nothing is judged twice and
 * no change is missed, whoever was away meanwhile.
 */
import { createHash } from 'node:crypto'
import type { Node } from '../api/node.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import type { StoreAction } from './actions.ts'
import { annotate, event } from './actions.ts'
import type { Scheduling } from './binding.ts'
import { demandFor, moveGroup, place, viewsBeside } from './binding.ts'
import type { DeploymentScene } from './deployment.ts'
import { GAIN_TO_MOVE } from './placement/choose.ts'
import type { Standing } from './placement/place.ts'
import { search, standingOf } from './placement/place.ts'
import type { Demand } from './placement/types.ts'
import { nodeViews } from './placement/view.ts'
import type { CurrentRevision } from './revisions.ts'
import { bound, isGroupReady } from './rollout.ts'

/** Names the figures of all links that the group was planned or judged by. */
export const LINKS_ANNOTATION = 'mctl.dev/judged-by-links'
/** A gain under this is not told. */
const TOLD_GAIN = 0.01

/** undefined: nothing is to be judged. One group of a deployment moves at a time; the others are judged after it. */
export function planGains(
  scene: DeploymentScene,
  current: CurrentRevision,
  living: readonly ShardGroup[],
): Scheduling | undefined {
  if (scene.deployment.spec.paused || living.some((g) => g.spec.next !== null)) return undefined
  const links = fingerprintOf(scene.world.nodes)
  if (links === undefined) return undefined
  const actions: StoreAction[] = []
  const report: string[] = []
  for (const group of living.filter((g) => g.spec.members.length > 0)) {
    const judgedBy = group.metadata.annotations?.[LINKS_ANNOTATION]
    // Without a mark it was planned a moment ago, by these.
    const isDue = judgedBy !== undefined && isGroupReady(group) && group.spec.revision === current.number
    if (judgedBy === links || (judgedBy !== undefined && !isDue)) continue
    actions.push(annotate(group, { [LINKS_ANNOTATION]: links }))
    if (!isDue) continue
    const { message, told, move } = judge(scene, current, group)
    report.push(message)
    if (told) actions.push(...tell(scene, group, message))
    if (move !== undefined)
      return { ...move, actions: [...actions, ...move.actions], report: [...report, ...move.report] }
  }
  return actions.length === 0 ? undefined : { actions, report, groups: scene.groups }
}

interface Verdict {
  readonly message: string
  /** It is news for people. */
  readonly told: boolean
  readonly move?: Scheduling
}

function judge(scene: DeploymentScene, current: CurrentRevision, group: ShardGroup): Verdict {
  const demand = demandFor(scene, current, group)
  if (demand === undefined) return { message: stays(group, 'its model is not known'), told: false }
  const standing = standingOf(demand, nodeViews(scene.world, group))
  switch (standing.kind) {
    case 'Unknown':
      return { message: stays(group, `what it would gain cannot be said: ${standing.why}`), told: false }
    case 'Best':
      return { message: stays(group, `nowhere is faster than its ${rate(standing.now)}`), told: false }
    case 'Behind':
      return behind(scene, current, group, demand, standing)
  }
}

function behind(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  demand: Demand,
  standing: Extract<Standing, { kind: 'Behind' }>,
): Verdict {
  const { now, then, gain, from, where } = standing
  const figures = `${where} would give ${rate(then)}, ${from} gives ${rate(now)}: a gain of ${percent(gain)}`
  if (then < now * GAIN_TO_MOVE)
    return { message: stays(group, `${figures}, less than ${percent(GAIN_TO_MOVE - 1)}`), told: gain >= TOLD_GAIN }

  const message = `links changed, ${group.metadata.name} moves: ${figures}, at least ${percent(GAIN_TO_MOVE - 1)}`
  const aside = search.best(demand, viewsBeside(scene.world, group))
  const beside =
    aside !== undefined && aside.score >= now * GAIN_TO_MOVE ? place(scene, current, group, 'Beside') : undefined
  if (beside?.kind === 'Placed') {
    const move = moveGroup(scene, current, group, beside, { reason: 'Replanned', startFirst: true })
    return { message, told: true, move }
  }
  const hold = bound(scene.world, scene.deployment)
  if (hold !== undefined)
    return { message: stays(group, `${figures}, but it would have to stop first, and ${hold.message}`), told: true }
  const elsewhere = place(scene, current, group)
  if (elsewhere?.kind !== 'Placed') return { message: stays(group, figures), told: true }
  return { message, told: true, move: moveGroup(scene, current, group, elsewhere, { reason: 'Replanned' }) }
}

const stays = (group: ShardGroup, why: string): string => `links changed, ${group.metadata.name} stays: ${why}`
const rate = (tokensPerSecond: number): string => `${tokensPerSecond.toFixed(1)} tok/s`
/** Never more than it is: 19.96 % is no fifth. */
const percent = (share: number): string => `${Math.floor(share * 1000 + 1e-6) / 10} %`

/** Of the group and of the nodes that it stands on. */
function tell({ world }: DeploymentScene, group: ShardGroup, message: string): readonly StoreAction[] {
  const own = new Set(group.spec.members.map(({ node }) => node))
  const about = [group, ...world.nodes.filter(({ metadata }) => own.has(metadata.name))]
  return about.map((object) => event(object, 'Normal', 'LinkGain', message))
}

/** The same as long as every link carries the same; undefined: nobody told of any. */
function fingerprintOf(nodes: readonly Node[]): string | undefined {
  const linked = nodes.filter(({ status }) => (status?.links ?? []).length > 0)
  return linked.length === 0 ? undefined : digestOf(linked.map(linksDigest)).slice(0, 16)
}

/** Asked in each pass of each deployment, of Nodes that hardly ever change: 64 of them tell of 4,000 links. */
const digests = new WeakMap<Node, string>()

function linksDigest(node: Node): string {
  const known = digests.get(node)
  if (known !== undefined) return known
  const links = (node.status?.links ?? []).map((link) => {
    const { peer, type, transport, bandwidthGBps, latencyMicros, allReduceMicros, hopMicros, failure } = link
    const figures = [bandwidthGBps, latencyMicros, allReduceMicros, hopMicros].map((figure) => figure ?? '')
    return [node.metadata.name, peer, type, transport, ...figures, failure === undefined].join(' ')
  })
  const digest = digestOf(links)
  digests.set(node, digest)
  return digest
}

const digestOf = (lines: readonly string[]): string =>
  createHash('sha256')
    .update([...lines].sort().join('\n'))
    .digest('hex')
