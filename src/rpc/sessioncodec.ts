/** Both directions of a node session: a tagged union here, a oneof on the wire. */
import type { OpCode } from '../lib/errors.ts'
import { opCodes } from '../lib/errors.ts'
import type { ModelShape } from '../api/model.ts'
import type { Member, Peer } from '../api/peers.ts'
import type { EngineMeasurement, LinkMeasurement, LinkOrder } from '../api/links.ts'
import type { ReadingWire } from './livecodec.ts'
import { encodeReading, readingOf } from './livecodec.ts'
import type { AgentMessage, ServerMessage } from './messages.ts'
import type { Codec } from './codec.ts'
import { defined } from './fields.ts'
import { fromJson, invalid, isRecord, toJson } from './json.ts'

type Body<M extends { type: string }, T extends M['type']> = Omit<Extract<M, { type: T }>, 'type'>

interface AgentWire {
  hello?: Partial<Body<AgentMessage, 'Hello'>>
  heartbeat?: ReadingWire
  synced?: object
  modelShape?: { source?: string; digest?: string; shape?: Uint8Array }
  logChunk?: Partial<Body<AgentMessage, 'LogChunk'>>
  logEnd?: { requestId?: string; errorCode?: string; errorMessage?: string }
  peersAsked?: Partial<Body<AgentMessage, 'PeersAsked'>>
  linkMeasured?: MeasuredWire
}
interface MeasuredWire {
  requestId?: string
  kind?: string
  bytesPerSecond?: number
  latencyMicros?: number
  message?: string
  engine?: EngineWire
}
interface EngineWire {
  kind?: string
  allReduceMicros?: number
  hopMicros?: number
  message?: string
}
interface ServerWire {
  welcome?: Partial<Body<ServerMessage, 'Welcome'>>
  tick?: Partial<Body<ServerMessage, 'Tick'>>
  logsStart?: Partial<Body<ServerMessage, 'LogsStart'>>
  logsStop?: Partial<Body<ServerMessage, 'LogsStop'>>
  peers?: { requestId?: string; peers?: readonly Partial<Peer>[] }
  members?: { members?: readonly Partial<Member>[] }
  measureLink?: { requestId?: string } & Partial<LinkOrder>
  trust?: Partial<Body<ServerMessage, 'Trust'>>
}

export const agentMessageCodec: Codec<AgentMessage | undefined> = {
  encode: (message) => (message === undefined ? {} : encodeAgent(message)),
  decode: (wire) => decodeAgent(wire),
}
export const serverMessageCodec: Codec<ServerMessage | undefined> = {
  encode: (message) => (message === undefined ? {} : encodeServer(message)),
  decode: (wire) => decodeServer(wire),
}

function encodeAgent(message: AgentMessage): AgentWire {
  switch (message.type) {
    case 'Hello': {
      const { nodeName, bootId, agentVersion, clusterUid, labels, agentId, trusts } = message
      return { hello: { nodeName, bootId, agentVersion, clusterUid, labels, ...defined({ agentId, trusts }) } }
    }
    case 'Heartbeat':
      return { heartbeat: encodeReading(message) }
    case 'Synced':
      return { synced: {} }
    case 'ModelShape':
      return { modelShape: { source: message.source, digest: message.digest, shape: toJson(message.shape) } }
    case 'LogChunk':
      return { logChunk: { requestId: message.requestId, text: message.text } }
    case 'LogEnd': {
      const { requestId, error } = message
      return { logEnd: { requestId, ...(error && { errorCode: error.code, errorMessage: error.message }) } }
    }
    case 'PeersAsked': {
      const { requestId, source, commit } = message
      return { peersAsked: { requestId, source, commit } }
    }
    case 'LinkMeasured':
      return { linkMeasured: { requestId: message.requestId, ...message.measurement } }
  }
}

function decodeAgent(wire: AgentWire): AgentMessage | undefined {
  const { hello, heartbeat, synced, modelShape, logChunk, logEnd, peersAsked, linkMeasured } = wire
  if (hello !== undefined) {
    const { nodeName = '', bootId = '', agentVersion = '', clusterUid = '', labels = {}, agentId } = hello
    // On the wire none is an empty list.
    const trusts = hello.trusts?.length === 0 ? undefined : hello.trusts
    return { type: 'Hello', nodeName, bootId, agentVersion, clusterUid, labels, ...defined({ agentId, trusts }) }
  }
  if (heartbeat !== undefined) return { type: 'Heartbeat', ...readingOf(heartbeat) }
  if (synced !== undefined) return { type: 'Synced' }
  if (modelShape !== undefined) {
    const { source = '', digest = '' } = modelShape
    const shape = fromJson(modelShape.shape, 'shape')
    if (!isRecord(shape)) throw invalid('shape', 'Invalid value: must be a JSON object')
    return { type: 'ModelShape', source, digest, shape: shape as unknown as ModelShape }
  }
  if (logChunk !== undefined)
    return { type: 'LogChunk', requestId: logChunk.requestId ?? '', text: logChunk.text ?? '' }
  if (peersAsked !== undefined) {
    const { requestId = '', source = '', commit = '' } = peersAsked
    return { type: 'PeersAsked', requestId, source, commit }
  }
  if (linkMeasured !== undefined)
    return { type: 'LinkMeasured', requestId: linkMeasured.requestId ?? '', measurement: decodeMeasured(linkMeasured) }
  if (logEnd === undefined) return undefined
  const { requestId = '', errorCode, errorMessage = '' } = logEnd
  if (errorCode === undefined) return { type: 'LogEnd', requestId }
  const code: OpCode = opCodes.find((c) => c === errorCode) ?? 'Internal'
  return { type: 'LogEnd', requestId, error: { code, message: errorMessage } }
}

/** Figures that make no sense are as good as none. */
function decodeMeasured(wire: MeasuredWire): LinkMeasurement {
  const { kind, bytesPerSecond = 0, latencyMicros = 0, message = '', engine } = wire
  if (
    kind === 'Measured' &&
    bytesPerSecond > 0 &&
    latencyMicros >= 0 &&
    Number.isFinite(bytesPerSecond + latencyMicros)
  )
    return { kind, bytesPerSecond, latencyMicros, ...(engine && { engine: decodeEngine(engine) }) }
  return { kind: kind === 'Failed' ? 'Failed' : 'NotDone', message }
}

function decodeEngine({ kind, allReduceMicros = 0, hopMicros = 0, message = '' }: EngineWire): EngineMeasurement {
  if (kind === 'Measured' && allReduceMicros > 0 && hopMicros > 0 && Number.isFinite(allReduceMicros + hopMicros))
    return { kind, allReduceMicros, hopMicros }
  return { kind: kind === 'Failed' ? 'Failed' : 'NotDone', message }
}

function encodeServer(message: ServerMessage): ServerWire {
  switch (message.type) {
    case 'Welcome': {
      const { nodeUid, clusterUid, incarnation, serverTimeMs, heartbeatMs } = message
      return { welcome: { nodeUid, clusterUid, incarnation, serverTimeMs, heartbeatMs } }
    }
    case 'Tick':
      return { tick: { serverTimeMs: message.serverTimeMs } }
    case 'LogsStart': {
      const { type: _, ...order } = message
      return { logsStart: defined(order) }
    }
    case 'LogsStop':
      return { logsStop: { requestId: message.requestId } }
    case 'Peers': {
      const { requestId, peers } = message
      return { peers: { requestId, peers } }
    }
    case 'Members':
      return { members: { members: message.members } }
    case 'MeasureLink':
      return { measureLink: { requestId: message.requestId, ...message.order } }
    case 'Trust':
      return { trust: { authorities: message.authorities, signing: message.signing } }
  }
}

function decodeServer({
  welcome,
  tick,
  logsStart,
  logsStop,
  peers,
  members,
  measureLink,
  trust,
}: ServerWire): ServerMessage | undefined {
  if (welcome !== undefined) {
    const { nodeUid = '', clusterUid = '', incarnation = '', serverTimeMs = 0, heartbeatMs = 0 } = welcome
    return { type: 'Welcome', nodeUid, clusterUid, incarnation, serverTimeMs, heartbeatMs }
  }
  if (tick !== undefined) return { type: 'Tick', serverTimeMs: tick.serverTimeMs ?? 0 }
  if (logsStart !== undefined) {
    const { requestId = '', shardUid = '', follow = false, previous = false, ...order } = logsStart
    const { tail, namespace, shardName, sinceTimeMs, sinceAgoMs, timestamps } = order
    return {
      type: 'LogsStart',
      requestId,
      shardUid,
      follow,
      previous,
      ...defined({ tail, namespace, shardName, sinceTimeMs, sinceAgoMs, timestamps }),
    }
  }
  if (peers !== undefined)
    return { type: 'Peers', requestId: peers.requestId ?? '', peers: (peers.peers ?? []).map(decodePeer) }
  if (members !== undefined) return { type: 'Members', members: (members.members ?? []).map(decodeMember) }
  if (measureLink !== undefined) {
    const { requestId = '', peer = '', address = '', peerAddress = '', port = 0, engine } = measureLink
    return { type: 'MeasureLink', requestId, order: { peer, address, peerAddress, port, ...defined({ engine }) } }
  }
  if (trust !== undefined) return { type: 'Trust', authorities: trust.authorities ?? [], signing: trust.signing ?? '' }
  return logsStop === undefined ? undefined : { type: 'LogsStop', requestId: logsStop.requestId ?? '' }
}

const decodeMember = ({ node = '', uid = '', validFromMs }: Partial<Member>): Member => ({
  node,
  uid,
  ...defined({ validFromMs }),
})

const decodePeer = ({ node = '', address = '', port = 0, bytesPerSecond }: Partial<Peer>): Peer => ({
  node,
  address,
  port,
  ...defined({ bytesPerSecond }),
})
