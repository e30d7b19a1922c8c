/**
 * messages.ts ↔ the messages of schemas/rpc/mctl.proto, one codec per call. A wire message is the plain object that
 * protobufjs reads and writes: absent fields are absent, zero values may be absent, bytes are Buffers. Decoding trusts
 * the types that protobuf gives and nothing else: closed word lists are checked, the rest is the handlers' matter.
 */
import type { KindName } from '../api/kinds.ts'
import { isKindName, kindNames } from '../api/kinds.ts'
import type { ObservedSpeed } from '../api/speed.ts'
import type {
  AgentMessage,
  ApplyRequest,
  CertificateReply,
  ChangeAuthorityReply,
  ChangeAuthorityRequest,
  Client,
  CreateRequest,
  DeleteReply,
  DeleteRequest,
  GetReply,
  GetRequest,
  Handlers,
  JoinRequest,
  ListReply,
  ListRequest,
  LiveReply,
  LogChunk,
  LogsRequest,
  ObjectRef,
  ObserveRequest,
  PatchRequest,
  PlanReply,
  PlanRequest,
  Preconditions,
  Selection,
  ServerMessage,
  SignRequest,
  TableColumn,
  TableRow,
  Unary,
  UpdateRequest,
  UpdateStatusRequest,
  VersionReply,
  WatchEvent,
  WatchRequest,
  WriteOptions,
  WriteReply,
} from './messages.ts'
import { fromJson, invalid, isRecord, manifestFromJson, objectFromJson, objectToJson, toJson } from './json.ts'
import { defined, oneOf, oneOfIfAny } from './fields.ts'
import type { LiveReplyWire, TrafficWire } from './livecodec.ts'
import { encodeLive, liveOf, trafficOf } from './livecodec.ts'
import { agentMessageCodec, serverMessageCodec } from './sessioncodec.ts'

/** A message as protobufjs knows it. */
export type Wire = object

export interface Codec<T> {
  encode(value: T): Wire
  /** OpError Invalid when the message says what nobody may say. */
  decode(wire: Wire): T
}

export const codec = <T, W extends object>(encode: (value: T) => W, decode: (wire: Partial<W>) => T): Codec<T> => ({
  encode,
  decode: (wire) => decode(wire as Partial<W>),
})

// Parts that several messages share.

const refOf = (wire: Partial<ObjectRef> | undefined): ObjectRef => ({
  kind: kindOf(wire?.kind, 'ref.kind'),
  namespace: wire?.namespace ?? '',
  name: wire?.name ?? '',
})

function kindOf(kind: string | undefined, field: string): KindName {
  return kind !== undefined && isKindName(kind) ? kind : oneOf(kindNames, kind, field)
}

type WireOptions = { options?: { dryRun?: boolean; fieldManager?: string; fieldValidation?: string } }
const encodeOptions = (options: WriteOptions | undefined) => (options === undefined ? undefined : defined(options))
function optionsOf({ options }: WireOptions): { options?: WriteOptions } {
  if (options === undefined) return {}
  const fieldValidation = oneOfIfAny(['Strict', 'Warn', 'Ignore'], options.fieldValidation, 'options.fieldValidation')
  const { dryRun, fieldManager } = options
  return { options: defined({ dryRun, fieldManager, fieldValidation }) }
}

type WireSelection = Partial<Selection>
const selectionFields = ({ kind, namespace, labelSelector, fieldSelector }: Selection): WireSelection =>
  defined({ kind, namespace, labelSelector, fieldSelector })
const selectionOf = (wire: WireSelection | undefined): Selection => ({
  ...defined({ namespace: wire?.namespace, labelSelector: wire?.labelSelector, fieldSelector: wire?.fieldSelector }),
  kind: kindOf(wire?.kind, 'selection.kind'),
})

type WireColumns = { items?: readonly Partial<TableColumn>[] }
const encodeColumns = (columns: readonly TableColumn[] | undefined): WireColumns | undefined =>
  columns === undefined ? undefined : { items: columns }
const columnsOf = (wire: WireColumns | undefined): readonly TableColumn[] | undefined =>
  wire === undefined ? undefined : (wire.items ?? []).map((c) => ({ name: c.name ?? '', priority: c.priority ?? 0 }))
type WireRow = Partial<TableRow>
const rowOf = (wire: WireRow | undefined): TableRow | undefined =>
  wire === undefined ? undefined : { cells: wire.cells ?? [] }

// Writes.

type WriteWire = WireOptions & { object?: Uint8Array; force?: boolean }
const writeRequest = codec<CreateRequest & UpdateRequest, WriteWire>(
  ({ object, options }) => defined({ object: toJson(object), options: encodeOptions(options) }),
  (wire) => ({ object: manifestFromJson(wire.object), ...optionsOf(wire) }),
)
const applyRequest = codec<ApplyRequest, WriteWire>(
  ({ object, options, force }) => defined({ object: toJson(object), options: encodeOptions(options), force }),
  (wire) => ({ object: manifestFromJson(wire.object), ...defined({ force: wire.force }), ...optionsOf(wire) }),
)
type PatchWire = WireOptions & {
  ref?: Partial<ObjectRef>
  type?: string
  patch?: Uint8Array
  preconditions?: Preconditions
}
const patchRequest = codec<PatchRequest, PatchWire>(
  ({ ref, type, patch, options, preconditions }) =>
    defined({ ref, type, patch: toJson(patch), options: encodeOptions(options), preconditions }),
  (wire) => ({
    ref: refOf(wire.ref),
    type: oneOf(['merge', 'json'], wire.type, 'type'),
    patch: fromJson(wire.patch, 'patch'),
    ...defined({ preconditions: wire.preconditions }),
    ...optionsOf(wire),
  }),
)
function graceOf(seconds: number): number {
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 31_536_000)
    throw invalid('graceSeconds', 'Invalid value: must be a whole number of seconds from 0 to 31536000')
  return seconds
}
type DeleteWire = {
  ref?: Partial<ObjectRef>
  propagation?: string
  graceSeconds?: number
  dryRun?: boolean
  preconditions?: Preconditions
}
const deleteRequest = codec<DeleteRequest, DeleteWire>(
  (request) => defined({ ...request }),
  ({ ref, propagation, graceSeconds, dryRun, preconditions }) => ({
    ref: refOf(ref),
    ...defined({
      propagation: oneOfIfAny(['Background', 'Foreground', 'Orphan'], propagation, 'propagation'),
      graceSeconds: graceSeconds === undefined ? undefined : graceOf(graceSeconds),
      dryRun,
      preconditions,
    }),
  }),
)
const updateStatusRequest = codec<UpdateStatusRequest, { uid: string; patch: Uint8Array }>(
  ({ uid, patch }) => ({ uid, patch: toJson(patch) }),
  ({ uid, patch: bytes }) => {
    const patch = fromJson(bytes, 'patch')
    if (!isRecord(patch)) throw invalid('patch', 'Invalid value: must be a JSON object')
    return { uid: uid ?? '', patch }
  },
)
type WriteReplyWire = { object?: Uint8Array; result?: string; warnings?: readonly string[] }
const writeReply = codec<WriteReply, WriteReplyWire>(
  ({ object, result, warnings }) => defined({ object: objectToJson(object), result, warnings }),
  ({ object, result, warnings }) => ({
    object: objectFromJson(object),
    result: oneOf(['created', 'configured', 'unchanged'], result, 'result'),
    ...defined({ warnings }),
  }),
)
const deleteReply = codec<DeleteReply, { object: Uint8Array; gone: boolean }>(
  ({ object, gone }) => ({ object: objectToJson(object), gone }),
  ({ object, gone }) => ({ object: objectFromJson(object), gone: gone ?? false }),
)

// Reads.

const getRequest = codec<GetRequest, { ref?: Partial<ObjectRef>; table?: boolean }>(
  (request) => defined({ ...request }),
  ({ ref, table }) => ({ ref: refOf(ref), ...defined({ table }) }),
)
const getReply = codec<GetReply, { object?: Uint8Array; columns?: WireColumns; row?: WireRow }>(
  ({ object, columns, row }) => defined({ object: objectToJson(object), columns: encodeColumns(columns), row }),
  ({ object, columns, row }) => ({
    object: objectFromJson(object),
    ...defined({ columns: columnsOf(columns), row: rowOf(row) }),
  }),
)
type ListWire = { selection?: WireSelection; limit?: number; continueToken?: string; table?: boolean }
const listRequest = codec<ListRequest, ListWire>(
  (request) => {
    const { limit, continueToken, table } = request
    return defined({ selection: selectionFields(request), limit, continueToken, table })
  },
  ({ selection, limit, continueToken, table }) => ({
    ...selectionOf(selection),
    ...defined({ limit, continueToken, table }),
  }),
)
type ListReplyWire = {
  items?: readonly Uint8Array[]
  resourceVersion?: string
  incarnation?: string
  continueToken?: string
  columns?: WireColumns
  rows?: { items?: readonly WireRow[] }
}
const listReply = codec<ListReply, ListReplyWire>(
  ({ items, resourceVersion, incarnation, continueToken, columns, rows }) =>
    defined({
      items: items.map(objectToJson),
      resourceVersion,
      incarnation,
      continueToken,
      columns: encodeColumns(columns),
      rows: rows === undefined ? undefined : { items: rows },
    }),
  (wire) => ({
    items: (wire.items ?? []).map(objectFromJson),
    resourceVersion: wire.resourceVersion ?? '',
    incarnation: wire.incarnation ?? '',
    ...defined({
      continueToken: wire.continueToken,
      columns: columnsOf(wire.columns),
      rows: wire.rows === undefined ? undefined : (wire.rows.items ?? []).map((r) => ({ cells: r.cells ?? [] })),
    }),
  }),
)
type WatchWire = { selection?: WireSelection; resourceVersion?: string; incarnation?: string; table?: boolean }
const watchRequest = codec<WatchRequest, WatchWire>(
  (request) => {
    const { resourceVersion, incarnation, table } = request
    return defined({ selection: selectionFields(request), resourceVersion, incarnation, table })
  },
  ({ selection, resourceVersion, incarnation, table }) => ({
    ...selectionOf(selection),
    ...defined({ resourceVersion, incarnation, table }),
  }),
)
type WatchEventWire = {
  type?: string
  object?: Uint8Array
  resourceVersion?: string
  initialEventsEnd?: boolean
  row?: WireRow
  incarnation?: string
  clusterUid?: string
  columns?: WireColumns
}
const watchEvent = codec<WatchEvent, WatchEventWire>(encodeWatchEvent, (wire) => {
  const type = oneOf(['HEADER', 'ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK'], wire.type, 'type')
  const resourceVersion = wire.resourceVersion ?? ''
  if (type === 'BOOKMARK') return { type, resourceVersion, initialEventsEnd: wire.initialEventsEnd ?? false }
  if (type !== 'HEADER')
    return { type, object: objectFromJson(wire.object), resourceVersion, ...defined({ row: rowOf(wire.row) }) }
  const columns = defined({ columns: columnsOf(wire.columns) })
  return { type, incarnation: wire.incarnation ?? '', clusterUid: wire.clusterUid ?? '', ...columns }
})
function encodeWatchEvent(event: WatchEvent): WatchEventWire {
  if (event.type === 'BOOKMARK') return event
  if (event.type === 'HEADER') return defined({ ...event, columns: encodeColumns(event.columns) })
  const { type, resourceVersion, row } = event
  return defined({ type, resourceVersion, row, object: objectToJson(event.object) })
}

// Plan, observe, version, certificates, logs.

const planRequest = codec<PlanRequest, { objects?: readonly Uint8Array[]; independent?: boolean }>(
  ({ objects, independent }) => defined({ objects: objects.map(toJson), independent }),
  ({ objects, independent }) => ({ objects: (objects ?? []).map(manifestFromJson), ...defined({ independent }) }),
)
const planReply = codec<PlanReply, { report: Uint8Array }>(
  ({ report }) => ({ report: toJson(report) }),
  ({ report }) => ({ report: fromJson(report, 'report') }),
)
const nothing = codec<Record<string, never>, Record<string, never>>(
  () => ({}),
  () => ({}),
)
const versionReply = codec<VersionReply, VersionReply>(
  (reply) => defined({ ...reply }) as VersionReply,
  ({ serverVersion = '', apiVersion = '', clusterUid = '', incarnation = '', gatewayUrl }) => ({
    serverVersion,
    apiVersion,
    clusterUid,
    incarnation,
    ...defined({ gatewayUrl }),
  }),
)
const joinRequest = codec<JoinRequest, JoinRequest>(
  (request) => defined({ ...request }) as JoinRequest,
  ({ node = '', token, requestPem = '', labels }) => ({
    node,
    requestPem,
    ...defined({ labels, token: token && { id: token.id ?? '', secret: token.secret ?? '' } }),
  }),
)
const signRequest = codec<SignRequest, SignRequest>(
  (request) => defined({ ...request }) as SignRequest,
  ({ user, requestPem = '' }) => ({ requestPem, ...defined({ user }) }),
)
const certificateReply = codec<CertificateReply, CertificateReply>(
  (reply) => ({ ...reply }),
  ({ certificatePem = '', authorityPem = '' }) => ({ certificatePem, authorityPem }),
)
const changeAuthorityRequest = codec<ChangeAuthorityRequest, ChangeAuthorityRequest>(
  (request) => defined({ ...request }) as ChangeAuthorityRequest,
  ({ action, name, force }) => ({
    action: oneOf(['Rotate', 'Retire'], action, 'action'),
    ...defined({ name, force }),
  }),
)
const changeAuthorityReply = codec<ChangeAuthorityReply, ChangeAuthorityReply>(
  (reply) => ({ ...reply }),
  ({ name = '', notes = [] }) => ({ name, notes }),
)
type ObserveWire = { speeds?: readonly Partial<ObservedSpeed>[]; traffic?: TrafficWire }
const observeRequest = codec<ObserveRequest, ObserveWire>(
  ({ speeds, traffic }) => defined({ speeds, traffic }),
  ({ speeds = [], traffic }) => ({
    ...defined({ traffic: traffic && trafficOf(traffic) }),
    speeds: speeds.map(({ shardUid = '', answers = 0, tokens = 0, seconds = 0, contextTokens = 0 }) => ({
      shardUid,
      answers,
      tokens,
      seconds,
      contextTokens,
    })),
  }),
)
const liveReply = codec<LiveReply, LiveReplyWire>(encodeLive, liveOf)
const logsRequest = codec<LogsRequest, LogsRequest>(
  (request) => defined({ ...request }) as LogsRequest,
  ({ namespace = '', shard = '', follow, tail, previous, sinceTimeMs, sinceAgoMs, timestamps }) => ({
    namespace,
    shard,
    ...defined({ follow, tail, previous, sinceTimeMs, sinceAgoMs, timestamps }),
  }),
)
const logChunk = codec<LogChunk, LogChunk>(
  ({ text }) => ({ text }),
  ({ text }) => ({ text: text ?? '' }),
)

// The tables that the transports walk. `rpc` is the name in the .proto.

export type RequestOf<M extends keyof Handlers> = Parameters<Handlers[M]>[0]
export type ReplyOf<M extends Unary> = Awaited<ReturnType<Client[M]>>

export interface UnaryCall<M extends Unary> {
  readonly rpc: string
  readonly request: Codec<RequestOf<M>>
  readonly reply: Codec<ReplyOf<M>>
}
export const unaryCalls: { readonly [M in Unary]: UnaryCall<M> } = {
  version: { rpc: 'Version', request: nothing, reply: versionReply },
  create: { rpc: 'Create', request: writeRequest, reply: writeReply },
  update: { rpc: 'Update', request: writeRequest, reply: writeReply },
  patch: { rpc: 'Patch', request: patchRequest, reply: writeReply },
  apply: { rpc: 'Apply', request: applyRequest, reply: writeReply },
  delete: { rpc: 'Delete', request: deleteRequest, reply: deleteReply },
  get: { rpc: 'Get', request: getRequest, reply: getReply },
  list: { rpc: 'List', request: listRequest, reply: listReply },
  updateStatus: { rpc: 'UpdateStatus', request: updateStatusRequest, reply: writeReply },
  plan: { rpc: 'Plan', request: planRequest, reply: planReply },
  join: { rpc: 'Join', request: joinRequest, reply: certificateReply },
  sign: { rpc: 'Sign', request: signRequest, reply: certificateReply },
  changeAuthority: { rpc: 'ChangeAuthority', request: changeAuthorityRequest, reply: changeAuthorityReply },
  observe: { rpc: 'Observe', request: observeRequest, reply: nothing },
  live: { rpc: 'Live', request: nothing, reply: liveReply },
}
export const unaryNames = Object.keys(unaryCalls) as readonly Unary[]

export interface StreamCall<Request, Event> {
  readonly rpc: string
  readonly request: Codec<Request>
  readonly event: Codec<Event>
}
export const watchCall: StreamCall<WatchRequest, WatchEvent> = {
  rpc: 'Watch',
  request: watchRequest,
  event: watchEvent,
}
export const logsCall: StreamCall<LogsRequest, LogChunk> = { rpc: 'Logs', request: logsRequest, event: logChunk }

/** Messages of newer peers decode to undefined: they are skipped. */
export const sessionCall: {
  readonly rpc: string
  readonly up: Codec<AgentMessage | undefined>
  readonly down: Codec<ServerMessage | undefined>
} = { rpc: 'NodeSession', up: agentMessageCodec, down: serverMessageCodec }
