/**
 * One connection to the server, from Hello to its end: heartbeats up, log requests down, the list of own shards beside
 * it. The agent opens the next one; losing one is no reason to touch a shard.
 */
import type { Member, Peer } from '../src/api/peers.ts'
import type { LinkMeasurement, LinkOrder } from '../src/api/links.ts'
import type { Clock } from '../src/lib/clock.ts'
import { every } from '../src/lib/clock.ts'
import { OpError, isOpError } from '../src/lib/errors.ts'
import type { AgentMessage, Client, ServerMessage } from '../src/rpc/messages.ts'
import type { Hosts } from './hosts.ts'
import { LogRelay } from './logrelay.ts'
import type { LocalModel } from './models.ts'
import { Outbox } from './outbox.ts'
import type { WantedShards } from './wanted.ts'
import { unknownCluster, watchWanted } from './wanted.ts'

export type Hello = Extract<AgentMessage, { type: 'Hello' }>
export type Welcome = Extract<ServerMessage, { type: 'Welcome' }>
export type Heartbeat = Extract<AgentMessage, { type: 'Heartbeat' }>

export interface SessionDoors {
  readonly nodeName: string
  readonly client: Client
  readonly clock: Clock
  readonly hosts: Hosts
  readonly wanted: WantedShards
  readonly nameOf: (shardUid: string) => string | undefined
  /** Welcomed by the right cluster; resolves before anything else is sent. */
  readonly onWelcome: (welcome: Welcome) => Promise<void>
  readonly onServerTime: (serverTimeMs: number) => void
  /** The list of own shards may have changed. */
  readonly onWanted: () => void
  /** The server says whose certificates count. */
  readonly onMembers?: (members: readonly Member[]) => void
  /** The server says which authorities there are. */
  readonly onTrust?:
    ((trust: { readonly authorities: readonly string[]; readonly signing: string }) => void) | undefined
  /** Takes a fresh reading of the machine. */
  readonly heartbeat: () => Promise<Omit<Heartbeat, 'type'>>
  /** Absent: this agent measures nothing. Never rejects. */
  readonly measureLink?: ((order: LinkOrder) => Promise<LinkMeasurement>) | undefined
}

/** A silent server that used to send Ticks is gone after so many heartbeats. */
const SILENT_HEARTBEATS = 4
const PEERS_TIMEOUT_MS = 3_000

export class Session {
  readonly #doors: SessionDoors
  readonly #outbox = new Outbox()
  readonly #over = new AbortController()
  readonly #toldShapes = new Set<string>()
  readonly #asked = new Map<string, (peers: readonly Peer[]) => void>()
  #asks = 0
  #welcome: Welcome | undefined
  #synced = false
  #failure: { readonly error: unknown } | undefined

  constructor(doors: SessionDoors) {
    this.#doors = doors
  }

  welcome(): Welcome | undefined {
    return this.#welcome
  }

  /** Runs until the stream, the watch or `signal` ends it. Rejects with the reason; OpError of the server or Conflict UnknownCluster. */
  async run(hello: Hello, signal: AbortSignal): Promise<void> {
    const close = () => this.#over.abort()
    signal.addEventListener('abort', close, { once: true })
    void this.#outbox.send(hello)
    const tasks: Promise<void>[] = []
    const relay = new LogRelay(this.#doors.hosts, this.#outbox, this.#doors.clock, this.#doors.nameOf)
    try {
      if (signal.aborted) return
      const stream = this.#doors.client.nodeSession(this.#outbox, { signal: this.#over.signal })
      await this.#read(stream, hello, relay, tasks)
      if (this.#failure === undefined && !signal.aborted)
        throw new OpError('Unavailable', 'the server ended the session')
    } catch (error) {
      if (this.#failure === undefined && !signal.aborted) throw error
    } finally {
      signal.removeEventListener('abort', close)
      relay.close()
      for (const answer of this.#asked.values()) answer([])
      this.#outbox.close()
      this.#over.abort()
      await Promise.all(tasks)
    }
    if (this.#failure !== undefined && !signal.aborted) throw this.#failure.error
  }

  /** Own processes are fenced against a whole list: the node may be Ready. Told once a session. */
  synced(): void {
    if (this.#synced || this.#welcome === undefined) return
    this.#synced = true
    void this.#outbox.send({ type: 'Synced' })
  }

  /** Each shape once a session; the server knows what it has. */
  tellShapes(models: readonly LocalModel[]): void {
    if (this.#welcome === undefined) return
    for (const { source, digest, shape } of models) {
      const key = `${source} ${digest}`
      if (digest === undefined || shape === undefined || this.#toldShapes.has(key)) continue
      this.#toldShapes.add(key)
      void this.#outbox.send({ type: 'ModelShape', source, digest, shape })
    }
  }

  /** Nodes that hold files of a model, or are to fetch them; none when the server does not say in time. */
  async peersOf({ source, commit }: { readonly source: string; readonly commit: string }): Promise<readonly Peer[]> {
    if (this.#welcome === undefined || this.#over.signal.aborted) return []
    const requestId = String((this.#asks += 1))
    const answered = new Promise<readonly Peer[]>((resolve) => this.#asked.set(requestId, resolve))
    const timer = this.#doors.clock.after(PEERS_TIMEOUT_MS, () => this.#asked.get(requestId)?.([]))
    void this.#outbox.send({ type: 'PeersAsked', requestId, source, commit })
    const peers = await answered
    timer.cancel()
    this.#asked.delete(requestId)
    return peers
  }

  async #read(stream: AsyncIterable<ServerMessage>, hello: Hello, relay: LogRelay, tasks: Promise<void>[]) {
    const { clock, onServerTime } = this.#doors
    const heard = { atMs: clock.monotonicMs(), ticked: false }
    for await (const message of stream) {
      heard.atMs = clock.monotonicMs()
      switch (message.type) {
        case 'Welcome':
          if (hello.clusterUid !== '' && message.clusterUid !== hello.clusterUid)
            throw unknownCluster(hello.clusterUid, message.clusterUid)
          onServerTime(message.serverTimeMs)
          await this.#doors.onWelcome(message)
          this.#welcome = message
          tasks.push(this.#watch(message), this.#beat(message, heard))
          this.#doors.onWanted()
          break
        case 'Tick':
          heard.ticked = true
          onServerTime(message.serverTimeMs)
          break
        case 'LogsStart':
          void relay.start(message)
          break
        case 'LogsStop':
          relay.stop(message.requestId)
          break
        case 'Peers':
          this.#asked.get(message.requestId)?.(message.peers)
          break
        case 'Members':
          this.#doors.onMembers?.(message.members)
          break
        case 'Trust':
          this.#doors.onTrust?.(message)
          break
        case 'MeasureLink':
          void this.#measure(message)
          break
      }
      if (this.#over.signal.aborted) return
    }
  }

  async #measure({ requestId, order }: Extract<ServerMessage, { type: 'MeasureLink' }>): Promise<void> {
    const { measureLink } = this.#doors
    const measurement: LinkMeasurement =
      measureLink === undefined
        ? { kind: 'NotDone', message: 'this agent measures no links' }
        : await measureLink(order)
    void this.#outbox.send({ type: 'LinkMeasured', requestId, measurement })
  }

  async #watch({ clusterUid }: Welcome): Promise<void> {
    const { nodeName, client, clock, wanted, onWanted } = this.#doors
    wanted.begin()
    try {
      await watchWanted({ client, nodeName, clusterUid, wanted, clock, onChange: onWanted, signal: this.#over.signal })
    } catch (error) {
      this.#end(error)
    }
  }

  async #beat({ heartbeatMs }: Welcome, heard: { atMs: number; ticked: boolean }): Promise<void> {
    const { clock, heartbeat } = this.#doors
    const { signal } = this.#over
    const beat = async () => {
      if (heard.ticked && clock.monotonicMs() - heard.atMs > SILENT_HEARTBEATS * heartbeatMs)
        return this.#end(new OpError('Unavailable', `the server was silent for ${SILENT_HEARTBEATS} heartbeats`))
      void this.#outbox.send({ type: 'Heartbeat', ...(await heartbeat()) })
    }
    try {
      await beat()
      await every(clock, heartbeatMs, signal, beat)
    } catch (error) {
      this.#end(error)
    }
  }

  #end(error: unknown): void {
    this.#failure ??= { error }
    this.#over.abort()
  }
}

/** Why an agent may not go on: a refused credential, another cluster. Everything else is tried again for ever. */
export const isRefusal = (error: unknown): boolean =>
  isOpError(error, 'Unauthorized') ||
  isOpError(error, 'Forbidden') ||
  (isOpError(error) && error.message.includes('UnknownCluster'))
