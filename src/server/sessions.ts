/**
 * Node sessions: the one stream that each agent holds. It makes the Node at the first Hello, keeps heartbeats in memory
 * (they never touch the store), takes shapes of models in, and carries log requests down.
 */
import type { LiveReading } from '../api/live.ts'
import type { Manifest } from '../api/meta.ts'
import { API_VERSION, keyOf, timestamp } from '../api/meta.ts'
import type { LinkMeasurement, LinkOrder } from '../api/links.ts'
import type { Node } from '../api/node.ts'
import type { NodeSessions } from '../api/sessions.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { every, sleep } from '../lib/clock.ts'
import { OpError, isOpError, messageOf, unreachable } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import { ABORTED, orAborted } from '../rpc/flow.ts'
import type { AgentMessage, CallContext, Handlers, LogTimes, ServerMessage } from '../rpc/messages.ts'
import { createObject, setStatus } from '../store/objects.ts'
import type { Store } from '../store/store.ts'
import { audited } from './audit.ts'
import { LogRelay } from './logrelay.ts'
import { nameTaken, skewRefusal, unknownCluster } from './hello.ts'
import { soundReading } from './live.ts'
import { changesMembers, membersOf } from './members.ts'
import { modelPeers } from './modelpeers.ts'
import type { ReportedShape } from './modelshape.ts'
import { recordShape } from './modelshape.ts'
import type { TrustAuthority } from './trust/authority.ts'
import type { Hello } from './session.ts'
import { Session } from './session.ts'

export const HEARTBEAT_MS = 5_000
const HELLO_TIMEOUT_MS = 10_000
/** Another agent may take a name whose agent has been silent for so long: three heartbeats. */
const NAME_HELD_MS = 3 * HEARTBEAT_MS
const MAX_LABELS = 64

export interface SessionDoors {
  readonly store: Store
  /** Agents of other releases are asked whether they still work with it; absent: all do. */
  readonly serverVersion?: string
  /** Absent: the cluster has no identities. */
  readonly authority?: () => Pick<TrustAuthority, 'told' | 'nameOf'> | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export interface LogOrder extends LogTimes {
  readonly shardUid: string
  readonly namespace: string
  readonly shardName: string
  readonly follow: boolean
  readonly tail?: number
  readonly previous: boolean
}

export interface Sessions extends NodeSessions {
  readonly nodeSession: Handlers['nodeSession']
  /** Names of the nodes whose agents are in session, in order. */
  connected(): readonly string[]
  isConnected(node: string): boolean
  /** What the node's last heartbeat of this session said of its machine. */
  reading(node: string): LiveReading | undefined
  /** Asks the node's agent for a log; undefined when it is not in session. `stop` when it is not read any more. */
  requestLog(node: string, order: LogOrder): { readonly relay: LogRelay; stop(): void } | undefined
  /** Ends every session with Unavailable. */
  close(): void
}

export function createSessions(doors: SessionDoors): Sessions {
  return new NodeSessionTable(doors)
}

class NodeSessionTable implements Sessions {
  readonly #doors: SessionDoors
  readonly #sessions = new Map<string, Session>()
  readonly #lastSeenMs = new Map<string, number>()
  readonly #headroom = new Map<string, number>()
  readonly #listeners = new Set<(node: string) => void>()
  readonly #unsubscribe: () => void

  constructor(doors: SessionDoors) {
    this.#doors = doors
    this.#unsubscribe = doors.store.onCommit((changes) => {
      for (const { type, object } of changes)
        if (type === 'DELETED' && object.kind === 'Node') this.#onNodeDeleted(object as Node)
      if (changes.some(({ object }) => object.kind === 'Authority'))
        for (const session of this.#sessions.values()) this.#tellTrust(session)
      if (changes.some(changesMembers)) for (const session of this.#sessions.values()) this.#tellMembers(session)
    })
  }

  lastSeenMs(node: string): number | undefined {
    return this.#lastSeenMs.get(node)
  }

  synced(node: string): boolean {
    return this.#sessions.get(node)?.synced === true
  }

  headroomBytes(): ReadonlyMap<string, number> {
    return this.#headroom
  }

  onChange(listener: (node: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  connected(): readonly string[] {
    return [...this.#sessions.keys()].sort()
  }

  isConnected(node: string): boolean {
    return this.#sessions.has(node)
  }

  reading(node: string): LiveReading | undefined {
    return this.#sessions.get(node)?.reading
  }

  requestLog(node: string, order: LogOrder) {
    const session = this.#sessions.get(node)
    if (session === undefined) return undefined
    const requestId = this.#doors.random.uuid()
    const relay = new LogRelay()
    session.relays.set(requestId, relay)
    session.send({ type: 'LogsStart', requestId, ...order })
    const stop = () => {
      if (session.relays.delete(requestId) && !session.signal.aborted) session.send({ type: 'LogsStop', requestId })
    }
    return { relay, stop }
  }

  measureLink(node: string, order: LinkOrder): Promise<LinkMeasurement> {
    const session = this.#sessions.get(node)
    if (session === undefined) return Promise.resolve({ kind: 'NotDone', message: `node "${node}" is not in session` })
    const { random, clock } = this.#doors
    return session.measureLink(random.uuid(), order, clock)
  }

  close(): void {
    this.#unsubscribe()
    for (const session of [...this.#sessions.values()])
      session.end(new OpError('Unavailable', 'the server is stopping'))
  }

  readonly nodeSession = (messages: AsyncIterable<AgentMessage>, context: CallContext): AsyncIterable<ServerMessage> =>
    this.#run(messages[Symbol.asyncIterator](), context)

  async *#run(messages: AsyncIterator<AgentMessage>, context: CallContext): AsyncIterable<ServerMessage> {
    const { clock, store, log } = this.#doors
    const hello = await this.#hello(messages, context)
    const session = this.#take(hello)
    const end = () => session.end()
    context.signal.addEventListener('abort', end, { once: true })
    if (context.signal.aborted) end()
    try {
      session.nodeUid = (await this.#ensureNode(session, context)).metadata.uid
      await this.#recordTrust(hello, context)
      const { clusterUid, incarnation } = store
      const serverTimeMs = clock.nowMs()
      session.send({
        type: 'Welcome',
        nodeUid: session.nodeUid,
        clusterUid,
        incarnation,
        serverTimeMs,
        heartbeatMs: HEARTBEAT_MS,
      })
      log.info('agent connected', { node: session.node, version: hello.agentVersion, bootId: hello.bootId })
      this.#tellMembers(session)
      this.#tellTrust(session)
      this.#tell(session.node)
      void this.#read(session, messages)
      void every(clock, HEARTBEAT_MS, session.signal, () => session.send({ type: 'Tick', serverTimeMs: clock.nowMs() }))
      yield* session.out
    } finally {
      context.signal.removeEventListener('abort', end)
      this.#drop(session)
    }
  }

  /** The first message, checked against who calls and which cluster this is. */
  async #hello(messages: AsyncIterator<AgentMessage>, { identity, signal }: CallContext): Promise<Hello> {
    const { clock, store, serverVersion = '' } = this.#doors
    const waited = new AbortController()
    const first = await Promise.race([
      orAborted(messages.next(), signal),
      sleep(clock, HELLO_TIMEOUT_MS, waited.signal).then(() => undefined),
    ])
    waited.abort()
    if (first === undefined)
      throw new OpError('Timeout', `the session said no Hello within ${HELLO_TIMEOUT_MS / 1000} s`)
    if (first === ABORTED || first.done === true) throw new OpError('Cancelled', 'the session ended before its Hello')
    const hello = first.value
    if (hello.type !== 'Hello')
      throw new OpError('Invalid', `the first message of a session is Hello, not ${hello.type}`)
    if (identity.node !== hello.nodeName)
      throw new OpError('Forbidden', `"${identity.user}" may not hold the session of node "${hello.nodeName}"`)
    if (hello.clusterUid !== '' && hello.clusterUid !== store.clusterUid) throw unknownCluster(hello, store.clusterUid)
    const skew = skewRefusal(hello, serverVersion)
    if (skew !== undefined) throw skew
    if (Object.keys(hello.labels).length > MAX_LABELS)
      throw new OpError('Invalid', `an agent may give its node at most ${MAX_LABELS} labels`)
    return hello
  }

  /** Takes the name: from a session of the same agent, or of one that fell silent. Conflict while another one lives. */
  #take(hello: Hello): Session {
    const nowMs = this.#doors.clock.monotonicMs()
    const { nodeName } = hello
    const old = this.#sessions.get(nodeName)
    if (old !== undefined) {
      const silentMs = nowMs - old.lastSeenMs
      if (!old.isSameAgent(hello) && silentMs < NAME_HELD_MS) throw nameTaken(old, silentMs)
      this.#drop(old, new OpError('Conflict', `a newer session of node "${nodeName}" took the place of this one`))
    }
    const session = new Session(hello, nowMs)
    this.#sessions.set(nodeName, session)
    this.#lastSeenMs.set(nodeName, nowMs)
    return session
  }

  /** The Node of the session, made with the agent's labels if there is none: labels of an existing Node are people's. */
  async #ensureNode({ hello }: Session, { identity }: CallContext): Promise<Node> {
    const { store, log } = this.#doors
    const { nodeName, labels } = hello
    const standing = store.snapshot().get('Node', '', nodeName)
    if (standing !== undefined) return standing
    const manifest = {
      apiVersion: API_VERSION,
      kind: 'Node',
      metadata: { name: nodeName, labels },
      spec: {},
    } as const satisfies Manifest
    const target = keyOf(manifest)
    const { object } = await audited(log, { identity, verb: 'create', target }, () =>
      store.transact((tx) => {
        const node = tx.get('Node', '', nodeName)
        return node === undefined ? createObject(tx, manifest) : { object: node }
      }),
    )
    return object
  }

  async #read(session: Session, messages: AsyncIterator<AgentMessage>): Promise<void> {
    try {
      for (;;) {
        const next = await orAborted(messages.next(), session.signal)
        if (next === ABORTED || next.done === true) break
        session.lastSeenMs = this.#doors.clock.monotonicMs()
        this.#lastSeenMs.set(session.node, session.lastSeenMs)
        await this.#on(session, next.value)
      }
      session.end()
    } catch (error) {
      session.end(isOpError(error) ? error : new OpError('Internal', 'read an agent’s session', { cause: error }))
    } finally {
      // A stream that waits for its next message ends with its call.
      void messages.return?.().catch(() => {})
    }
  }

  async #on(session: Session, message: AgentMessage): Promise<void> {
    switch (message.type) {
      case 'Hello':
        throw new OpError('Invalid', 'a session says Hello once')
      case 'Heartbeat':
        return this.#onHeartbeat(session, message)
      case 'Synced':
        session.synced = true
        return this.#tell(session.node)
      case 'ModelShape':
        return this.#onShape(session, message)
      case 'LogChunk':
        return this.#onLogChunk(session, message.requestId, message.text)
      case 'LogEnd':
        return this.#onLogEnd(session, message.requestId, message.error)
      case 'LinkMeasured':
        return session.onMeasured(message.requestId, message.measurement)
      case 'PeersAsked':
        return session.send({
          type: 'Peers',
          requestId: message.requestId,
          peers: modelPeers(this.#doors.store.snapshot(), session.node, message),
        })
      default:
        return unreachable(message)
    }
  }

  /** A machine that is short of memory has none for anything new, whatever is free: before its condition is written. */
  #onHeartbeat(session: Session, heartbeat: Extract<AgentMessage, { type: 'Heartbeat' }>): void {
    session.reading = soundReading(heartbeat)
    const { node } = session
    const { freeBytes, pressure } = session.reading
    if (pressure === 'Warn' || pressure === 'Critical') this.#headroom.set(node, 0)
    else if (freeBytes !== undefined) this.#headroom.set(node, freeBytes)
    else this.#headroom.delete(node)
  }

  /** A shape that makes no sense costs its model a plan, not the node its session. */
  async #onShape({ node }: Session, message: ReportedShape): Promise<void> {
    const { store, log } = this.#doors
    const { source, digest } = message
    try {
      const written = await store.transact((tx) => recordShape(tx, node, message))
      const facts = { node, source, digest, model: written.model.metadata.name }
      if (written.result === 'written') log.info('model shape written', facts)
      if (written.result === 'differs')
        log.warn('node holds other files of a model', {
          ...facts,
          holder: written.holder,
          wanted: written.model.status?.digest,
        })
    } catch (error) {
      log.warn('model shape refused', { node, source, digest, error: messageOf(error) })
    }
  }

  #onLogChunk(session: Session, requestId: string, text: string): void {
    const relay = session.relays.get(requestId)
    if (relay === undefined || relay.add(text)) return
    session.relays.delete(requestId)
    session.send({ type: 'LogsStop', requestId })
  }

  #onLogEnd(session: Session, requestId: string, error: Extract<AgentMessage, { type: 'LogEnd' }>['error']): void {
    const relay = session.relays.get(requestId)
    session.relays.delete(requestId)
    if (error === undefined) relay?.end()
    else relay?.fail(new OpError(error.code, error.message))
  }

  /** Ends the session; the node's headroom is unknown from now on, unless a newer session has it. */
  #drop(session: Session, error?: OpError): void {
    session.end(error)
    const { node } = session
    if (this.#sessions.get(node) !== session) return
    this.#sessions.delete(node)
    this.#headroom.delete(node)
    this.#doors.log.info('agent disconnected', { node })
    this.#tell(node)
  }

  /** Its agent still lives: it joins again, and gets a new Node. */
  #onNodeDeleted({ metadata }: Node): void {
    const session = this.#sessions.get(metadata.name)
    if (session?.nodeUid !== metadata.uid) return
    session.end(new OpError('Unavailable', `node "${metadata.name}" was deleted; its agent joins anew`))
  }

  #tellMembers(session: Session): void {
    // After its Welcome, which comes first.
    if (session.nodeUid !== '' && !session.signal.aborted)
      session.send({ type: 'Members', members: membersOf(this.#doors.store.snapshot()) })
  }

  /** Agents compare it with what they have, and ask for what they lack. */
  #tellTrust(session: Session): void {
    const trust = this.#doors.authority?.()?.told
    if (trust !== undefined && session.nodeUid !== '' && !session.signal.aborted)
      session.send({ type: 'Trust', ...trust })
  }

  /** What the agent lives on: a change of authority waits for it, and `mctl describe node` tells it. */
  async #recordTrust({ nodeName, trusts }: Hello, { identity: { certificate } }: CallContext): Promise<void> {
    const authority = certificate && this.#doors.authority?.()?.nameOf(certificate.issuer)
    if (certificate === undefined || authority === undefined) return
    const trust = {
      authority,
      expiresAt: timestamp(certificate.notAfterMs),
      ...(trusts === undefined ? {} : { trusts }),
    }
    await this.#doors.store.transact((tx) => {
      const node = tx.get('Node', '', nodeName)
      if (node !== undefined) setStatus(tx, node, { ...node.status, trust })
    })
  }

  #tell(node: string): void {
    for (const listener of this.#listeners) listener(node)
  }
}
