/**
 * The real `Hosts`: shards as processes of this machine. Each is started at most once (its uid is one epoch's rank), by
 * a host that outlives us; what we know of it is on disk before anything runs, so that a killed agent finds it again.
 */
import { mkdirSync } from 'node:fs'
import type { Shard } from '../../src/api/shard.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import { splitHostPort } from '../../src/lib/hostport.ts'
import type { Logger } from '../../src/lib/log.ts'
import { isAlive, signalProcess } from '../../src/lib/process.ts'
import type { Firewall, Gate } from '../firewall.ts'
import { gateOf } from '../firewall.ts'
import type { Handle } from '../handles.ts'
import { portsOf, readHandles, removeHandle, shardDir, socketDir, writeHandle } from '../handles.ts'
import type { Hosts, LocalShard, LogOptions, PreparedShard } from '../hosts.ts'
import type { PortPool } from '../ports.ts'
import type { Runtimes } from '../runtimes/index.ts'
import { HostContacts } from './contacts.ts'
import { hostSpecOf } from './hostspec.ts'
import type { Entry } from './localshards.ts'
import { LocalShards, hasEnded } from './localshards.ts'
import { findLog, logPath, pruneLogs, readLogLines } from './logs.ts'
import type { LogLine } from './stamps.ts'
import { makeSocketFolder, removeSocket } from './socketfolder.ts'
import { spawnHost } from './spawnhost.ts'
import { readState, specPath, writeJson } from './statefile.ts'

/** A host is up in a tenth of a second; on a machine that swaps it may take long. */
const HOST_START_MS = 20_000
const RECOVER_WAIT_MS = 5000
/** How long after a stop's own deadlines a host that does not obey is killed with its engine. */
const STOP_SLACK_MS = 10_000
const RANK_PORTS = 3

export interface HostsOptions {
  /** The agent's own folder, 0700. */
  readonly dataDir: string
  /** IPv4 address of this node: doors and rendezvous listen on it and are reached under it. */
  readonly address: string
  readonly ports: PortPool
  /** Of the running machine: handles of another boot name processes that are gone. */
  readonly bootId: string
  readonly runtimes: Runtimes
  /** The node's key and certificate, for the leaders' doors; absent: the cluster has no identities. */
  readonly credentialsFile?: string | undefined
  readonly clock: Clock
  readonly log: Logger
  /** argv that runs the shardhost, before the path of its spec.json. */
  readonly hostEntry?: readonly string[]
  readonly startupDeadlineMs?: (shard: Shard) => number
  /** Keeps the ports of gangs to their members; absent: nobody does. */
  readonly firewall?: Pick<Firewall, 'set'>
}

/** Reads nothing yet: `recover()` does. */
export function openHosts(options: HostsOptions): Hosts {
  return new ProcessHosts(options)
}

class ProcessHosts implements Hosts {
  readonly #options: HostsOptions
  readonly #ports: PortPool
  readonly #socketDir: string
  readonly #shards = new LocalShards()
  readonly #contacts: HostContacts
  readonly #preparing = new Map<string, Promise<PreparedShard>>()
  readonly #starting = new Map<string, Promise<void>>()

  constructor(options: HostsOptions) {
    const { dataDir, ports, clock } = options
    this.#options = options
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    this.#socketDir = socketDir(dataDir, process.getuid?.() ?? 0)
    this.#ports = ports
    this.#contacts = new HostContacts(dataDir, clock, this.#shards)
    this.#shards.onChange(() => void this.#keepGates())
  }

  /** As what runs now needs them: a gang that ended leaves none. */
  #keepGates(): Promise<void> {
    const living = this.#shards.all().filter((entry) => entry.handle.started !== undefined && !hasEnded(entry))
    return this.#options.firewall?.set(living.flatMap(({ handle }) => handle.gate ?? [])) ?? Promise.resolve()
  }

  async recover(): Promise<void> {
    const { dataDir, bootId, clock } = this.#options
    void this.#contacts.keepAsking()
    const attaching: Promise<void>[] = []
    for (const handle of readHandles(dataDir)) {
      const otherBoot = handle.bootId !== bootId && !this.#isHostAlive(handle)
      if (otherBoot && handle.started === undefined) {
        removeHandle(dataDir, handle.shardUid)
        continue
      }
      const state = handle.started === undefined ? undefined : readState(shardDir(dataDir, handle.shardUid))
      const entry: Entry = { handle, ...(state === undefined ? {} : { state }) }
      this.#shards.add(entry)
      this.#ports.adopt(portsOf(handle))
      if (otherBoot && state?.phase !== 'Exited') entry.lost = true
      else if (handle.started !== undefined && state?.phase !== 'Exited') attaching.push(this.#contacts.attach(entry))
    }
    await Promise.race([Promise.all(attaching), sleep(clock, RECOVER_WAIT_MS, this.#contacts.closed)])
    await this.#keepGates()
  }

  /** Pid and start time are a process, whatever the boot is called: setting the clock can change a Mac's boot time. */
  #isHostAlive({ started, shardUid }: Handle): boolean {
    const state = started === undefined ? undefined : readState(shardDir(this.#options.dataDir, shardUid))
    return state !== undefined && state.phase !== 'Exited' && isAlive(state.hostPid, state.hostStartTime)
  }

  list(): readonly LocalShard[] {
    return this.#shards.list()
  }

  onChange(listener: (shardUid: string) => void): () => void {
    return this.#shards.onChange(listener)
  }

  prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard> {
    const { uid } = shard.metadata
    const known = this.#shards.get(uid)
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
    this.#shards.add({ handle })
    this.#shards.changed(uid)
    return prepared
  }

  start(shard: Shard): Promise<void> {
    const { uid, name } = shard.metadata
    const entry = this.#shards.get(uid)
    if (entry === undefined)
      return Promise.reject(new OpError('NotFound', `start shard ${name}: it was not prepared on this node`))
    return once(this.#starting, uid, async () => {
      if (entry.handle.started === undefined) await this.#start(shard, entry)
    })
  }

  async #start(shard: Shard, entry: Entry): Promise<void> {
    const { dataDir, clock, hostEntry, log } = this.#options
    const { shardUid, shardName, namespace } = entry.handle
    const spec = hostSpecOf(shard, entry.handle, { ...this.#options, socketDir: this.#socketDir })
    pruneLogs(dataDir, logPath(dataDir, namespace, shardName, shardUid), this.#logsInUse())
    makeSocketFolder(this.#socketDir)
    writeJson(specPath(spec.dir), spec)
    const { socketPath, logFile } = spec
    const started = { socketPath, logFile, atMs: clock.nowMs() }
    entry.handle = { ...entry.handle, started, ...gateFor(shard, entry.handle) }
    writeHandle(dataDir, entry.handle)
    await this.#keepGates()
    const host = spawnHost(spec.dir, hostEntry, log)
    const tooLate = clock.after(HOST_START_MS, () => host.kill())
    await this.#contacts.attach(entry, () => host.isRunning())
    tooLate.cancel()
  }

  stop(shardUid: string, graceMs: number, reason: string, drainMs = 0): void {
    const entry = this.#shards.get(shardUid)
    if (entry?.handle.started === undefined || hasEnded(entry)) return
    entry.stop = { type: 'Stop', graceMs, reason, drainMs }
    entry.connection?.send(entry.stop)
    this.#options.clock.after(drainMs + graceMs + STOP_SLACK_MS, () => this.#enforceStop(entry))
  }

  /** The host had its time. Its engine first: a host that is only slow would else be called lost. */
  #enforceStop(entry: Entry): void {
    const { state } = entry
    if (this.#contacts.closed.aborted || !this.#shards.holds(entry)) return
    if (state === undefined || hasEnded(entry)) return
    this.#options.log.warn('shardhost did not stop its engine and is killed', { shard: entry.handle.shardName })
    const { enginePid, engineStartTime } = state
    if (enginePid !== undefined && engineStartTime !== undefined)
      signalProcess(enginePid, engineStartTime, 'SIGKILL', { group: true })
    signalProcess(state.hostPid, state.hostStartTime, 'SIGKILL')
  }

  async forget(shardUid: string): Promise<void> {
    const { dataDir, bootId } = this.#options
    const entry = this.#shards.get(shardUid)
    if (entry === undefined) return
    const { handle, state } = entry
    if (handle.started !== undefined && !hasEnded(entry))
      throw new OpError('Conflict', `forget shard ${handle.shardName}: it has not ended`)
    if (
      state !== undefined &&
      handle.bootId === bootId &&
      !(await this.#contacts.gone(state.hostPid, state.hostStartTime))
    )
      signalProcess(state.hostPid, state.hostStartTime, 'SIGKILL')
    entry.connection?.close()
    this.#shards.remove(shardUid)
    if (handle.started !== undefined) removeSocket(handle.started.socketPath, this.#socketDir)
    removeHandle(dataDir, shardUid)
    this.#ports.release(portsOf(handle))
    this.#shards.changed(shardUid)
  }

  readLog(shardUid: string, shardName: string, options: LogOptions): AsyncIterable<LogLine> {
    const { dataDir, clock } = this.#options
    const handle = this.#shards.get(shardUid)?.handle
    const path =
      handle === undefined
        ? findLog(dataDir, shardName, shardUid)
        : logPath(dataDir, handle.namespace, handle.shardName, shardUid)
    if (path === undefined) throw new OpError('NotFound', `read the log of shard ${shardName}: this node has none`)
    const ended = () => {
      const entry = this.#shards.get(shardUid)
      return entry === undefined || hasEnded(entry)
    }
    return readLogLines({ ...options, path, clock, ended })
  }

  close(): void {
    this.#contacts.close()
    // An agent that is stopped for good forgets nobody any more, and nobody else cleans up under /tmp.
    for (const entry of this.#shards.all()) {
      const { started } = entry.handle
      if (started !== undefined && hasEnded(entry)) removeSocket(started.socketPath, this.#socketDir)
    }
  }

  #logsInUse(): ReadonlySet<string> {
    const living = this.#shards.all().filter((entry) => !hasEnded(entry))
    return new Set(living.flatMap(({ handle }) => (handle.started === undefined ? [] : [handle.started.logFile])))
  }
}

/** Over Rpc a tunnel asks who comes (tunnel.ts); every other engine takes whoever is there. */
function gateFor({ spec }: Shard, { prepared }: Handle): { readonly gate?: Gate } {
  const { port } = splitHostPort(prepared.ringAddress)
  const { hosts = [], members = [] } = spec.rendezvous ?? {}
  const known = members.flatMap(({ addresses = [] }) => addresses)
  const gate = spec.transport === 'Rpc' ? undefined : gateOf(port, hosts, known)
  return gate === undefined ? {} : { gate }
}

/** Runs at most one `work` per key at a time; who asks meanwhile gets the same promise. */
function once<T>(running: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> {
  const known = running.get(key)
  if (known !== undefined) return known
  const promise = work().finally(() => running.delete(key))
  running.set(key, promise)
  return promise
}
