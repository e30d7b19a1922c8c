/**
 * A node that is being drained (Node.spec.drain): its groups move elsewhere, each as a whole and first where it fits
 * beside itself, so that it never stops answering; else with a gap, as far as update.maxUnavailable allows. One that
 * fits nowhere stays and says so in bytes, until the drain may cost it. State on the Node: whoever asked may go away.
 */
import { findCondition, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { counted } from '../lib/counted.ts'
import type { StoreAction } from './actions.ts'
import { event, isBeingDeleted, setStatus, soonest } from './actions.ts'
import type { Scheduling } from './binding.ts'
import { moveGroup, pendingOf, place, PRESSURE_RETRY_MS, refusedForPressure, unbind, withGroup } from './binding.ts'
import type { DeploymentScene } from './deployment.ts'
import type { CurrentRevision } from './revisions.ts'
import type { Hold } from './rollout.ts'
import { bound, isForced, isGroupReady, isOnDrained } from './rollout.ts'
import { successorMessage } from './successor.ts'

export interface DrainPlan {
  /** A group that moves or stops now: the step of this transaction. */
  readonly step?: Scheduling
  /** What is said of groups that cannot leave. */
  readonly actions: readonly StoreAction[]
  /** All groups, with what is said of them: whoever writes their status in the same transaction starts from these. */
  readonly groups: readonly ShardGroup[]
  readonly report: readonly string[]
  readonly waitMs?: number
}

const LEAVING = 'Leaving'

/** The first group that can leave; of those before it that cannot, why. */
export function planDrain(scene: DeploymentScene, current: CurrentRevision, living: readonly ShardGroup[]): DrainPlan {
  const told = new Map<string, ShardGroup>()
  const actions: StoreAction[] = []
  const report: string[] = []
  const waits: (number | undefined)[] = []
  const say = (group: ShardGroup, steps: readonly StoreAction[], status: ShardGroup['status']) => {
    actions.push(...steps)
    told.set(group.metadata.uid, { ...group, ...(status === undefined ? {} : { status }) })
  }
  const soFar = () => ({ actions, report, groups: scene.groups.map((g) => told.get(g.metadata.uid) ?? g) })
  for (const group of living) {
    const isHere = isOnDrained(scene.world, group.spec)
    if (!isHere && findCondition(group.status?.conditions, LEAVING) !== undefined) {
      const status = withoutLeaving(group)
      say(group, [setStatus(group, status)], status)
    }
    if (!isHere || group.spec.next !== null) continue
    const choice = leave(scene, current, group, living)
    if ('step' in choice) return { ...soFar(), step: choice.step }
    const { hold } = choice
    const status = withHold(scene, group, hold)
    if (status !== undefined)
      say(group, [setStatus(group, status), event(group, 'Warning', 'DrainBlocked', hold.message)], status)
    report.push(`${hold.reason}: ${group.metadata.name}: ${hold.message}`)
    waits.push(choice.waitMs)
  }
  return { ...soFar(), ...soonest(...waits) }
}

type Choice = { readonly step: Scheduling } | { readonly hold: Hold; readonly waitMs?: number }

/** A move is no update: a group takes its own template along. */
function leave(
  scene: DeploymentScene,
  current: CurrentRevision,
  group: ShardGroup,
  living: readonly ShardGroup[],
): Choice {
  const own = ownRevision(scene, current, group)
  const beside = isGroupReady(group) ? place(scene, own, group, 'Beside') : undefined
  if (beside?.kind === 'Placed')
    return { step: moveGroup(scene, own, group, beside, { reason: 'Draining', startFirst: true }) }

  const elsewhere = place(scene, own, group)
  const forced = isForced(scene.world, group)
  if (elsewhere?.kind === 'Placed') {
    const hold = isGroupReady(group) && !forced ? gapHold(scene, group, living) : undefined
    return hold === undefined ? { step: moveGroup(scene, own, group, elsewhere, { reason: 'Draining' }) } : { hold }
  }
  const { message, reason } = pendingOf(elsewhere, scene, own)
  if (forced) return { step: evict(scene, group, message) }
  const text = `it fits on no other node: ${message}`
  return {
    hold: { reason: reason === 'Unschedulable' ? 'NoRoom' : reason, message: text },
    ...soonest(refusedForPressure(elsewhere) ? PRESSURE_RETRY_MS : undefined),
  }
}

function ownRevision({ revisions }: DeploymentScene, current: CurrentRevision, { spec }: ShardGroup): CurrentRevision {
  const own = revisions.find((r) => r.spec.revision === spec.revision)
  return own === undefined ? current : { number: own.spec.revision, template: own.spec.template }
}

/** With a gap only one after the other, and only where a replica may be missing at all. */
function gapHold(scene: DeploymentScene, group: ShardGroup, living: readonly ShardGroup[]): Hold | undefined {
  const other = living.find((g) => g.spec.next !== null && g.metadata.uid !== group.metadata.uid)
  if (other !== undefined)
    return { reason: 'WaitingForGroups', message: `it moves after ${other.metadata.name}, one group at a time` }
  const hold = bound(scene.world, scene.deployment)
  return hold && { reason: hold.reason, message: `there is no room to start it elsewhere first, and ${hold.message}` }
}

function evict(scene: DeploymentScene, group: ShardGroup, why: string): Scheduling {
  const gone = unbind(scene.world, group)
  const message = `${group.metadata.name} stops, for its node is drained by force and it fits on no other: ${why}`
  return {
    actions: [
      gone.action,
      event(group, 'Warning', 'Evicted', message),
      event(scene.deployment, 'Warning', 'Evicted', message),
    ],
    report: [`Evicted: ${message}`],
    groups: withGroup(scene, gone.group),
  }
}

/** undefined: it says so already. */
function withHold({ nowMs }: DeploymentScene, group: ShardGroup, hold: Hold): ShardGroup['status'] {
  const condition = { type: LEAVING, status: 'False', ...hold } as const
  const before = findCondition(group.status?.conditions, LEAVING)
  if (before?.reason === hold.reason && before.message === hold.message) return undefined
  return { ...group.status, conditions: setConditions(group.status?.conditions, [condition], nowMs) }
}

const withoutLeaving = ({ status }: ShardGroup): NonNullable<ShardGroup['status']> => ({
  ...status,
  conditions: (status?.conditions ?? []).filter(({ type }) => type !== LEAVING),
})

/** Why a group is still on its node, for people. */
export function leavingMessage(group: ShardGroup): string {
  if (isBeingDeleted(group)) return 'it stops'
  const held = findCondition(group.status?.conditions, LEAVING)
  if (group.spec.next === null && held !== undefined) return held.message
  return successorMessage(group) ?? 'it is being planned elsewhere'
}

/** What a Node says of its drain; undefined: it is not drained. */
export function drainCondition(
  node: Node,
  groups: readonly ShardGroup[],
  shards: readonly Shard[],
): ConditionUpdate | undefined {
  if (node.spec.drain === undefined) return undefined
  const { name, generation: observedGeneration } = node.metadata
  const here = (members: ShardGroup['spec']['members']) => members.some((m) => m.node === name)
  const left = groups.filter(({ spec }) => here(spec.members) || here(spec.next?.members ?? []))
  const stopping = shards.filter((s) => s.spec.nodeName === name)
  const say = (status: 'True' | 'False', reason: string, message: string): ConditionUpdate => ({
    type: 'Drained',
    status,
    reason,
    message,
    observedGeneration,
  })
  if (left.length === 0 && stopping.length === 0)
    return say('True', 'Drained', 'nothing runs here, and nothing new comes before `mctl uncordon`')
  if (left.length === 0) return say('False', 'Stopping', `waiting for ${counted(stopping.length, 'shard')} to stop`)
  const why = left.map((g) => `${g.metadata.namespace ?? ''}/${g.metadata.name}: ${leavingMessage(g)}`)
  const blocked = left.some((g) => g.spec.next === null && findCondition(g.status?.conditions, LEAVING) !== undefined)
  return say('False', blocked ? 'Blocked' : 'Moving', why.join('; '))
}
