/**
 * The real `Hosts`: shards as processes of this machine. Each is started at most once (its uid is one epoch's rank), by
 * a host that outlives us; what we know of it is on disk before anything runs, so that a killed agent finds it again.
 */
import { spawn } from 'node:child_process'
import { closeSync, lstatSync, mkdirSync, openSync, rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Shard } from '../../src/api/shard.ts'
import { isLeader } from '../../src/api/shard.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { OpError, assert, messageOf } from '../../src/lib/errors.ts'
import type { Logger } from '../../src/lib/log.ts'
import { nodeArgv } from '../../src/lib/nodeargv.ts'
import { isAlive, signalProcess } from '../../src/lib/process.ts'
import type { Handle } from '../handles.ts'
import { portsOf, readHandles, removeHandle, shardDir, socketDir, socketName, writeHandle } from '../handles.ts'
import type { Hosts, LocalShard, PreparedShard } from '../hosts.ts'
import type { PortRange } from '../ports.ts'
import { PortPool } from '../ports.ts'
import type { Runtimes } from '../runtimes/index.ts'
import type { HostConnection } from './connection.ts'
import { connectHost } from './connection.ts'
import { findLog, logPath, pruneLogs, readLogLines } from './logs.ts'
import type { HostSpec, HostState, ToHost } from './protocol.ts'
import { readClaim, readState, specPath, takeClaim, voidClaim, writeJson } from './statefile.ts'

const ATTACH_POLL_MS = 25
/** A host is up in a tenth of a second; on a machine that swaps it may take long. */
const HOST_START_MS = 20_000
const RECOVER_WAIT_MS = 5000
const GONE_WAIT_MS = 5000
/** How long after a stop's own deadlines a host that does not obey is killed with its engine. */
const STOP_SLACK_MS = 10_000
const RANK_PORTS = 3

export interface HostsOptions {
  /** The agent's own folder, 0700. */
  readonly dataDir: string
  /** IPv4 address of this node: doors and rendezvous listen on it and are reached under it. */
  readonly address: string
  readonly portRange: PortRange
  /** Of the running machine: handles of another boot name processes that are gone. */
  readonly bootId: string
  readonly runtimes: Runtimes
  readonly clock: Clock
  readonly log: Logger
  /** argv that runs the shardhost, before the path of its spec.json. */
  readonly hostEntry?: readonly string[]
  readonly startupDeadlineMs?: (shard: Shard) => number
}

/** DESIGN §10a: bytes / 200 MB/s + 120 s. */
export const startupDeadlineMs = (shard: Shard): number => Math.ceil(shard.spec.parts.weights / 200_000 + 120_000)

/** Reads nothing yet: `recover()` does. */
export function openHosts(options: HostsOptions): Hosts {
  return new ProcessHosts(options)
}

interface Entry {
  handle: Handle
  state?: HostState
  lost?: boolean
  connection?: HostConnection
  /** The stop that was asked for, until a connection can carry it. */
  stop?: ToHost & { type: 'Stop' }
}

class ProcessHosts implements Hosts {
  readonly #options: HostsOptions
  readonly #ports: PortPool
  readonly #socketDir: string
  readonly #entries = new Map<string, Entry>()
  readonly #preparing = new Map<string, Promise<PreparedShard>>()
  readonly #starting = new Map<string, Promise<void>>()
  readonly #listeners = new Set<(shardUid: string) => void>()
  readonly #closed = new AbortController()

  constructor(options: HostsOptions) {
    this.#options = options
    mkdirSync(options.dataDir, { recursive: true, mode: 0o700 })
    this.#socketDir = socketDir(options.dataDir, process.getuid?.() ?? 0)
    this.#ports = new PortPool({ range: options.portRange, dataDir: options.dataDir, clock: options.clock })
  }

  async recover(): Promise<void> {
    const { dataDir, bootId, clock } = this.#options
    const attaching: Promise<void>[] = []
    for (const handle of readHandles(dataDir)) {
      const otherBoot = handle.bootId !== bootId
      if (otherBoot && handle.started === undefined) {
        removeHandle(dataDir, handle.shardUid)
        continue
      }
      const state = handle.started === undefined ? undefined : readState(shardDir(dataDir, handle.shardUid))
      const entry: Entry = { handle, ...(state === undefined ? {} : { state }) }
      this.#entries.set(handle.shardUid, entry)
      this.#ports.adopt(portsOf(handle))
      if (otherBoot && state?.phase !== 'Exited') entry.lost = true
      else if (handle.started !== undefined && state?.phase !== 'Exited') attaching.push(this.#attach(entry))
    }
    await Promise.race([Promise.all(attaching), sleep(clock, RECOVER_WAIT_MS, this.#closed.signal)])
  }

  list(): readonly LocalShard[] {
    return [...this.#entries.values()].map(({ handle, state, lost }) => ({
      shardUid: handle.shardUid,
      shardName: handle.shardName,
      clusterUid: handle.clusterUid,
      prepared: handle.prepared,
      ...(handle.started === undefined ? {} : { started: true }),
      ...(state === undefined ? {} : { state }),
      ...(lost === undefined ? {} : { lost }),
    }))
  }

  prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard> {
    const { uid } = shard.metadata
    const known = this.#entries.get(uid)
    if (known !== undefined) return Promise.resolve(known.handle.prepared)
    return once(this.#preparing, uid, () => this.#prepare(shard, clusterUid, modelDir))
  }

  async #prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard> {
    const { dataDir, address, bootId } = this.#options
    const [port = 0, enginePort = 0, ringPort = 0] = await this.#ports.take(RANK_PORTS, address)
    const prepared: PreparedShard = {
      address,
      port,
      enginePort,
      ringAddress: `${address}:${ringPort}`,
      ...(modelDir === undefined ? {} : { modelDir }),
    }
    const { uid, name, namespace = '' } = shard.metadata
    const handle: Handle = { version: 1, shardUid: uid, shardName: name, namespace, clusterUid, bootId, prepared }
    writeHandle(dataDir, handle)
    this.#entries.set(uid, { handle })
    this.#changed(uid)
    return prepared
  }

  start(shard: Shard): Promise<void> {
    const { uid, name } = shard.metadata
    const entry = this.#entries.get(uid)
    if (entry === undefined)
      return Promise.reject(new OpError('NotFound', `start shard ${name}: it was not prepared on this node`))
    return once(this.#starting, uid, async () => {
      if (entry.handle.started === undefined) await this.#start(shard, entry)
    })
  }

  async #start(shard: Shard, entry: Entry): Promise<void> {
    const { dataDir, clock } = this.#options
    const { prepared, shardUid, shardName, namespace } = entry.handle
    const spec = this.#specOf(shard, entry.handle)
    pruneLogs(dataDir, logPath(dataDir, namespace, shardName, shardUid), this.#logsInUse())
    makeOwnDir(this.#socketDir)
    writeJson(specPath(spec.dir), spec)
    const { socketPath, logFile } = spec
    entry.handle = { ...entry.handle, prepared, started: { socketPath, logFile, atMs: clock.nowMs() } }
    writeHandle(dataDir, entry.handle)
    const host = this.#spawnHost(spec.dir)
    const tooLate = clock.after(HOST_START_MS, () => host.kill('SIGKILL'))
    const isRunning = () => host.pid !== undefined && host.exitCode === null && host.signalCode === null
    await this.#attach(entry, isRunning)
    tooLate.cancel()
  }

  /** Everything that can refuse the start is here: nothing has been changed when it throws. */
  #specOf(shard: Shard, handle: Handle): HostSpec {
    const { dataDir } = this.#options
    const { metadata, spec } = shard
    const runtime = this.#options.runtimes[spec.engine.name]
    if (runtime === undefined)
      throw new OpError('Invalid', `start shard ${metadata.name}: this agent has no engine ${spec.engine.name}`)
    const dir = shardDir(dataDir, metadata.uid)
    const { prepared } = handle
    const launch = runtime.launch({
      shard,
      modelDir: prepared.modelDir,
      dir,
      enginePort: prepared.enginePort,
      hosts: hostsOf(shard, prepared),
    })
    const { address, port, enginePort } = prepared
    return {
      shardUid: metadata.uid,
      shardName: metadata.name,
      clusterUid: handle.clusterUid,
      rank: spec.rank,
      worldSize: spec.worldSize,
      dir,
      socketPath: join(this.#socketDir, socketName(metadata.uid)),
      logFile: logPath(dataDir, handle.namespace, metadata.name, metadata.uid),
      engine: launch.engine,
      files: launch.files,
      eventsFd: 3,
      door: isLeader(shard) ? { address, port, enginePort, servedName: spec.serving.servedName } : null,
      startupDeadlineMs: (this.#options.startupDeadlineMs ?? startupDeadlineMs)(shard),
    }
  }

  #spawnHost(dir: string) {
    const [command = process.execPath, ...args] = this.#options.hostEntry ?? nodeArgv(import.meta.url, 'main')
    const output = openSync(join(dir, 'host.log'), 'a', 0o600)
    const host = spawn(command, [...args, specPath(dir)], {
      cwd: dir,
      env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' },
      stdio: ['ignore', output, output],
      detached: true,
    })
    closeSync(output)
    host.on('error', (error) => this.#options.log.error('shardhost not started', { error: messageOf(error) }))
    host.unref()
    return host
  }

  /**
   * Connects to the shard's host, or finds out that it has ended or is lost. `booting`: it may still come up, though it
   * has left no trace yet.
   */
  async #attach(entry: Entry, booting: () => boolean = () => false): Promise<void> {
    const { shardUid, started } = entry.handle
    const { clock } = this.#options
    const { signal } = this.#closed
    while (started !== undefined && !signal.aborted && this.#entries.get(shardUid) === entry) {
      const connection = await connectHost(started.socketPath, shardUid, clock, {
        onState: (state) => this.#onState(entry, state),
        onClosed: () => void this.#onClosed(entry),
      })
      if (connection !== undefined) return this.#onConnected(entry, connection)
      const mayStillCome = booting()
      if (await this.#settle(entry, mayStillCome)) return
      await sleep(clock, ATTACH_POLL_MS, signal)
    }
  }

  #onConnected(entry: Entry, connection: HostConnection): void {
    if (this.#closed.signal.aborted) return connection.close()
    entry.connection = connection
    if (entry.stop !== undefined) connection.send(entry.stop)
  }

  async #onClosed(entry: Entry): Promise<void> {
    delete entry.connection
    if (entry.state?.phase !== 'Exited') await this.#attach(entry)
  }

  #onState(entry: Entry, state: HostState): void {
    entry.state = state
    this.#changed(entry.handle.shardUid)
  }

  /** True when the shard has an end: it exited, or its host is gone and its engine was killed. Nobody answers. */
  async #settle(entry: Entry, booting: boolean): Promise<boolean> {
    const dir = shardDir(this.#options.dataDir, entry.handle.shardUid)
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
    this.#changed(entry.handle.shardUid)
    return true
  }

  async #killEngine({ enginePid, engineStartTime }: HostState): Promise<void> {
    if (enginePid === undefined || engineStartTime === undefined) return
    signalProcess(enginePid, engineStartTime, 'SIGKILL', { group: true })
    await this.#gone(enginePid, engineStartTime)
  }

  /** Waits until a process that was killed is gone; at most GONE_WAIT_MS. False: it is still there. */
  async #gone(pid: number, startTime: string): Promise<boolean> {
    const { clock } = this.#options
    const untilMs = clock.monotonicMs() + GONE_WAIT_MS
    while (isAlive(pid, startTime)) {
      if (clock.monotonicMs() > untilMs) return false
      await sleep(clock, ATTACH_POLL_MS)
    }
    return true
  }

  stop(shardUid: string, graceMs: number, reason: string, drainMs = 0): void {
    const entry = this.#entries.get(shardUid)
    if (entry?.handle.started === undefined || hasEnded(entry)) return
    entry.stop = { type: 'Stop', graceMs, reason, drainMs }
    entry.connection?.send(entry.stop)
    this.#options.clock.after(drainMs + graceMs + STOP_SLACK_MS, () => this.#enforceStop(entry))
  }

  /** The host had its time. Its engine first: a host that is only slow would else be called lost. */
  #enforceStop(entry: Entry): void {
    const { state } = entry
    if (this.#closed.signal.aborted || this.#entries.get(entry.handle.shardUid) !== entry) return
    if (state === undefined || hasEnded(entry)) return
    this.#options.log.warn('shardhost did not stop its engine and is killed', { shard: entry.handle.shardName })
    const { enginePid, engineStartTime } = state
    if (enginePid !== undefined && engineStartTime !== undefined)
      signalProcess(enginePid, engineStartTime, 'SIGKILL', { group: true })
    signalProcess(state.hostPid, state.hostStartTime, 'SIGKILL')
  }

  async forget(shardUid: string): Promise<void> {
    const entry = this.#entries.get(shardUid)
    if (entry === undefined) return
    const { handle, state } = entry
    if (handle.started !== undefined && !hasEnded(entry))
      throw new OpError('Conflict', `forget shard ${handle.shardName}: it has not ended`)
    if (
      state !== undefined &&
      handle.bootId === this.#options.bootId &&
      !(await this.#gone(state.hostPid, state.hostStartTime))
    )
      signalProcess(state.hostPid, state.hostStartTime, 'SIGKILL')
    entry.connection?.close()
    this.#entries.delete(shardUid)
    if (handle.started !== undefined) {
      rmSync(handle.started.socketPath, { force: true })
      removeIfEmpty(this.#socketDir)
    }
    removeHandle(this.#options.dataDir, shardUid)
    this.#ports.release(portsOf(handle))
    this.#changed(shardUid)
  }

  onChange(listener: (shardUid: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  readLog(
    shardUid: string,
    shardName: string,
    options: { tail?: number; follow: boolean; signal: AbortSignal },
  ): AsyncIterable<string> {
    const { dataDir, clock } = this.#options
    const handle = this.#entries.get(shardUid)?.handle
    const path =
      handle === undefined
        ? findLog(dataDir, shardName, shardUid)
        : logPath(dataDir, handle.namespace, handle.shardName, shardUid)
    if (path === undefined) throw new OpError('NotFound', `read the log of shard ${shardName}: this node has none`)
    const ended = () => {
      const entry = this.#entries.get(shardUid)
      return entry === undefined || hasEnded(entry)
    }
    return readLogLines({ ...options, path, clock, ended })
  }

  close(): void {
    this.#closed.abort()
    for (const entry of this.#entries.values()) {
      entry.connection?.close()
      delete entry.connection
    }
  }

  #changed(shardUid: string): void {
    for (const listener of this.#listeners) listener(shardUid)
  }

  #logsInUse(): ReadonlySet<string> {
    const living = [...this.#entries.values()].filter((entry) => !hasEnded(entry))
    return new Set(living.flatMap(({ handle }) => (handle.started === undefined ? [] : [handle.started.logFile])))
  }
}

const hasEnded = (entry: Entry): boolean => entry.lost === true || entry.state?.phase === 'Exited'

/** The rendezvous as this rank sees it. A group of one needs none. Refuses one that names another port than ours. */
export function hostsOf(shard: Shard, prepared: PreparedShard): readonly (readonly string[])[] {
  const { rendezvous, worldSize, rank } = shard.spec
  if (rendezvous === null) {
    if (worldSize === 1) return [[prepared.ringAddress]]
    throw new OpError('Invalid', `start shard ${shard.metadata.name}: a rank of ${worldSize} has no rendezvous yet`)
  }
  const own = rendezvous.hosts[rank]?.[0]
  assert(rendezvous.hosts.length === worldSize, `rendezvous of ${rendezvous.hosts.length} for a world of ${worldSize}`)
  if (worldSize > 1 && portOf(own) !== portOf(prepared.ringAddress))
    throw new OpError(
      'Conflict',
      `start shard ${shard.metadata.name}: the rendezvous names ${own ?? 'nothing'}, this node prepared ${prepared.ringAddress}`,
    )
  return rendezvous.hosts
}

const portOf = (address: string | undefined): string => (address ?? '').slice((address ?? '').lastIndexOf(':') + 1)

/** Runs at most one `work` per key at a time; who asks meanwhile gets the same promise. */
function once<T>(running: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> {
  const known = running.get(key)
  if (known !== undefined) return known
  const promise = work().finally(() => running.delete(key))
  running.set(key, promise)
  return promise
}

/** A socket folder under /tmp is taken only when it is ours alone. */
function makeOwnDir(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const found = lstatSync(dir)
  if (!found.isDirectory() || found.uid !== (process.getuid?.() ?? found.uid) || (found.mode & 0o077) !== 0)
    throw new OpError(
      'Unavailable',
      `use ${dir} for sockets: it must be a folder of this user with mode 0700; remove it`,
    )
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir)
  } catch {
    // Other shards use it, or it is gone already.
  }
}
