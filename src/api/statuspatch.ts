/**
 * What an agent may write: whitelisted fields of its own Node's status, and the whole status of its own shards. The
 * server keeps allocatable, bound and Ready to itself, because placement trusts them.
 */
import { OpError } from '../lib/errors.ts'
import type { ConditionUpdate } from './conditions.ts'
import { setConditions } from './conditions.ts'
import type { Condition } from './meta.ts'
import type { Node, NodeStatus } from './node.ts'
import type { Shard, ShardStatus } from './shard.ts'

export type StatusPatch = Readonly<Record<string, unknown>>

/** Node conditions that an agent observes itself. */
export const agentConditionTypes = [
  'MemoryPressure',
  'DiskPressure',
  'ThermalPressure',
  'EngineMissing',
  'GangPortsOpen',
  'ThunderboltNotSet',
] as const

const nodeFields = [
  'nodeInfo',
  'capacity',
  'engines',
  'ports',
  'networks',
  'links',
  'addresses',
  'models',
  'conditions',
] as const
const shardFields = [
  'phase',
  'pid',
  'address',
  'port',
  'ringAddress',
  'conditions',
  'progress',
  'exit',
  'lastLogLines',
] as const satisfies readonly (keyof ShardStatus)[]

/**
 * The status with the patch merged in, field by field: a field is replaced whole, null removes it, conditions are merged
 * by type and keep their lastTransitionTime while their status stays. Pure. OpError Forbidden names a field that agents
 * may not write, Invalid a patch of the wrong form; the values themselves are judged by `validate` of the whole object.
 */
export function applyStatusPatch(object: Node, patch: StatusPatch, nowMs: number): NodeStatus
export function applyStatusPatch(object: Shard, patch: StatusPatch, nowMs: number): ShardStatus
export function applyStatusPatch(object: Node | Shard, patch: StatusPatch, nowMs: number): NodeStatus | ShardStatus
export function applyStatusPatch(object: Node | Shard, patch: StatusPatch, nowMs: number): NodeStatus | ShardStatus {
  const allowed: readonly string[] = object.kind === 'Node' ? nodeFields : shardFields
  const status: Record<string, unknown> = { ...object.status }
  for (const [field, value] of Object.entries(patch)) {
    if (!allowed.includes(field)) throw refuse(object, `status.${field}`)
    if (field === 'conditions') status[field] = mergeConditions(object, value, nowMs)
    else if (value === null) delete status[field]
    else status[field] = value
  }
  return status as NodeStatus | ShardStatus
}

function mergeConditions(object: Node | Shard, value: unknown, nowMs: number): readonly Condition[] {
  const updates = Array.isArray(value) ? (value as readonly unknown[]) : []
  if (!Array.isArray(value) || !updates.every(isConditionUpdate))
    throw new OpError('Invalid', 'status.conditions: must be a list of maps with type, status, reason and message')
  for (const { type } of updates)
    if (object.kind === 'Node' && !(agentConditionTypes as readonly string[]).includes(type))
      throw refuse(object, `status.conditions[${type}]`)
  return setConditions(object.status?.conditions, updates.map(onlyUpdate), nowMs)
}

function isConditionUpdate(value: unknown): value is ConditionUpdate {
  if (typeof value !== 'object' || value === null) return false
  const { type, status, reason, message } = value as Readonly<Record<string, unknown>>
  return (
    typeof type === 'string' &&
    (status === 'True' || status === 'False' || status === 'Unknown') &&
    typeof reason === 'string' &&
    typeof message === 'string'
  )
}

/** An agent's clock is not the server's: its lastTransitionTime is left out. */
const onlyUpdate = ({ type, status, reason, message, observedGeneration }: ConditionUpdate): ConditionUpdate =>
  observedGeneration === undefined
    ? { type, status, reason, message }
    : { type, status, reason, message, observedGeneration }

const refuse = (object: Node | Shard, field: string): OpError =>
  new OpError('Forbidden', `${object.kind.toLowerCase()} "${object.metadata.name}": agents may not write ${field}`, {
    causes: [{ field, message: 'Forbidden: agents may not write this field' }],
  })
