/**
 * The agent of one node: observe → plan → execute → report, again after every change and every few seconds. It outlives
 * the server's absence (shards serve on) and is itself outlived by its shards (the hosts live on). All that touches
 * time, disk, processes or the network comes in by a door, so that the simulator runs this very class.
 */
import type { Condition } from '../src/api/meta.ts'
import type { BackoffPolicy } from '../src/lib/backoff.ts'
import { backoffMs } from '../src/lib/backoff.ts'
import type { Clock, Random } from '../src/lib/clock.ts'
import { every, sleep } from '../src/lib/clock.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Client } from '../src/rpc/messages.ts'
import type { ExecutorDoors, Notes } from './executors/doors.ts'
import { emptyNotes } from './executors/doors.ts'
import { execute, exitOfFailure, shardNameOf, shardUidOf } from './executors/index.ts'
import type { Hosts, LocalShard } from './hosts.ts'
import type { ModelShelf } from './models.ts'
import type { EngineReport, NodeReport } from './nodestatus.ts'
import { nodePatch, nodeReport } from './nodestatus.ts'
import type { MachineFacts, Observe } from './observe/facts.ts'
import type { Action, StopLimits, Wait } from './plan.ts'
import { PLANNED_STOP, isAlive, planNode } from './plan.ts'
import type { AgentRecord } from './record.ts'
import { ShardReporter } from './reporter.ts'
import type { Heartbeat, Hello, Welcome } from './session.ts'
import { Session, isRefusal } from './session.ts'
import { shardStatus } from './shardstatus.ts'
import { WantedShards } from './wanted.ts'

export interface AgentDoors {
  readonly client: Client
  readonly hosts: Hosts
  readonly models: ModelShelf
  readonly observe: Observe
  readonly probeEngines: () => Promise<EngineReport>
  readonly record: AgentRecord
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export interface AgentOptions {
  readonly nodeName: string
  readonly agentVersion: string
  /** Where this node's shards listen. Default 127.0.0.1. */
  readonly address?: string
  readonly labels?: Readonly<Record<string, string>>
}

export type AgentEnd =
  | { readonly kind: 'Stopped' }
  /** The server will not have this agent, now or later; nothing was stopped. */
  | { readonly kind: 'Refused'; readonly message: string }

export interface StopHow {
  /** 'leave': engines serve on and are adopted by the next agent. 'stop': resolves when none is left. */
  readonly shards: 'leave' | 'stop'
  /** For 'stop'; default: that of a planned stop. A second call with less time shortens the first. */
  readonly limits?: StopLimits
}

const reconnect: BackoffPolicy = { firstMs: 800, maxMs: 30_000, factor: 2, jitter: 0.2 }
const PASS_PERIOD_MS = 5_000
const PROBE_PERIOD_MS = 60_000
const WRITE_TIMEOUT_MS = 10_000
/** What the host needs beyond the limits to see its engine's end. */
const STOP_SLACK_MS = 5_000

export class Agent {
  readonly #doors: AgentDoors
  readonly #options: AgentOptions
  readonly #over = new AbortController()
  readonly #wanted = new WantedShards()
  readonly #notes: Notes = emptyNotes()
  readonly #reporter: ShardReporter
  readonly #waits = new Map<string, string>()
  #clusterUid = ''
  #agentId = ''
  #facts: MachineFacts | undefined
  #engines: EngineReport = { engines: [], missing: [] }
  #session: { readonly session: Session; readonly control: AbortController } | undefined
  #serverTime: { readonly serverMs: number; readonly atMs: number } | undefined
  /** What this session's server acknowledged of the Node. */
  #node: { held: NodeReport | undefined; writing: boolean } | undefined
  #conditions: readonly Condition[] = []
  #passQueued = false
  #stopping = false
  readonly #changeWaiters: (() => void)[] = []
  /** The shards that were here before us are known. */
  #recovered = false

  constructor(doors: AgentDoors, options: AgentOptions) {
    this.#doors = doors
    this.#options = options
    this.#reporter = new ShardReporter({ ...doors, wanted: this.#wanted, onChange: () => this.#wake() })
  }

  /** Runs until `stop`, or until the server refuses this agent. Rejects only when it could not begin. */
  async run(): Promise<AgentEnd> {
    const { hosts, models, clock, log } = this.#doors
    const { signal } = this.#over
    await hosts.recover()
    await this.#remember()
    this.#recovered = true
    this.#changed()
    await this.#probe()
    await this.#observe()
    log.info('agent begins', { node: this.#options.nodeName, shards: hosts.list().length })

    const offs = [hosts.onChange(() => this.#onHosts()), models.onChange(() => this.#onMachine())]
    const loops = [
      every(clock, PASS_PERIOD_MS, signal, () => this.#wake()),
      every(clock, PROBE_PERIOD_MS, signal, () => this.#reprobe()),
    ]
    try {
      return await this.#connect(signal)
    } finally {
      for (const off of offs) off()
      this.#over.abort()
      hosts.close()
      await Promise.all(loops)
    }
  }

  async #remember(): Promise<void> {
    const { hosts, record, random } = this.#doors
    const { clusterUid, agentId } = await record.read()
    // A lost record does not turn the agent over to another cluster while shards of the old one are here.
    this.#clusterUid = clusterUid || (hosts.list()[0]?.clusterUid ?? '')
    this.#agentId = agentId || random.uuid()
    if (agentId === '') await record.write({ clusterUid: this.#clusterUid, agentId: this.#agentId })
  }

  /** Ends `run`. With shards 'stop' it resolves when no engine of this cluster lives here, or the limits are over. */
  async stop(how: StopHow): Promise<void> {
    this.#stopping = true
    if (how.shards === 'stop') await this.#stopShards(how.limits ?? PLANNED_STOP)
    this.#over.abort()
  }

  async #stopShards(limits: StopLimits): Promise<void> {
    const { clock, hosts, log } = this.#doors
    const deadline = new AbortController()
    const timer = clock.after(limits.drainMs + limits.graceMs + STOP_SLACK_MS, () => deadline.abort())
    const asked = new Set<string>()
    for (;;) {
      const left = hosts.list().filter((l) => l.clusterUid === this.#clusterUid && isAlive(l, this.#notes.started))
      const done = this.#recovered && left.length === 0 && this.#notes.busy.size === 0
      if (done || deadline.signal.aborted) break
      for (const { shardUid, shardName } of left.filter((l) => !asked.has(l.shardUid))) {
        asked.add(shardUid)
        log.info('stopping shard', { shard: shardName, uid: shardUid, reason: 'AgentStopping' })
        hosts.stop(shardUid, limits.graceMs, 'AgentStopping', limits.drainMs)
      }
      await this.#nextChange(deadline.signal)
    }
    timer.cancel()
  }

  /** Resolves when a local shard or an executor has changed, or at the deadline. */
  #nextChange(deadline: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#changeWaiters.push(resolve)
      deadline.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  #changed(): void {
    for (const resolve of this.#changeWaiters.splice(0)) resolve()
  }

  // ---- the session

  async #connect(signal: AbortSignal): Promise<AgentEnd> {
    const { clock, random, log } = this.#doors
    let failures = 0
    let told = ''
    while (!signal.aborted) {
      const control = new AbortController()
      const abort = () => control.abort()
      signal.addEventListener('abort', abort, { once: true })
      const session = this.#newSession(control, () => (failures = 0))
      try {
        await session.run(this.#hello(), control.signal)
      } catch (error) {
        const message = messageOf(error)
        if (isRefusal(error)) {
          log.error('the server refuses this agent; its shards are left as they are', { error: message })
          return { kind: 'Refused', message }
        }
        if (failures === 0 || message !== told) log.warn('no connection to the server', { error: message })
        told = message
      } finally {
        signal.removeEventListener('abort', abort)
        this.#session = undefined
      }
      failures += 1
      await sleep(clock, backoffMs(reconnect, failures, random.next()), signal)
    }
    return { kind: 'Stopped' }
  }

  #newSession(control: AbortController, onWelcome: () => void): Session {
    const { client, clock, hosts } = this.#doors
    const session: Session = new Session({
      nodeName: this.#options.nodeName,
      client,
      clock,
      hosts,
      wanted: this.#wanted,
      nameOf: (uid) => this.#wanted.get(uid)?.metadata.name ?? hosts.list().find((l) => l.shardUid === uid)?.shardName,
      onWelcome: async (welcome) => {
        onWelcome()
        await this.#onWelcome(welcome)
        this.#session = { session, control }
      },
      onServerTime: (serverMs) => (this.#serverTime = { serverMs, atMs: clock.monotonicMs() }),
      onWanted: () => this.#wake(),
      heartbeat: () => this.#heartbeat(),
    })
    return session
  }

  #hello(): Hello {
    const { nodeName, agentVersion, labels = {} } = this.#options
    const [clusterUid, agentId, bootId] = [this.#clusterUid, this.#agentId, this.#facts?.bootId ?? '']
    return { type: 'Hello', nodeName, bootId, agentVersion, clusterUid, labels, agentId }
  }

  async #onWelcome({ clusterUid, nodeUid }: Welcome): Promise<void> {
    if (this.#clusterUid !== clusterUid) {
      await this.#doors.record.write({ clusterUid, agentId: this.#agentId })
      this.#clusterUid = clusterUid
    }
    this.#node = { held: undefined, writing: false }
    this.#doors.log.info('connected', { clusterUid, nodeUid })
  }

  async #heartbeat(): Promise<Omit<Heartbeat, 'type'>> {
    await this.#observe()
    this.#onMachine()
    const { headroomBytes, pressure, simulated } = this.#facts ?? {}
    if (simulated === true) return {}
    return {
      ...(headroomBytes === undefined ? {} : { freeBytes: headroomBytes }),
      ...(pressure === undefined ? {} : { pressure }),
    }
  }

  // ---- the machine

  async #observe(): Promise<void> {
    const { hosts, observe, log } = this.#doors
    const alive = hosts.list().filter((l) => isAlive(l, this.#notes.started))
    const pids = alive.flatMap((l) => (l.state?.enginePid === undefined ? [] : [l.state.enginePid]))
    const loaded = alive.filter((l) => l.state?.phase === 'Ready')
    const loadedBytes = loaded.reduce((sum, l) => sum + (this.#wanted.get(l.shardUid)?.spec.memoryBytes ?? 0), 0)
    try {
      this.#facts = await observe({ pids, loadedBytes })
    } catch (error) {
      if (this.#facts === undefined) throw error
      log.warn('machine not observed', { error: messageOf(error) })
    }
  }

  async #probe(): Promise<void> {
    this.#engines = await this.#doors.probeEngines()
    for (const { engine, remedy } of this.#engines.missing) this.#doors.log.warn('engine missing', { engine, remedy })
  }

  /** A missing engine may be installed while we run. */
  async #reprobe(): Promise<void> {
    if (this.#engines.missing.length === 0) return
    try {
      this.#engines = await this.#doors.probeEngines()
      this.#onMachine()
    } catch (error) {
      this.#doors.log.warn('engines not probed', { error: messageOf(error) })
    }
  }

  /** Facts, models or engines may have changed: the Node is told when they did, and shards may be able to go on. */
  #onMachine(): void {
    this.#session?.session.tellShapes(this.#doors.models.list() ?? [])
    void this.#reportNode()
    this.#wake()
  }

  /** Writes what differs from what this session acknowledged; a failure is tried again at the next heartbeat. */
  async #reportNode(): Promise<void> {
    const [node, session, facts] = [this.#node, this.#session, this.#facts]
    const nodeUid = session?.session.welcome()?.nodeUid
    if (node === undefined || node.writing || session === undefined || facts === undefined || nodeUid === undefined)
      return
    const { agentVersion, address = '127.0.0.1' } = this.#options
    const report = nodeReport({
      facts,
      engines: this.#engines,
      models: this.#doors.models.list(),
      agentVersion,
      address,
      conditions: this.#conditions,
      nowMs: this.#nowMs(),
    })
    const patch = nodePatch(node.held, report)
    if (patch === undefined) return
    node.writing = true
    this.#conditions = report.conditions ?? []
    try {
      const options = { signal: session.control.signal, timeoutMs: WRITE_TIMEOUT_MS }
      await this.#doors.client.updateStatus({ uid: nodeUid, patch }, options)
      node.held = report
    } catch (error) {
      if (session.control.signal.aborted) return
      this.#doors.log.warn('node status not written', { error: messageOf(error) })
      // The Node was deleted: a new session makes it anew.
      if (isOpError(error, 'NotFound')) session.control.abort()
    } finally {
      node.writing = false
    }
    if (node.held === report) this.#onMachine()
  }

  // ---- the pass

  #onHosts(): void {
    this.#changed()
    this.#wake()
  }

  /** Passes never overlap, and all that changes in one turn shares one. */
  #wake(): void {
    if (this.#passQueued || this.#stopping || this.#over.signal.aborted) return
    this.#passQueued = true
    queueMicrotask(() => {
      this.#passQueued = false
      if (!this.#stopping && !this.#over.signal.aborted) this.#pass()
    })
  }

  #pass(): void {
    const { hosts, models } = this.#doors
    const wanted = this.#wanted.list()
    const local = hosts.list()
    const plan = planNode(
      wanted,
      {
        ...this.#notes,
        clusterUid: this.#clusterUid,
        local,
        models: models.list(),
        serverNowMs: this.#serverNowMs(),
      },
      this.#doors.clock.nowMs(),
    )
    this.#tellWaits(plan.waits)
    for (const action of plan.actions) void this.#execute(action)
    if (wanted !== undefined) this.#report(local, plan.waits)
    this.#forgetNotes(local)
    if (plan.fenced && this.#wanted.isWhole() && this.#reporter.isQuiet() && this.#node?.held !== undefined)
      this.#session?.session.synced()
  }

  /** One action of one shard at a time; whatever becomes of it, the others go on. */
  async #execute(action: Action): Promise<void> {
    const { hosts, log, clock } = this.#doors
    const uid = shardUidOf(action)
    const { busy, failures } = this.#notes
    if (busy.has(uid) && action.kind !== 'stopShard') return
    const facts = { action: action.kind, shard: shardNameOf(action), uid }
    const doors: ExecutorDoors = { hosts, notes: this.#notes, clusterUid: () => this.#clusterUid }
    busy.add(uid)
    let again = true
    try {
      await execute(doors, action)
      log.info('action done', { ...facts, ...reasonOf(action) })
    } catch (error) {
      const exit = exitOfFailure(action, error, clock.nowMs())
      log.warn('action failed', { ...facts, error: messageOf(error) })
      if (exit !== undefined) failures.set(uid, exit)
      // Without an end to report there is nothing new: the next periodic pass tries again.
      else again = false
    } finally {
      busy.delete(uid)
    }
    this.#changed()
    if (again) this.#wake()
  }

  #report(local: readonly LocalShard[], waits: readonly Wait[]): void {
    const session = this.#session
    const waiting = new Map(waits.map((wait) => [wait.shardUid, wait]))
    const byUid = new Map(local.map((l) => [l.shardUid, l]))
    for (const shard of session === undefined ? [] : (this.#wanted.list() ?? [])) {
      const uid = shard.metadata.uid
      const status = shardStatus({
        shard,
        local: byUid.get(uid),
        notes: this.#notes,
        wait: waiting.get(uid),
        nowMs: this.#nowMs(),
      })
      if (status !== undefined && session !== undefined) this.#reporter.offer(shard, status, session.control.signal)
    }
  }

  /** Notes of shards that are neither wanted nor here. */
  #forgetNotes(local: readonly LocalShard[]): void {
    const here = new Set(local.map((l) => l.shardUid))
    const { failures, started, stopsAsked } = this.#notes
    for (const uid of [...failures.keys(), ...started, ...stopsAsked.keys()]) {
      if (here.has(uid) || this.#wanted.get(uid) !== undefined || this.#wanted.list() === undefined) continue
      failures.delete(uid)
      started.delete(uid)
      stopsAsked.delete(uid)
    }
    this.#reporter.keepOnly(new Set((this.#wanted.list() ?? []).map((shard) => shard.metadata.uid)))
  }

  /** Only changes are worth a line. */
  #tellWaits(waits: readonly Wait[]): void {
    const now = new Map(waits.map((wait) => [wait.shardUid, wait]))
    for (const { shardUid, shardName, reason, message } of waits) {
      if (this.#waits.get(shardUid) === reason) continue
      this.#waits.set(shardUid, reason)
      this.#doors.log.info('shard waits', { shard: shardName, reason, message })
    }
    for (const uid of this.#waits.keys()) if (!now.has(uid)) this.#waits.delete(uid)
  }

  /** The server's clock by its last word and the monotonic time since: a jump of our wall clock does not matter. */
  #serverNowMs(): number | undefined {
    const told = this.#serverTime
    return told === undefined ? undefined : told.serverMs + (this.#doors.clock.monotonicMs() - told.atMs)
  }

  #nowMs(): number {
    return this.#serverNowMs() ?? this.#doors.clock.nowMs()
  }
}

const reasonOf = (action: Action) =>
  action.kind === 'failShard'
    ? { reason: action.exit.reason, message: action.exit.message }
    : action.kind === 'stopShard'
      ? { reason: action.reason }
      : {}
