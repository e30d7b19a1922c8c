/**
 * Tables as the server renders them (kubectl prints cells as they come): columns per kind, and the cells of one object.
 * What a cell needs from other objects comes in by `Related`; a cell whose source is missing says so.
 */
import { formatBytes, tryParseBytes } from '../lib/quantity.ts'
import { ageOf, ageSince } from './age.ts'
import type { Authority } from './authority.ts'
import { authorityPhase } from './authority.ts'
import { findCondition } from './conditions.ts'
import type { KindName } from './kinds.ts'
import type { LiveNode } from './live.ts'
import type { MctlObject } from './meta.ts'
import type { Model } from './model.ts'
import type { ModelDeployment } from './modeldeployment.ts'
import type { ModelPlace } from './modelplaces.ts'
import type { Node } from './node.ts'
import type { AnyObject, ObjectOf } from './objects.ts'
import type { ApplySet, Event, Revision } from './records.ts'
import type { Shard } from './shard.ts'
import type { ShardGroup } from './shardgroup.ts'
import type { Sync } from './sync.ts'
import { shortRevision, sourceName } from './sync.ts'
import { tokenState } from './trust.ts'
import type { ApiKey, JoinToken, User } from './trust.ts'
import type { MemoryParts, Stage } from './words.ts'

export interface Column {
  /** Upper case, without spaces. */
  readonly name: string
  /** 0: always; 1: only with -o wide. */
  readonly priority: number
}

/** Look-ups into other objects of the same snapshot. */
export interface Related {
  /** Shards bound to the node. */
  readonly shardsOnNode?: (node: string) => number
  /** Live: ms since the node was heard of, undefined for never, and what its last heartbeat told. */
  readonly live?: (node: string) => Omit<LiveNode, 'name' | 'connected'>
  /** Nodes that the deployment's groups are bound to, each once. */
  readonly nodesOfDeployment?: (namespace: string, deployment: string) => readonly string[]
  /** Where files of the source lie, and how many bytes; a copy that is not whole says so: `mini-2(Fetching):1.2Gi`. */
  readonly nodesOfSource?: (source: string) => readonly string[]
  /** Every copy of the source, with who needs it. */
  readonly placesOfSource?: (source: string) => readonly ModelPlace[]
}

const NONE = '<none>'
const UNKNOWN = '<unknown>'

type Cell<T> = (object: T, nowMs: number, related: Related) => string
interface CellColumn<T> extends Column {
  readonly cell: Cell<T>
}

const column = <T>(name: string, cell: Cell<T>): CellColumn<T> => ({ name, priority: 0, cell })
const wide = <T>(name: string, cell: Cell<T>): CellColumn<T> => ({ name, priority: 1, cell })
const nameColumn: CellColumn<MctlObject> = column('NAME', (object) => object.metadata.name)
const ageColumn: CellColumn<MctlObject> = column('AGE', (object, nowMs) =>
  ageSince(object.metadata.creationTimestamp, nowMs),
)

const text = (value: string | number | undefined): string =>
  value === undefined || value === '' ? NONE : String(value)
const joined = (values: readonly string[] | undefined): string =>
  values === undefined || values.length === 0 ? NONE : values.join(',')
const bytes = (quantity: string | undefined): string | undefined => {
  const parsed = quantity === undefined ? undefined : tryParseBytes(quantity)
  return parsed === undefined ? undefined : formatBytes(parsed)
}
const layers = ([start, end]: Stage): string => `${start}-${end}`
const rankMemory = (part: { memoryBytes: number; parts: MemoryParts }): string => formatBytes(part.memoryBytes)

const nodeColumns: readonly CellColumn<Node>[] = [
  nameColumn,
  column('STATUS', nodeStatus),
  column('CHIP', ({ status }) => {
    const chip = text(status?.nodeInfo?.chip)
    return status?.nodeInfo?.simulated === true ? `${chip} (simulated)` : chip
  }),
  column('MEMORY', ({ status }) => {
    const allocatable = bytes(status?.allocatable?.memory)
    return allocatable === undefined ? UNKNOWN : `${bytes(status?.bound?.memory) ?? '0'}/${allocatable}`
  }),
  column('SHARDS', ({ metadata }, _, related) => String(related.shardsOnNode?.(metadata.name) ?? UNKNOWN)),
  ageColumn,
  column('VERSION', ({ status }) => text(status?.nodeInfo?.agentVersion)),
  wide('HEARTBEAT', ({ metadata }, _, related) => {
    const heardAgoMs = related.live?.(metadata.name).heardAgoMs
    return heardAgoMs === undefined ? UNKNOWN : ageOf(heardAgoMs)
  }),
  wide('WIRED', ({ metadata }, _, related) => {
    const wired = related.live?.(metadata.name).reading?.wiredBytes
    return wired === undefined ? UNKNOWN : formatBytes(wired)
  }),
  wide('GPU', ({ status }) => text(status?.nodeInfo?.gpuCores)),
  wide('CAPACITY', ({ status }) => bytes(status?.capacity?.memory) ?? UNKNOWN),
  wide('OS', ({ status }) => text(status?.nodeInfo?.osVersion)),
  wide('ADDRESS', ({ status }) => text(status?.addresses?.[0]?.address)),
  wide('ENGINES', ({ status }) => joined(status?.engines?.map((engine) => engine.name))),
  wide('MODELS', ({ status }) => joined(presentModels(status?.models))),
]

function nodeStatus({ metadata, spec, status }: Node): string {
  const ready = findCondition(status?.conditions, 'Ready')
  // As kubectl says it: a node that was heard of once and is silent now is NotReady.
  const words = [ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady']
  if (spec.unschedulable) words.push('SchedulingDisabled')
  if (metadata.deletionTimestamp !== undefined) words.push('Terminating')
  return words.join(',')
}

const presentModels = (models: NonNullable<Node['status']>['models']): readonly string[] | undefined =>
  models?.filter((model) => model.state === 'Present').map((model) => model.source)

const modelColumns: readonly CellColumn<Model>[] = [
  nameColumn,
  column('SOURCE', ({ spec }) => text(spec.source)),
  column('ARCHITECTURE', (model) => text(shapeOf(model)?.architecture)),
  column('LAYERS', (model) => text(shapeOf(model)?.layers)),
  column('SIZE', (model) => {
    const size = shapeOf(model)?.weightBytes
    return size === undefined ? UNKNOWN : formatBytes(size)
  }),
  column('NODES', ({ spec }, _, related) =>
    spec.source === undefined
      ? NONE
      : related.nodesOfSource === undefined
        ? UNKNOWN
        : joined(related.nodesOfSource(spec.source)),
  ),
  ageColumn,
  wide('PARAMETERS', (model) => text(shapeOf(model)?.parameters)),
  wide('BITS', (model) => text(shapeOf(model)?.quantization?.bits)),
  wide('REVISION', ({ spec, status }) => text(status?.resolvedRevision ?? spec.revision)),
  wide('DIGEST', ({ status }) => text(status?.digest)),
  wide(
    'SHARDS',
    placesCell((place) => (place.shards.length === 0 ? [] : [`${place.node}:${place.shards.length}`])),
  ),
  wide(
    'PRUNABLE',
    placesCell(({ node, prunableBytes }) => (prunableBytes === 0 ? [] : [`${node}:${formatBytes(prunableBytes)}`])),
  ),
]

/** A word for each copy of the model's source, where there is something to say. */
function placesCell(word: (place: ModelPlace) => readonly string[]): Cell<Model> {
  return ({ spec }, _, { placesOfSource }) => {
    if (spec.source === undefined) return NONE
    return placesOfSource === undefined ? UNKNOWN : joined(placesOfSource(spec.source).flatMap(word))
  }
}

const shapeOf = ({ spec, status }: Model) => status?.shape ?? spec.shape

const deploymentColumns: readonly CellColumn<ModelDeployment>[] = [
  nameColumn,
  column('READY', ({ spec, status }) => `${status?.readyReplicas ?? 0}/${spec.replicas}`),
  column('STRATEGY', ({ spec, status }) =>
    spec.parallelism.strategy === 'Auto' ? (status?.plan?.strategy ?? 'Auto') : spec.parallelism.strategy,
  ),
  column('NODES', ({ metadata }, _, related) =>
    related.nodesOfDeployment === undefined
      ? UNKNOWN
      : joined(related.nodesOfDeployment(metadata.namespace ?? '', metadata.name)),
  ),
  column('ENDPOINT', ({ status }) => text(status?.endpoint)),
  ageColumn,
  wide('MODEL', ({ spec }) => text(spec.model.source ?? spec.model.name)),
  wide('SERVED-NAME', ({ spec }) => spec.servedName),
  wide('REVISION', ({ status }) => text(status?.currentRevision)),
  wide('DEGREE', ({ spec, status }) => text(status?.plan?.degree ?? spec.parallelism.degree)),
  wide('REASON', deploymentReason),
]

/** The first reason why it is not (yet) what was asked for, most telling first; none when all is well. */
function deploymentReason({ metadata, status }: ModelDeployment): string {
  if (metadata.deletionTimestamp !== undefined) return 'Terminating'
  for (const type of ['Valid', 'Scheduled', 'Available', 'Progressing', 'Ready']) {
    const condition = findCondition(status?.conditions, type)
    if (condition !== undefined && condition.status !== 'True') return text(condition.reason)
  }
  return NONE
}

const groupColumns: readonly CellColumn<ShardGroup>[] = [
  nameColumn,
  column('STATUS', ({ metadata, status }) => phaseOf(metadata, status?.phase)),
  column('STRATEGY', ({ spec }) => text(spec.strategy)),
  column('RANKS', ({ spec }) => String(spec.members.length)),
  column('NODES', ({ spec }) => joined([...new Set(spec.members.map((member) => member.node))])),
  column('MEMORY', ({ spec }) => formatBytes(spec.members.reduce((sum, member) => sum + member.memoryBytes, 0))),
  column('EPOCH', ({ spec }) => String(spec.epoch)),
  column('RESTARTS', ({ status }) => String(status?.restarts ?? 0)),
  ageColumn,
  wide('DEPLOYMENT', ({ spec }) => spec.deployment),
  wide('ENGINE', ({ spec }) => text(spec.engine)),
  wide('TRANSPORT', ({ spec }) => text(spec.transport)),
  wide('REVISION', ({ spec }) => String(spec.revision)),
  wide('REASON', ({ status }) => {
    const ready = findCondition(status?.conditions, 'Ready')
    return ready === undefined || ready.status === 'True' ? NONE : text(ready.reason)
  }),
]

const shardColumns: readonly CellColumn<Shard>[] = [
  nameColumn,
  column('STATUS', ({ metadata, status }) => phaseOf(metadata, status?.phase) + percentOf(metadata, status)),
  column('RANK', ({ spec }) => `${spec.rank}/${spec.worldSize}`),
  column('NODE', ({ spec }) => text(spec.nodeName)),
  column('LAYERS', ({ spec }) => layers(spec.stage)),
  column('MEMORY', ({ spec }) => rankMemory(spec)),
  ageColumn,
  wide('PID', ({ status }) => text(status?.pid)),
  wide('ADDRESS', ({ status }) => text(status?.address)),
  wide('PORT', ({ status }) => text(status?.port)),
  wide('EPOCH', ({ spec }) => String(spec.epoch)),
  wide('ENGINE', ({ spec }) => spec.engine.name),
  wide('REASON', ({ status }) => text(status?.exit?.reason)),
]

/** How far a fetch is: ` 42%`. */
function percentOf(metadata: MctlObject['metadata'], status: Shard['status']): string {
  const { phase, progress } = status ?? {}
  if (phase !== 'Fetching' || progress === undefined || metadata.deletionTimestamp !== undefined) return ''
  return ` ${Math.floor((100 * progress.doneBytes) / Math.max(1, progress.totalBytes))}%`
}

const phaseOf = (metadata: MctlObject['metadata'], phase: string | undefined): string =>
  metadata.deletionTimestamp === undefined || phase === 'Stopped' ? (phase ?? 'Pending') : 'Terminating'

const revisionColumns: readonly CellColumn<Revision>[] = [
  nameColumn,
  column('DEPLOYMENT', ({ spec }) => spec.deployment),
  column('REVISION', ({ spec }) => String(spec.revision)),
  column('MODEL', ({ spec }) => text(spec.template.model.source ?? spec.template.model.name)),
  ageColumn,
  wide('STRATEGY', ({ spec }) => spec.template.parallelism.strategy),
  wide('CONTEXT', ({ spec }) => String(spec.template.serving.contextTokens)),
]

const syncColumns: readonly CellColumn<Sync>[] = [
  nameColumn,
  column('STATUS', syncState),
  column('HEALTH', ({ status }) => status?.health ?? UNKNOWN),
  column('REVISION', ({ status }) => text(shortRevision(status?.lastAppliedRevision))),
  column('OBJECTS', ({ status }) => String(status?.objects ?? 0)),
  column('APPLIED', ({ status }, nowMs) =>
    status?.lastAppliedTime === undefined ? NONE : ageSince(status.lastAppliedTime, nowMs),
  ),
  ageColumn,
  wide('TRIED', ({ status }) => text(shortRevision(status?.lastAttemptedRevision))),
  wide('SOURCE', ({ spec }) => sourceName(spec.source)),
  wide('PATH', ({ spec }) => joined(spec.source.git && [spec.source.git.path, ...(spec.source.git.extraPaths ?? [])])),
]

/** One word for where it stands: Synced, or the first reason why not. */
function syncState({ metadata, spec, status }: Sync): string {
  if (metadata.deletionTimestamp !== undefined) return 'Terminating'
  if (spec.suspend) return 'Suspended'
  const ready = findCondition(status?.conditions, 'Ready')
  return ready === undefined ? 'Pending' : ready.status === 'True' ? 'Synced' : text(ready.reason)
}

const applySetColumns: readonly CellColumn<ApplySet>[] = [
  nameColumn,
  column('KINDS', ({ spec }) => joined(spec.kinds)),
  column('NAMESPACES', ({ spec }) => joined(spec.namespaces)),
  ageColumn,
  wide('ID', ({ spec }) => spec.id),
]

const eventColumns: readonly CellColumn<Event>[] = [
  column('LAST SEEN', (event, nowMs) => {
    const last = ageSince(event.lastTimestamp, nowMs)
    return event.count > 1 ? `${last} (x${event.count} over ${ageSince(event.firstTimestamp, nowMs)})` : last
  }),
  column('TYPE', ({ type }) => type),
  column('REASON', ({ reason }) => reason),
  column('OBJECT', ({ involvedObject }) => `${involvedObject.kind.toLowerCase()}/${involvedObject.name}`),
  column('MESSAGE', ({ message }) => message.trim().replaceAll(/\s*\n\s*/g, ' ')),
  wide('SOURCE', ({ source }) =>
    source.host === undefined ? source.component : `${source.component}, ${source.host}`,
  ),
  wide('FIRST SEEN', (event, nowMs) => ageSince(event.firstTimestamp, nowMs)),
  wide('COUNT', ({ count }) => String(count)),
  wide('NAME', ({ metadata }) => metadata.name),
]

const userColumns: readonly CellColumn<User>[] = [nameColumn, column('ROLE', ({ spec }) => spec.role), ageColumn]

const keyColumns: readonly CellColumn<ApiKey>[] = [
  nameColumn,
  column('PER MINUTE', ({ spec }) => text(spec.requestsPerMinute)),
  ageColumn,
]

function timeLeft(until: string, nowMs: number): string {
  const leftMs = Date.parse(until) - nowMs
  return leftMs <= 0 ? 'expired' : `in ${ageOf(leftMs)}`
}

const authorityColumns: readonly CellColumn<Authority>[] = [
  nameColumn,
  column('PHASE', authorityPhase),
  column('EXPIRES', ({ spec }, nowMs) => timeLeft(spec.expiresAt, nowMs)),
  column('WAITING FOR', ({ status }) => String(status?.waitingFor?.length ?? 0)),
  ageColumn,
  wide('FINGERPRINT', ({ spec }) => spec.fingerprint),
]

const tokenColumns: readonly CellColumn<JoinToken>[] = [
  nameColumn,
  column('STATUS', (token, nowMs) => tokenState(token, nowMs)),
  column('NODE', ({ spec, status }) => status?.usedBy ?? spec.node ?? '<any>'),
  column('EXPIRES', ({ spec }, nowMs) => timeLeft(spec.expiresAt, nowMs)),
  ageColumn,
]

const columns: { readonly [K in KindName]: readonly CellColumn<ObjectOf[K]>[] } = {
  Node: nodeColumns,
  Model: modelColumns,
  ModelDeployment: deploymentColumns,
  ShardGroup: groupColumns,
  Shard: shardColumns,
  Revision: revisionColumns,
  Sync: syncColumns,
  ApplySet: applySetColumns,
  Event: eventColumns,
  User: userColumns,
  ApiKey: keyColumns,
  JoinToken: tokenColumns,
  Authority: authorityColumns,
}

export const columnsOf = (kind: KindName): readonly Column[] =>
  columns[kind].map(({ name, priority }) => ({ name, priority }))

/** The cells of an object in the order of its kind's columns; pure. */
export function rowOf(object: AnyObject, nowMs: number, related: Related = {}): readonly string[] {
  // The object's kind picks its own columns, which the compiler cannot follow through the table.
  const cells = columns[object.kind] as readonly CellColumn<never>[]
  return cells.map(({ cell }) => cell(object as never, nowMs, related))
}
