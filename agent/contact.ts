/**
 * The agent's contact with its server: who we are to it, one session after the other with pauses between them, and its
 * clock as we reckon it. Losing contact is no reason to touch a shard.
 */
import { setMaxListeners } from 'node:events'
import type { BackoffPolicy } from '../src/lib/backoff.ts'
import { backoffMs } from '../src/lib/backoff.ts'
import type { Clock, Random } from '../src/lib/clock.ts'
import { sleep } from '../src/lib/clock.ts'
import type { LinkMeasurement, LinkOrder } from '../src/api/links.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { OpError } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Client } from '../src/rpc/messages.ts'
import type { Hosts } from './hosts.ts'
import type { AgentRecord, Recorded } from './record.ts'
import type { Heartbeat, Hello, SessionDoors, Welcome } from './session.ts'
import { Session, isRefusal } from './session.ts'
import type { WantedShards } from './wanted.ts'

export type AgentEnd =
  | { readonly kind: 'Stopped' }
  /** The server will not have this agent, now or later; nothing was stopped. */
  | { readonly kind: 'Refused'; readonly message: string }

export interface ContactDoors {
  readonly nodeName: string
  readonly client: Client
  readonly hosts: Hosts
  readonly wanted: WantedShards
  readonly record: AgentRecord
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** What this node says of itself when it knocks. */
  readonly introduce: () => Omit<Hello, 'type' | 'nodeName' | 'clusterUid' | 'agentId'>
  /** A session begins: nothing that an earlier one acknowledged counts. */
  readonly onWelcome: () => void
  readonly onWanted: () => void
  readonly heartbeat: () => Promise<Omit<Heartbeat, 'type'>>
  readonly onMembers?: SessionDoors['onMembers']
  readonly onTrust?: SessionDoors['onTrust']
  /** Fingerprints of the authorities that this agent trusts; absent: it has no identity. */
  readonly trusts?: (() => readonly string[]) | undefined
  /** Why the server that answers is none of ours; undefined: it is, or nobody answers. */
  readonly strangerAt?: (() => Promise<OpError | undefined>) | undefined
  /** Absent: this agent measures no links. */
  readonly measureLink?: (order: LinkOrder) => Promise<LinkMeasurement>
}

/** A session that was welcomed; `control` ends it. */
export interface OpenSession {
  readonly session: Session
  readonly control: AbortController
}

const reconnect: BackoffPolicy = { firstMs: 800, maxMs: 30_000, factor: 2, jitter: 0.2 }

export class ServerContact {
  readonly #doors: ContactDoors
  #identity: Recorded = { clusterUid: '', agentId: '' }
  #open: OpenSession | undefined
  #serverTime: { readonly serverMs: number; readonly atMs: number } | undefined

  constructor(doors: ContactDoors) {
    this.#doors = doors
  }

  /** Reads who we are and which cluster we obey; once, when the shards that are here are known. */
  async remember(): Promise<void> {
    const { hosts, record, random } = this.#doors
    const { clusterUid, agentId } = await record.read()
    this.#identity = {
      // A lost record does not turn the agent over to another cluster while shards of the old one are here.
      clusterUid: clusterUid || (hosts.list()[0]?.clusterUid ?? ''),
      agentId: agentId || random.uuid(),
    }
    if (agentId === '') await record.write(this.#identity)
  }

  /** The cluster that this agent obeys; '' before it ever met one. */
  clusterUid(): string {
    return this.#identity.clusterUid
  }

  session(): OpenSession | undefined {
    return this.#open
  }

  /** The server's clock by its last word and the monotonic time since: a jump of our wall clock does not matter. */
  serverNowMs(): number | undefined {
    const told = this.#serverTime
    if (told === undefined) return undefined
    // Whole ms, as all stamps are: a status with a fraction is refused, and its shard would never have an end.
    return Math.floor(told.serverMs + (this.#doors.clock.monotonicMs() - told.atMs))
  }

  /** Nothing that was heard so far counts: ends the session (the next one follows) and forgets the server's time. */
  startOver(): void {
    this.#serverTime = undefined
    this.#doors.wanted.begin()
    this.#open?.control.abort()
    this.#open = undefined
  }

  /** Ends the session, and the next one follows: who we are has changed. */
  reconnect(): void {
    this.#open?.control.abort()
  }

  /** The server's time where it is known, else ours. */
  nowMs(): number {
    return this.serverNowMs() ?? this.#doors.clock.nowMs()
  }

  /** Session after session, until the signal aborts or the server refuses this agent. */
  async run(signal: AbortSignal): Promise<AgentEnd> {
    const { clock, random, log } = this.#doors
    let failures = 0
    let told = ''
    while (!signal.aborted) {
      const control = new AbortController()
      // As many calls are under way as shards report, and each one listens.
      setMaxListeners(0, control.signal)
      const abort = () => control.abort()
      signal.addEventListener('abort', abort, { once: true })
      const session = this.#newSession(control, () => (failures = 0))
      try {
        await session.run(this.#hello(), control.signal)
      } catch (error) {
        const stranger = isOpError(error, 'Unavailable') ? await this.#doors.strangerAt?.() : undefined
        const message = messageOf(stranger ?? error)
        if (isRefusal(stranger ?? error)) {
          log.error('the server refuses this agent; its shards are left as they are', { error: message })
          return { kind: 'Refused', message }
        }
        if (failures === 0 || message !== told) log.warn('no connection to the server', { error: message })
        told = message
      } finally {
        signal.removeEventListener('abort', abort)
        this.#open = undefined
      }
      failures += 1
      await sleep(clock, backoffMs(reconnect, failures, random.next()), signal)
    }
    return { kind: 'Stopped' }
  }

  #newSession(control: AbortController, onWelcome: () => void): Session {
    const { nodeName, client, clock, hosts, wanted, onWanted, heartbeat, onMembers, onTrust, measureLink } = this.#doors
    const session: Session = new Session({
      nodeName,
      client,
      clock,
      hosts,
      wanted,
      nameOf: (uid) => wanted.get(uid)?.metadata.name ?? hosts.list().find((l) => l.shardUid === uid)?.shardName,
      onWelcome: async (welcome) => {
        onWelcome()
        await this.#onWelcome(welcome)
        this.#open = { session, control }
      },
      onServerTime: (serverMs) => (this.#serverTime = { serverMs, atMs: clock.monotonicMs() }),
      onWanted,
      heartbeat,
      ...(onMembers === undefined ? {} : { onMembers }),
      onTrust,
      measureLink,
    })
    return session
  }

  #hello(): Hello {
    const { nodeName, introduce, trusts } = this.#doors
    return { type: 'Hello', nodeName, ...introduce(), ...this.#identity, ...(trusts && { trusts: trusts() }) }
  }

  async #onWelcome({ clusterUid, nodeUid }: Welcome): Promise<void> {
    if (this.#identity.clusterUid !== clusterUid) {
      const identity = { ...this.#identity, clusterUid }
      await this.#doors.record.write(identity)
      this.#identity = identity
    }
    this.#doors.onWelcome()
    this.#doors.log.info('connected', { clusterUid, nodeUid })
  }
}
