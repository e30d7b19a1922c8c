/**
 * The agent's contact with the hosts of its shards: finds them again, hears their states, and finds out which shards
 * have ended or are lost. A shard that nobody answers for has an end: its engine is killed, and a late host kept out.
 */
import type { Clock } from '../../src/lib/clock.ts'
import { every, sleep } from '../../src/lib/clock.ts'
import { AwakeTime } from '../../src/lib/awake.ts'
import { isAlive, signalProcess } from '../../src/lib/process.ts'
import { shardDir } from '../handles.ts'
import type { HostConnection } from './connection.ts'
import { connectHost } from './connection.ts'
import type { Entry, LocalShards } from './localshards.ts'
import { hasEnded } from './localshards.ts'
import type { HostState } from './protocol.ts'
import { readClaim, readState, takeClaim, voidClaim } from './statefile.ts'

const ATTACH_POLL_MS = 25
const GONE_WAIT_MS = 5000
const PING_MS = 5000
/** Below it silence is noise. */
const TOLD_SILENCE_SECONDS = 10

export class HostContacts {
  readonly #dataDir: string
  readonly #clock: Clock
  readonly #shards: LocalShards
  readonly #closed = new AbortController()
  readonly #awake: AwakeTime

  constructor(dataDir: string, clock: Clock, shards: LocalShards) {
    this.#dataDir = dataDir
    this.#clock = clock
    this.#shards = shards
    this.#awake = new AwakeTime(clock, PING_MS)
  }

  /** Aborts when `close` is called. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Asks every host for its state until `close`: one that is stopped or wedged still accepts, and says nothing. */
  async keepAsking(): Promise<void> {
    await every(this.#clock, PING_MS, this.closed, () => {
      this.#awake.look()
      for (const entry of this.#shards.all()) this.#askOne(entry)
    })
  }

  #askOne(entry: Entry): void {
    if (entry.handle.started === undefined || hasEnded(entry)) return
    entry.heardMs ??= this.#awake.nowMs()
    const silent = Math.floor((this.#awake.nowMs() - entry.heardMs) / 1000)
    if (silent >= TOLD_SILENCE_SECONDS) entry.silentSeconds = silent
    else delete entry.silentSeconds
    if (silent >= TOLD_SILENCE_SECONDS) this.#shards.changed(entry.handle.shardUid)
    entry.connection?.send({ type: 'Ping' })
  }

  /**
   * Connects to the shard's host, or finds out that it has ended or is lost. `booting`: it may still come up, though it
   * has left no trace yet.
   */
  async attach(entry: Entry, booting: () => boolean = () => false): Promise<void> {
    const { shardUid, started } = entry.handle
    const { signal } = this.#closed
    while (started !== undefined && !signal.aborted && this.#shards.holds(entry)) {
      const connection = await connectHost(started.socketPath, shardUid, this.#clock, {
        onState: (state) => this.#onState(entry, state),
        onClosed: () => void this.#onClosed(entry),
      })
      if (connection !== undefined) return this.#onConnected(entry, connection)
      const mayStillCome = booting()
      if (await this.#settle(entry, mayStillCome)) return
      await sleep(this.#clock, ATTACH_POLL_MS, signal)
    }
  }

  /** Waits until a process that was killed is gone; at most GONE_WAIT_MS. False: it is still there. */
  async gone(pid: number, startTime: string): Promise<boolean> {
    const untilMs = this.#clock.monotonicMs() + GONE_WAIT_MS
    while (isAlive(pid, startTime)) {
      if (this.#clock.monotonicMs() > untilMs) return false
      await sleep(this.#clock, ATTACH_POLL_MS)
    }
    return true
  }

  /** Lets go of every host; they live on. */
  close(): void {
    this.#closed.abort()
    for (const entry of this.#shards.all()) {
      entry.connection?.close()
      delete entry.connection
    }
  }

  #onConnected(entry: Entry, connection: HostConnection): void {
    if (this.#closed.signal.aborted) return connection.close()
    entry.connection = connection
    if (entry.stop !== undefined) connection.send(entry.stop)
  }

  async #onClosed(entry: Entry): Promise<void> {
    delete entry.connection
    if (entry.state?.phase !== 'Exited') await this.attach(entry)
  }

  #onState(entry: Entry, state: HostState): void {
    entry.state = state
    entry.heardMs = this.#awake.nowMs()
    delete entry.silentSeconds
    this.#shards.changed(entry.handle.shardUid)
  }

  /** True when the shard has an end: it exited, or its host is gone and its engine was killed. Nobody answers. */
  async #settle(entry: Entry, booting: boolean): Promise<boolean> {
    const dir = shardDir(this.#dataDir, entry.handle.shardUid)
    const state = readState(dir)
    if (state?.phase === 'Exited') {
      this.#onState(entry, state)
      return true
    }
    const host = state === undefined ? readClaim(dir) : { pid: state.hostPid, startTime: state.hostStartTime }
    if (host === undefined ? booting : isAlive(host.pid, host.startTime)) return false
    // Nobody has come: taking the claim keeps a late host from starting after all.
    if (host === undefined && !takeClaim(dir, voidClaim)) return false
    if (state !== undefined) await this.#killEngine(state)
    // What it wrote on its way out counts for more than how it left.
    const last = readState(dir)
    if (last?.phase !== 'Exited') entry.lost = true
    if (last !== undefined) entry.state = last
    this.#shards.changed(entry.handle.shardUid)
    return true
  }

  async #killEngine({ enginePid, engineStartTime }: HostState): Promise<void> {
    if (enginePid === undefined || engineStartTime === undefined) return
    signalProcess(enginePid, engineStartTime, 'SIGKILL', { group: true })
    await this.gone(enginePid, engineStartTime)
  }
}
