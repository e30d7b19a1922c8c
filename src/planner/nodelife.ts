/**
 * Is a node alive, and what may it promise? Ready comes from the agent's session (never from the store), allocatable
 * from its reported capacity, bound from the ledger. Losing contact is no reason to kill a shard: it only stops routing
 * and, after the deployment's nodeLossSeconds, lets a group be planned elsewhere.
 */
import { findCondition, isTrue, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import { allocatableBytes } from '../api/hardware.ts'
import type { Condition } from '../api/meta.ts'
import type { Node, NodeStatus } from '../api/node.ts'
import { formatBytes, parseBytes, quantityOf } from '../lib/quantity.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, setStatus, soonest } from './actions.ts'
import type { World } from './world.ts'

export const NOT_READY_AFTER_MS = 20_000
/** After a start of the control plane every agent must first find its way back. */
export const START_GRACE_MS = 60_000
/** A session that fell silent may go on without a word of its opening: its heartbeats tell. */
const RETURN_LOOK_MS = 5_000

/** Ages in monotonic ms, so that a jump of the wall clock turns no node NotReady. */
export interface NodeContact {
  /** Since the last message of the agent while it was fenced (Synced); undefined: never since the server started. */
  readonly syncedAgoMs: number | undefined
  /** Since its last message of any kind. */
  readonly seenAgoMs: number | undefined
  /** Since this control plane started. */
  readonly startedAgoMs: number
}

export interface NodeLifeInput {
  readonly node: Node
  readonly contact: NodeContact
  /** Bytes that the ledger binds on this node. */
  readonly boundBytes: number
  readonly nowMs: number
  /** How far its drain is; absent: it is not drained. */
  readonly drained?: ConditionUpdate
}

/** Reachable: its agent can be told things, so an older epoch there must be gone before the next one starts. */
export const isReady = (node: Node | undefined): boolean =>
  node !== undefined && isTrue(node.status?.conditions, 'Ready')

/** When the node stopped being Ready, in wall ms; undefined while it is Ready. A node without the condition: -Infinity. */
export function notReadySinceMs(node: Node): number | undefined {
  const ready = findCondition(node.status?.conditions, 'Ready')
  if (ready?.status === 'True') return undefined
  return ready === undefined ? -Infinity : Date.parse(ready.lastTransitionTime)
}

/** undefined while the node is Ready. Seen by this process's monotone clock, where it has seen it. */
export function silentForMs(
  { silentForMs }: Pick<World, 'silentForMs'>,
  node: Node,
  nowMs: number,
): number | undefined {
  const sinceMs = notReadySinceMs(node)
  return sinceMs === undefined ? undefined : (silentForMs?.get(node.metadata.name) ?? nowMs - sinceMs)
}

/** Nodes that fall silent within so long of one another share a cause. */
const TOGETHER_MS = 60_000

/**
 * More than half of the nodes are silent, and fell so together: it is likelier the network or this server than so many
 * Macs at once, and nothing is moved. Nodes that died one by one are no partition. undefined: there is none.
 */
export function partitionText(world: World, nowMs: number): string | undefined {
  const { nodes } = world
  const silentMs = nodes.flatMap((node) => silentForMs(world, node, nowMs) ?? [])
  const together = Math.max(
    0,
    ...silentMs.map((ms) => silentMs.filter((other) => other >= ms && other - ms <= TOGETHER_MS).length),
  )
  if (together * 2 <= nodes.length) return undefined
  return `${silentMs.length} of ${nodes.length} nodes are silent, ${together} of them since the same minute, so nothing is moved`
}

export function planNodeLife(input: NodeLifeInput): Plan {
  const { node, nowMs } = input
  const ready = readiness(input)
  const memory = memoryOf(node, input.boundBytes)
  const drained = input.drained === undefined ? [] : [input.drained]
  const before = (node.status?.conditions ?? []).filter(({ type }) => type !== 'Drained' || drained.length > 0)
  const conditions = setConditions(before, [ready, ...memory.conditions, ...drained], nowMs)
  const status: NodeStatus = { ...node.status, ...memory.figures, conditions }
  const events = lifeEvents(node, conditions)
  return {
    actions: [setStatus(node, status), ...events],
    report: [`${ready.reason}: ${ready.message}`],
    ...soonest(nextLookMs(input, ready.status === 'True')),
  }
}

const fresh = (agoMs: number | undefined): boolean => agoMs !== undefined && agoMs <= NOT_READY_AFTER_MS

function readiness({ node, contact }: NodeLifeInput): ConditionUpdate {
  const type = 'Ready'
  if (fresh(contact.syncedAgoMs))
    return {
      type,
      status: 'True',
      reason: 'AgentReady',
      message: 'the agent reports and runs exactly its bound shards',
    }

  const old = findCondition(node.status?.conditions, type)
  const inGrace = contact.startedAgoMs < START_GRACE_MS
  if (old?.status === 'True' && inGrace) return old
  if (fresh(contact.seenAgoMs)) {
    const message = 'the agent is connected and has not yet reconciled its processes with the bound shards'
    return { type, status: 'False', reason: 'NotSynced', message }
  }
  if (old !== undefined && inGrace) return old
  const message = `the agent has not been heard of for ${NOT_READY_AFTER_MS / 1000} s; its shards are left as they are`
  return { type, status: 'Unknown', reason: 'NodeSilent', message }
}

/** Ms until time alone could change the answer: silence that grows too long, or heartbeats that come again. */
function nextLookMs({ contact }: NodeLifeInput, ready: boolean): number | undefined {
  const graceMs = START_GRACE_MS - contact.startedAgoMs
  if (ready && contact.syncedAgoMs !== undefined && fresh(contact.syncedAgoMs))
    return NOT_READY_AFTER_MS - contact.syncedAgoMs + 1
  if (contact.seenAgoMs !== undefined) return RETURN_LOOK_MS
  return graceMs > 0 ? graceMs : undefined
}

interface MemoryVerdict {
  readonly figures: Pick<NodeStatus, 'allocatable' | 'bound'>
  readonly conditions: readonly ConditionUpdate[]
}

function memoryOf(node: Node, boundBytes: number): MemoryVerdict {
  const bound = { memory: quantityOf(boundBytes) }
  const allocatable = allocatableOf(node)
  if (allocatable === undefined) return { figures: { bound }, conditions: [] }
  const figures = { allocatable: { memory: quantityOf(allocatable) }, bound }
  return { figures, conditions: overcommitment(node, boundBytes, allocatable) }
}

/** Bytes that the node may promise, from what it reported; undefined until it reported its memory. */
export function allocatableOf(node: Node): number | undefined {
  const { capacity, nodeInfo } = node.status ?? {}
  if (capacity === undefined) return undefined
  return allocatableBytes({
    memoryBytes: parseBytes(capacity.memory),
    ...(capacity.gpuMemory === undefined ? {} : { gpuMemoryBytes: parseBytes(capacity.gpuMemory) }),
    ...(nodeInfo?.osVersion === undefined ? {} : { osVersion: nodeInfo.osVersion }),
    ...(node.spec.systemReserve === undefined ? {} : { systemReserveBytes: parseBytes(node.spec.systemReserve) }),
  })
}

/** Only a falling allocatable can bring this about: no commit raises bound above it. Nothing new is bound meanwhile. */
function overcommitment(node: Node, boundBytes: number, allocatable: number): readonly ConditionUpdate[] {
  const type = 'Overcommitted'
  const figures = `${formatBytes(boundBytes)} bound, ${formatBytes(allocatable)} allocatable`
  if (boundBytes > allocatable) return [{ type, status: 'True', reason: 'AllocatableFell', message: figures }]
  if (findCondition(node.status?.conditions, type) === undefined) return []
  return [{ type, status: 'False', reason: 'WithinAllocatable', message: 'bound memory is within allocatable' }]
}

function lifeEvents(node: Node, conditions: readonly Condition[]): readonly StoreAction[] {
  const flipped = (type: string) => {
    const [before, after] = [findCondition(node.status?.conditions, type), findCondition(conditions, type)]
    return before?.status === after?.status ? undefined : after
  }
  const events: StoreAction[] = []
  const ready = flipped('Ready')
  if (ready?.status === 'True') events.push(event(node, 'Normal', 'NodeReady', ready.message))
  else if (ready !== undefined && isReady(node)) events.push(event(node, 'Warning', 'NodeNotReady', ready.message))
  const over = flipped('Overcommitted')
  if (over?.status === 'True') events.push(event(node, 'Warning', 'NodeOvercommitted', over.message))
  const drained = flipped('Drained')
  if (drained !== undefined)
    events.push(event(node, 'Normal', drained.status === 'True' ? 'NodeDrained' : 'NodeDraining', drained.message))
  return events
}
