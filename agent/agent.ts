/**
 * The agent of one node: observe → plan → execute → report, again after every change and every few seconds. It outlives
 * the server's absence (shards serve on) and is itself outlived by its shards (the hosts live on). All that touches
 * time, disk, processes or the network comes in by a door, so that the simulator runs this very class.
 */
import type { ConditionUpdate } from '../src/api/conditions.ts'
import type { LinkMeasurement, LinkOrder } from '../src/api/links.ts'
import type { Peer } from '../src/api/peers.ts'
import type { Clock, Random } from '../src/lib/clock.ts'

import { AwakeTime } from '../src/lib/awake.ts'
import { every } from '../src/lib/clock.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Client } from '../src/rpc/messages.ts'
import type { StopLimits, Wait } from './actions.ts'
import { PLANNED_STOP } from './actions.ts'
import type { AgentEnd, ContactDoors } from './contact.ts'
import { ServerContact } from './contact.ts'
import { Execution } from './execution.ts'
import type { Fetcher } from './fetch/fetcher.ts'
import type { Hosts, LocalShard } from './hosts.ts'
import type { ModelShelf } from './models.ts'
import { NodeReporter } from './nodereporter.ts'
import type { EngineReport } from './nodestatus.ts'
import type { Observe, OwnEngines } from './observe/facts.ts'
import { isAlive, planNode } from './plan.ts'
import type { PressureTurn } from './pressureturn.ts'
import { aloneHere } from './pressureturn.ts'
import type { AgentRecord } from './record.ts'
import type { SessionDoors } from './session.ts'
import { ShardReporter } from './shardreporter.ts'
import { shardStatus } from './shardstatus.ts'
import { WaitLog } from './waitlog.ts'
import { WantedShards } from './wanted.ts'

export interface AgentDoors extends Pick<ContactDoors, 'trusts' | 'onTrust' | 'strangerAt'> {
  readonly client: Client
  readonly hosts: Hosts
  readonly models: ModelShelf
  /** Absent: only models that are here already can run. */
  readonly fetcher?: Fetcher
  readonly observe: Observe
  /** `known`: only what was missing in it is asked for again. */
  readonly probeEngines: (known?: EngineReport) => Promise<EngineReport>
  /** Hears whose certificates count. */
  readonly onMembers?: SessionDoors['onMembers']
  /** Absent: this agent measures no links. */
  readonly measureLink?: (order: LinkOrder) => Promise<LinkMeasurement>
  /** Hears in each pass whether a shard is wanted or alive here: whatever is no shard makes room for it. */
  readonly onShards?: (areHere: boolean) => void
  /** What else is to be said of the Node; absent: nothing. */
  readonly conditions?: () => readonly ConditionUpdate[]
  readonly record: AgentRecord
  /** Among the agents of one machine; absent: this is the only one. */
  readonly pressureTurn?: PressureTurn
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export interface AgentOptions {
  readonly nodeName: string
  readonly agentVersion: string
  /** Where this node's shards listen. Default 127.0.0.1. */
  readonly address?: string
  /** Where other nodes get files of models; absent: nowhere. */
  readonly modelsDoor?: { readonly address: string; readonly port: number }
  /** Where other nodes ask to measure links; absent: nowhere. */
  readonly linksDoor?: { readonly address: string; readonly port: number }
  readonly labels?: Readonly<Record<string, string>>
}

export interface StopHow {
  /** 'leave': engines serve on and are adopted by the next agent. 'stop': resolves when none is left. */
  readonly shards: 'leave' | 'stop'
  /** For 'stop'; default: that of a planned stop. A second call with less time shortens the first. */
  readonly limits?: StopLimits
}

const PASS_PERIOD_MS = 5_000
const SETTLE_MS = 30_000
const PROBE_PERIOD_MS = 60_000
/** What the host needs beyond the limits to see its engine's end. */
const STOP_SLACK_MS = 5_000

export class Agent {
  readonly #doors: AgentDoors
  readonly #options: AgentOptions
  readonly #over = new AbortController()
  readonly #wanted = new WantedShards()
  readonly #contact: ServerContact
  readonly #execution: Execution
  readonly #node: NodeReporter
  readonly #shards: ShardReporter
  readonly #waitLog: WaitLog
  #passQueued = false
  #stopping = false
  readonly #changeWaiters: (() => void)[] = []
  /** The shards that were here before us are known. */
  #recovered = false
  readonly #awake: AwakeTime
  /** We stood still: until so long after it nothing is done before the server has told and heard how things are. */
  #settlingUntilMs = -Infinity

  constructor(doors: AgentDoors, options: AgentOptions) {
    const { nodeName, agentVersion, address = '127.0.0.1', modelsDoor, linksDoor, labels = {} } = options
    this.#doors = doors
    this.#options = options
    this.#awake = new AwakeTime(doors.clock, PASS_PERIOD_MS)
    this.#contact = new ServerContact({
      ...doors,
      nodeName,
      wanted: this.#wanted,
      introduce: () => ({ bootId: this.#node.bootId(), agentVersion, labels }),
      onWelcome: () => this.#node.onWelcome(),
      onWanted: () => this.#wake(),
      heartbeat: () => this.#node.heartbeat(),
    })
    this.#execution = new Execution({
      ...doors,
      clusterUid: () => this.#contact.clusterUid(),
      onEnd: (again) => this.#onExecuted(again),
    })
    this.#node = new NodeReporter({
      ...doors,
      agentVersion,
      address,
      modelsDoor,
      linksDoor,
      ownEngines: () => this.#ownEngines(),
      session: () => this.#contact.session(),
      nowMs: () => this.#contact.nowMs(),
      onChange: () => this.#wake(),
    })
    this.#waitLog = new WaitLog(doors.log)
    this.#shards = new ShardReporter({ ...doors, wanted: this.#wanted, onChange: () => this.#wake() })
  }

  /** Runs until `stop`, or until the server refuses this agent. Rejects only when it could not begin. */
  async run(): Promise<AgentEnd> {
    const { hosts, models, fetcher, clock, log } = this.#doors
    const { signal } = this.#over
    await hosts.recover()
    await this.#contact.remember()
    this.#recovered = true
    this.#changed()
    await this.#node.begin()
    log.info('agent begins', { node: this.#options.nodeName, shards: hosts.list().length })

    const offs = [
      hosts.onChange(() => this.#onHosts()),
      models.onChange(() => this.#node.tell()),
      fetcher?.onChange(() => this.#onFetch()),
    ]
    const loops = [
      every(clock, PASS_PERIOD_MS, signal, async () => {
        await this.#node.look()
        this.#wake()
      }),
      every(clock, PROBE_PERIOD_MS, signal, () => this.#node.reprobe()),
    ]
    try {
      return await this.#contact.run(signal)
    } finally {
      for (const off of offs) off?.()
      this.#over.abort()
      hosts.close()
      await fetcher?.close()
      await Promise.all(loops)
    }
  }

  /** Ends `run`. With shards 'stop' it resolves when no engine of this cluster lives here, or the limits are over. */
  async stop(how: StopHow): Promise<void> {
    this.#stopping = true
    if (how.shards === 'stop') await this.#stopShards(how.limits ?? PLANNED_STOP)
    this.#over.abort()
  }

  async #stopShards(limits: StopLimits): Promise<void> {
    const { clock, hosts, log } = this.#doors
    const { notes } = this.#execution
    const deadline = new AbortController()
    const timer = clock.after(limits.drainMs + limits.graceMs + STOP_SLACK_MS, () => deadline.abort())
    const asked = new Set<string>()
    for (;;) {
      const left = hosts.list().filter((l) => l.clusterUid === this.#contact.clusterUid() && isAlive(l, notes.started))
      const done = this.#recovered && left.length === 0 && notes.busy.size === 0
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

  #ownEngines(): OwnEngines {
    const { started } = this.#execution.notes
    const alive = this.#doors.hosts.list().filter((l) => isAlive(l, started))
    const pids = alive.flatMap((l) => (l.state?.enginePid === undefined ? [] : [l.state.enginePid]))
    const loaded = alive.filter((l) => l.state?.phase === 'Ready')
    const loadedBytes = loaded.reduce((sum, l) => sum + (this.#wanted.get(l.shardUid)?.spec.memoryBytes ?? 0), 0)
    return { pids, loadedBytes }
  }

  /** Nodes that hold files of a model, or are to fetch them, as the server knows; none without a session. */
  peersOf(model: { readonly source: string; readonly commit: string }): Promise<readonly Peer[]> {
    return this.#contact.session()?.session.peersOf(model) ?? Promise.resolve([])
  }

  /** Who we are to the server has changed. */
  reconnect(): void {
    this.#contact.reconnect()
  }

  // ---- the pass

  #onHosts(): void {
    this.#changed()
    this.#wake()
  }

  #onFetch(): void {
    this.#node.onFetches()
    this.#wake()
  }

  #onExecuted(again: boolean): void {
    this.#changed()
    if (again) this.#wake()
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
    const { hosts, models, fetcher, clock } = this.#doors
    this.#lookForGap()
    const wanted = this.#wanted.list()
    const local = hosts.list()
    const { started } = this.#execution.notes
    const isWanted = wanted?.some(({ metadata }) => this.#needsModel(metadata.uid)) === true
    this.#doors.onShards?.(isWanted || local.some((l) => isAlive(l, started)))
    const observation = {
      ...this.#execution.notes,
      clusterUid: this.#contact.clusterUid(),
      local,
      models: models.list(),
      ...(fetcher === undefined ? {} : { fetches: fetcher.states() }),
      serverNowMs: this.#contact.serverNowMs(),
      criticalForMs: this.#node.criticalForMs(),
    }
    const plan = planNode(wanted, observation, clock.nowMs())
    this.#waitLog.tell(plan.waits)
    const isSettled = this.#isSettled()
    for (const action of isSettled ? plan.actions : []) {
      const forMemory = action.kind === 'failShard' && action.exit.reason === 'MemoryPressure'
      // Whoever else has the turn frees memory, too: that must show before it is our turn.
      if (forMemory) this.#node.onVictim()
      if (!forMemory || (this.#doors.pressureTurn ?? aloneHere).take()) this.#execution.begin(action)
    }
    if (wanted !== undefined) {
      this.#report(local, plan.waits)
      this.#forget(local)
    }
    if (plan.fenced && this.#wanted.isWhole() && this.#shards.isQuiet() && this.#node.isHeld())
      this.#contact.session()?.session.synced()
  }

  /**
   * This machine slept, or this process was stopped: what was known is old. The session is opened anew, for the list
   * and the server's time that come with it.
   */
  #lookForGap(): void {
    const lostMs = this.#awake.look()
    if (lostMs === 0) return
    this.#doors.log.warn('this process stood still: looks and reports before it acts', { lostMs })
    this.#settlingUntilMs = this.#doors.clock.monotonicMs() + SETTLE_MS
    this.#contact.startOver()
    void this.#node.look()
  }

  /** The list and the report are of now. Without a server local facts have to do, once they have had time to come in. */
  #isSettled(): boolean {
    if (this.#doors.clock.monotonicMs() >= this.#settlingUntilMs) return true
    if (this.#contact.session() === undefined || !this.#wanted.isWhole() || !this.#node.isHeld()) return false
    this.#settlingUntilMs = -Infinity
    return true
  }

  #report(local: readonly LocalShard[], waits: readonly Wait[]): void {
    const open = this.#contact.session()
    if (open === undefined) return
    const waiting = new Map(waits.map((wait) => [wait.shardUid, wait]))
    const byUid = new Map(local.map((l) => [l.shardUid, l]))
    for (const shard of this.#wanted.list() ?? []) {
      const { uid } = shard.metadata
      const status = shardStatus({
        shard,
        local: byUid.get(uid),
        notes: this.#execution.notes,
        wait: waiting.get(uid),
        nowMs: this.#contact.nowMs(),
      })
      if (status !== undefined) this.#shards.offer(shard, status, open.control.signal)
    }
  }

  /** What was kept of shards that are neither wanted nor here. */
  #forget(local: readonly LocalShard[]): void {
    const here = new Set(local.map((l) => l.shardUid))
    const isWanted = (uid: string) => this.#wanted.get(uid) !== undefined
    this.#execution.keepOnly((uid) => here.has(uid) || isWanted(uid))
    this.#doors.fetcher?.keepOnly(
      (uid) => this.#needsModel(uid),
      local.flatMap(({ prepared }) => prepared.modelDir ?? []),
    )
    this.#shards.keepOnly(isWanted)
  }

  /** Wanted, and not given up. */
  #needsModel(uid: string): boolean {
    const shard = this.#wanted.get(uid)
    return shard !== undefined && shard.metadata.deletionTimestamp === undefined && shard.status?.phase !== 'Failed'
  }
}
