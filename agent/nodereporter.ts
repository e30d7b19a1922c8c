/**
 * What this agent says of its own Node: looks at the machine, asks the engines what they offer, and brings to the
 * server what differs from what this session acknowledged.
 */
import type { ConditionUpdate } from '../src/api/conditions.ts'
import type { Condition } from '../src/api/meta.ts'
import type { Clock } from '../src/lib/clock.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Client } from '../src/rpc/messages.ts'
import type { OpenSession } from './contact.ts'
import type { Fetcher } from './fetch/fetcher.ts'
import type { ModelShelf } from './models.ts'
import type { EngineReport, NodeReport, NodeStatusInput } from './nodestatus.ts'
import { nodePatch, nodeReport, withoutNews } from './nodestatus.ts'
import type { MachineFacts, Observe, OwnEngines } from './observe/facts.ts'
import type { PressureHistory } from './pressure.ts'
import { afterReading, criticalForMs, isPressed, startOver } from './pressure.ts'
import type { Heartbeat } from './session.ts'

const WRITE_TIMEOUT_MS = 10_000
/** A reading that is younger is not taken again. */
const READING_MS = 4_000

export interface NodeReporterDoors {
  readonly client: Client
  readonly models: ModelShelf
  readonly fetcher?: Fetcher | undefined
  readonly observe: Observe
  readonly clock: Clock
  readonly probeEngines: (known?: EngineReport) => Promise<EngineReport>
  readonly log: Logger
  readonly agentVersion: string
  /** Where this node's shards listen. */
  readonly address: string
  readonly modelsDoor?: NodeStatusInput['modelsDoor']
  readonly linksDoor?: NodeStatusInput['linksDoor']
  /** Absent: nothing but what facts and engines say. */
  readonly conditions?: (() => readonly ConditionUpdate[]) | undefined
  readonly ownEngines: () => OwnEngines
  readonly session: () => OpenSession | undefined
  readonly nowMs: () => number
  /** Facts, models, engines or what the server acknowledged may have changed. */
  readonly onChange: () => void
}

export class NodeReporter {
  readonly #doors: NodeReporterDoors
  #facts: MachineFacts | undefined
  #engines: EngineReport = { engines: [], missing: [] }
  /** What this session's server acknowledged, and whether it is one that knows what the version before did not. */
  #node: { held: NodeReport | undefined; writing: boolean; knowsNews: boolean } | undefined
  #conditions: readonly Condition[] = []
  #pressure: PressureHistory | undefined
  #blocked: string | undefined

  constructor(doors: NodeReporterDoors) {
    this.#doors = doors
  }

  /** The first look at engines and machine. Rejects when the machine cannot be observed. */
  async begin(): Promise<void> {
    this.#engines = await this.#doors.probeEngines()
    for (const { engine, remedy, optional } of this.#engines.missing)
      if (optional) this.#doors.log.info('engine not installed', { engine, remedy })
      else this.#doors.log.warn('engine missing', { engine, remedy })
    await this.#observe()
  }

  bootId(): string {
    return this.#facts?.bootId ?? ''
  }

  /** A session begins: nothing is acknowledged. */
  onWelcome(): void {
    this.#node = { held: undefined, writing: false, knowsNews: true }
  }

  /** This session's server holds a whole report of the Node. */
  isHeld(): boolean {
    return this.#node?.held !== undefined
  }

  /** A fresh reading of the machine, which also goes into the Node where it changes something there. */
  async heartbeat(): Promise<Omit<Heartbeat, 'type'>> {
    await this.#observe()
    this.tell()
    const { headroomBytes, pressure, wiredBytes, usedBytes, gpuBusy, simulated } = this.#facts ?? {}
    if (simulated === true) return { simulated }
    return {
      ...(headroomBytes === undefined ? {} : { freeBytes: headroomBytes }),
      ...(pressure === undefined ? {} : { pressure }),
      ...(wiredBytes === undefined ? {} : { wiredBytes }),
      ...(usedBytes === undefined ? {} : { usedBytes }),
      ...(gpuBusy === undefined ? {} : { gpuBusy }),
    }
  }

  /** Looks at the machine though nobody asks: an agent that is cut off must see its memory go, too. */
  async look(): Promise<void> {
    const readAtMs = this.#pressure?.readAtMs ?? -Infinity
    if (this.#doors.clock.monotonicMs() - readAtMs < READING_MS) return
    await this.#observe()
    this.tell()
  }

  /** How long memory has been critical. */
  criticalForMs(): number {
    return this.#pressure === undefined ? 0 : criticalForMs(this.#pressure)
  }

  /** A group is being stopped for want of memory. */
  onVictim(): void {
    if (this.#pressure !== undefined) this.#pressure = startOver(this.#pressure, this.#doors.clock.monotonicMs())
  }

  /** A missing engine may be installed while we run. */
  async reprobe(): Promise<void> {
    if (this.#engines.missing.length === 0) return
    try {
      this.#engines = await this.#doors.probeEngines(this.#engines)
      this.tell()
    } catch (error) {
      this.#doors.log.warn('engines not probed', { error: messageOf(error) })
    }
  }

  /** Facts, models or engines may have changed: the server is told when they did, and shards may be able to go on. */
  tell(): void {
    this.#doors.session()?.session.tellShapes(this.#doors.models.list() ?? [])
    void this.#write()
    this.#doors.onChange()
  }

  /** A fetch that finds no room, or has found some, is a condition of the Node. */
  onFetches(): void {
    const blocked = this.#blockedFetch()
    if (blocked === this.#blocked) return
    this.#blocked = blocked
    void this.#write()
  }

  #blockedFetch(): string | undefined {
    for (const state of this.#doors.fetcher?.states().values() ?? [])
      if (state.kind === 'DiskFull') return state.message
    return undefined
  }

  async #observe(): Promise<void> {
    const { observe, ownEngines, clock, log } = this.#doors
    try {
      this.#facts = await observe(ownEngines())
      this.#pressure = afterReading(this.#pressure, this.#facts.pressure, clock.monotonicMs())
    } catch (error) {
      if (this.#facts === undefined) throw error
      log.warn('machine not observed', { error: messageOf(error) })
    }
  }

  /** Writes what differs from what this session acknowledged; a failure is tried again at the next heartbeat. */
  async #write(): Promise<void> {
    const [node, open, facts] = [this.#node, this.#doors.session(), this.#facts]
    const nodeUid = open?.session.welcome()?.nodeUid
    if (node === undefined || node.writing || open === undefined || facts === undefined || nodeUid === undefined) return
    const whole = this.#reportOf(facts)
    const report = node.knowsNews ? whole : withoutNews(whole)
    const patch = nodePatch(node.held, report)
    if (patch === undefined) return
    node.writing = true
    this.#conditions = report.conditions ?? []
    try {
      const options = { signal: open.control.signal, timeoutMs: WRITE_TIMEOUT_MS }
      await this.#doors.client.updateStatus({ uid: nodeUid, patch }, options)
      node.held = report
    } catch (error) {
      if (open.control.signal.aborted) return
      this.#doors.log.warn('node status not written', { error: messageOf(error) })
      // A server of the version before refuses what it does not know; without it the rest is told at the next heartbeat.
      if (isOpError(error, 'Forbidden') || isOpError(error, 'Invalid')) node.knowsNews = false
      // The Node was deleted: a new session makes it anew.
      if (isOpError(error, 'NotFound')) open.control.abort()
    } finally {
      node.writing = false
    }
    if (node.held === report) this.tell()
  }

  #reportOf(facts: MachineFacts): NodeReport {
    const { models, agentVersion, address, modelsDoor, linksDoor, clock, nowMs } = this.#doors
    return nodeReport({
      memoryPressed: isPressed(this.#pressure, clock.monotonicMs()),
      facts,
      engines: this.#engines,
      models: models.list(),
      blockedFetch: this.#blocked,
      agentVersion,
      address,
      modelsDoor,
      linksDoor,
      conditions: this.#conditions,
      more: this.#doors.conditions?.() ?? [],
      nowMs: nowMs(),
    })
  }
}
