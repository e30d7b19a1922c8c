/**
 * The wire in TypeScript words. `Handlers` is what the server offers, `Client` what others call; grpc.ts and memory.ts
 * carry the one to the other. Objects travel as JSON bytes inside the .proto's messages, so an old client never drops
 * a field that it does not know.
 */
import type { Manifest, MctlObject } from '../api/meta.ts'
import type { KindName } from '../api/kinds.ts'
import type { ModelShape } from '../api/model.ts'
import type { LiveGroup, LiveNode, LiveQueue, LiveReading, Traffic } from '../api/live.ts'
import type { Member, Peer } from '../api/peers.ts'
import type { LinkMeasurement, LinkOrder } from '../api/links.ts'
import type { Role } from '../api/trust.ts'
import type { ObservedSpeed } from '../api/speed.ts'
import type { OpCode } from '../lib/errors.ts'

export interface WriteOptions {
  readonly dryRun?: boolean
  readonly fieldManager?: string
  readonly fieldValidation?: 'Strict' | 'Warn' | 'Ignore'
}

export interface Preconditions {
  readonly uid?: string
  readonly resourceVersion?: string
}

export interface ObjectRef {
  readonly kind: KindName
  readonly namespace: string
  readonly name: string
}

export interface CreateRequest {
  readonly object: Manifest
  readonly options?: WriteOptions
}
/** Replaces spec, labels and annotations; a resourceVersion in the object is a precondition. */
export interface UpdateRequest {
  readonly object: Manifest
  readonly options?: WriteOptions
}
export interface PatchRequest {
  readonly ref: ObjectRef
  readonly type: 'merge' | 'json'
  readonly patch: unknown
  readonly options?: WriteOptions
  readonly preconditions?: Preconditions
}
/** Server-side apply. `force` takes over fields that other managers own with another value. */
export interface ApplyRequest {
  readonly object: Manifest
  readonly force?: boolean
  readonly options?: WriteOptions
}
export interface DeleteRequest {
  readonly ref: ObjectRef
  readonly propagation?: 'Background' | 'Foreground' | 'Orphan'
  /** Seconds that the engines behind it may take to end; 0: they are killed at once. Absent: a planned stop. */
  readonly graceSeconds?: number
  readonly dryRun?: boolean
  readonly preconditions?: Preconditions
}
/** An agent writes its own Node's and its own shards' status: a merge patch on whitelisted fields, by uid. */
export interface UpdateStatusRequest {
  readonly uid: string
  readonly patch: Readonly<Record<string, unknown>>
}
export type WriteResult = 'created' | 'configured' | 'unchanged'
export interface WriteReply {
  readonly object: MctlObject
  readonly result: WriteResult
  /** Unknown fields that were left out (`fieldValidation: Warn`). */
  readonly warnings?: readonly string[]
}
export interface DeleteReply {
  readonly object: MctlObject
  /** false: finalizers still hold it. */ readonly gone: boolean
}

export interface Selection {
  readonly kind: KindName
  /** Absent: all namespaces. */
  readonly namespace?: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
}
export interface ListRequest extends Selection {
  readonly limit?: number
  readonly continueToken?: string
  /** Also answer server-rendered table rows. */
  readonly table?: boolean
}
export interface TableColumn {
  readonly name: string
  /** 0 default, 1 only with -o wide. */ readonly priority: number
}
export interface TableRow {
  readonly cells: readonly string[]
}
export interface ListReply {
  readonly items: readonly MctlObject[]
  readonly resourceVersion: string
  readonly incarnation: string
  readonly continueToken?: string
  readonly columns?: readonly TableColumn[]
  /** Same order as items. */
  readonly rows?: readonly TableRow[]
}
export interface GetRequest {
  readonly ref: ObjectRef
  readonly table?: boolean
}
export interface GetReply {
  readonly object: MctlObject
  readonly columns?: readonly TableColumn[]
  readonly row?: TableRow
}

export interface WatchRequest extends Selection {
  /** Absent: initial state, bookmark, then changes. Else resume after this revision; 410 Expired when it is gone. */
  readonly resourceVersion?: string
  /** Incarnation that the resourceVersion is from; another one is Expired at once. */
  readonly incarnation?: string
  readonly table?: boolean
}
export type WatchEvent =
  /** First frame of every watch. */
  | {
      readonly type: 'HEADER'
      readonly incarnation: string
      readonly clusterUid: string
      readonly columns?: readonly TableColumn[]
    }
  | {
      readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
      readonly object: MctlObject
      readonly resourceVersion: string
      readonly row?: TableRow
    }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly initialEventsEnd: boolean }

/** The live cluster's answer to `mctl plan -f`: the manifests are planned as if applied; nothing is written. */
export interface PlanRequest {
  readonly objects: readonly Manifest[]
  readonly independent?: boolean
}
/** `PlanReport` of src/planner as JSON; see docs of DESIGN §7. */
export interface PlanReply {
  readonly report: unknown
}

export interface VersionReply {
  readonly serverVersion: string
  readonly apiVersion: string
  readonly clusterUid: string
  readonly incarnation: string
  /** Base URL of the gateway that the server started or adopted. */
  readonly gatewayUrl?: string
}

/** A gateway's account of how fast groups answer; what is known already may be told again. */
export interface ObserveRequest {
  readonly speeds: readonly ObservedSpeed[]
  readonly traffic?: Traffic
}
/** What is true at this moment and stands in no object: heartbeats of agents, traffic of gateways. */
export interface LiveReply {
  readonly nodes: readonly LiveNode[]
  readonly groups: readonly LiveGroup[]
  readonly queues: readonly LiveQueue[]
  /** Gateways that told of their traffic a moment ago; of none: groups and queues are not known. */
  readonly gateways: number
}

/** Which lines of a log: those since a time, or since so long ago by the node's own clock; with their times or without. */
export interface LogTimes {
  readonly sinceTimeMs?: number
  readonly sinceAgoMs?: number
  readonly timestamps?: boolean
}
export interface LogsRequest extends LogTimes {
  readonly namespace: string
  readonly shard: string
  readonly follow?: boolean
  /** Lines from the end; absent: all that is kept. */
  readonly tail?: number
  /** The log of the engine's run before (a shard of an older epoch keeps its file by its own name). */
  readonly previous?: boolean
}
export interface LogChunk {
  readonly text: string
}

/** Agent → server, over the session that the agent opened. */
export type AgentMessage =
  | {
      readonly type: 'Hello'
      readonly nodeName: string
      readonly bootId: string
      readonly agentVersion: string
      /** Cluster whose shards this agent runs, '' on a fresh agent. */
      readonly clusterUid: string
      readonly labels: Readonly<Record<string, string>>
      /** Made once and kept in the agent's data directory: tells a reconnect from a second agent of the same name. */
      readonly agentId?: string
      /** Fingerprints of the authorities that this agent trusts; absent without identities. */
      readonly trusts?: readonly string[]
    }
  /** Every 5 s. Live memory never touches SQLite. */
  | ({ readonly type: 'Heartbeat' } & LiveReading)
  /** The whole list of own shards was read and every process that is not in it is stopped: the node may be Ready. */
  | { readonly type: 'Synced' }
  /** A model of the agent's folder, with its shape from the headers (once per source and digest). */
  | { readonly type: 'ModelShape'; readonly source: string; readonly digest: string; readonly shape: ModelShape }
  | { readonly type: 'LogChunk'; readonly requestId: string; readonly text: string }
  | {
      readonly type: 'LogEnd'
      readonly requestId: string
      readonly error?: { readonly code: OpCode; readonly message: string }
    }
  /** Which nodes hold files of a model at this commit, or are to fetch them? */
  | { readonly type: 'PeersAsked'; readonly requestId: string; readonly source: string; readonly commit: string }
  | { readonly type: 'LinkMeasured'; readonly requestId: string; readonly measurement: LinkMeasurement }

/** Server → agent. */
export type ServerMessage =
  | {
      readonly type: 'Welcome'
      readonly nodeUid: string
      readonly clusterUid: string
      readonly incarnation: string
      /** Server clock: rendezvous times are in it. */
      readonly serverTimeMs: number
      readonly heartbeatMs: number
    }
  | { readonly type: 'Tick'; readonly serverTimeMs: number }
  | ({
      readonly type: 'LogsStart'
      readonly requestId: string
      /** '' when the shard is gone: then only the agent's log file of that name may still be there. */
      readonly shardUid: string
      readonly namespace?: string
      readonly shardName?: string
      readonly follow: boolean
      readonly tail?: number
      readonly previous: boolean
    } & LogTimes)
  | { readonly type: 'LogsStop'; readonly requestId: string }
  | { readonly type: 'Peers'; readonly requestId: string; readonly peers: readonly Peer[] }
  /** Every node that is one now. */
  | { readonly type: 'Members'; readonly members: readonly Member[] }
  | { readonly type: 'MeasureLink'; readonly requestId: string; readonly order: LinkOrder }
  /** Authorities of now, by fingerprint: who trusts others, or has a certificate of another one, asks for a new one. */
  | { readonly type: 'Trust'; readonly authorities: readonly string[]; readonly signing: string }

/** Who calls, as `identityOf(call)` of the transport found out: never taken from a message. */
export interface Identity {
  readonly user: string
  /** Set when the caller is the agent of this node. */
  readonly node?: string
  /** What a person, or the gateway, may do. Absent: everything (loopback without identities). */
  readonly role?: Role | 'gateway'
  /** Nobody: may only ask to join. */
  readonly anonymous?: true
  /** What the caller came with: its serial number, the common name of the authority that signed it, and its end. */
  readonly certificate?: { readonly serial: string; readonly issuer: string; readonly notAfterMs: number }
}
/** A Mac asks to be a node: by a join token, or, to renew, by the certificate that it has. */
export interface JoinRequest {
  readonly node: string
  /** Of a new Node; those of a Node that stands are people's. */
  readonly labels?: Readonly<Record<string, string>>
  /** Name of the JoinToken and its secret; absent: the caller is that node already. */
  readonly token?: { readonly id: string; readonly secret: string }
  /** PKCS #10, PEM. */
  readonly requestPem: string
}
/** Signs a person's key: for `user`, which only an admin may name, or for the caller itself, to renew. */
export interface SignRequest {
  readonly user?: string
  readonly requestPem: string
}
export interface CertificateReply {
  readonly certificatePem: string
  /** All authorities that the cluster trusts now, one after the other. */
  readonly authorityPem: string
}
/** Begins a change of the authority that signs certificates, or ends one: see docs/decisions/0014. Admins only. */
export interface ChangeAuthorityRequest {
  readonly action: 'Rotate' | 'Retire'
  /** Retire: which; absent: the one that goes. */
  readonly name?: string
  /** Retire although somebody still lives on it. */
  readonly force?: boolean
}
export interface ChangeAuthorityReply {
  /** The authority that was made, or retired. */
  readonly name: string
  /** What the caller should know or do next. */
  readonly notes: readonly string[]
}
export interface CallContext {
  readonly identity: Identity
  /** Aborts when the caller goes away or the server stops. */
  readonly signal: AbortSignal
}

export interface Handlers {
  version(request: Record<string, never>, context: CallContext): Promise<VersionReply>
  create(request: CreateRequest, context: CallContext): Promise<WriteReply>
  update(request: UpdateRequest, context: CallContext): Promise<WriteReply>
  patch(request: PatchRequest, context: CallContext): Promise<WriteReply>
  apply(request: ApplyRequest, context: CallContext): Promise<WriteReply>
  delete(request: DeleteRequest, context: CallContext): Promise<DeleteReply>
  get(request: GetRequest, context: CallContext): Promise<GetReply>
  list(request: ListRequest, context: CallContext): Promise<ListReply>
  updateStatus(request: UpdateStatusRequest, context: CallContext): Promise<WriteReply>
  plan(request: PlanRequest, context: CallContext): Promise<PlanReply>
  join(request: JoinRequest, context: CallContext): Promise<CertificateReply>
  sign(request: SignRequest, context: CallContext): Promise<CertificateReply>
  changeAuthority(request: ChangeAuthorityRequest, context: CallContext): Promise<ChangeAuthorityReply>
  observe(request: ObserveRequest, context: CallContext): Promise<Record<string, never>>
  live(request: Record<string, never>, context: CallContext): Promise<LiveReply>
  watch(request: WatchRequest, context: CallContext): AsyncIterable<WatchEvent>
  logs(request: LogsRequest, context: CallContext): AsyncIterable<LogChunk>
  nodeSession(messages: AsyncIterable<AgentMessage>, context: CallContext): AsyncIterable<ServerMessage>
}

/** The same calls from the other side of the wire. Errors are OpErrors again; aborting the signal cancels. */
export interface CallOptions {
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
}
export type Unary =
  | 'version'
  | 'create'
  | 'update'
  | 'patch'
  | 'apply'
  | 'delete'
  | 'get'
  | 'list'
  | 'updateStatus'
  | 'plan'
  | 'join'
  | 'sign'
  | 'changeAuthority'
  | 'observe'
  | 'live'
export type Client = {
  [M in Unary]: (request: Parameters<Handlers[M]>[0], options?: CallOptions) => ReturnType<Handlers[M]>
} & {
  watch(request: WatchRequest, options?: CallOptions): AsyncIterable<WatchEvent>
  logs(request: LogsRequest, options?: CallOptions): AsyncIterable<LogChunk>
  nodeSession(messages: AsyncIterable<AgentMessage>, options?: CallOptions): AsyncIterable<ServerMessage>
  close(): void
}
