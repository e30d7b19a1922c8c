/**
 * Composition root of the agent: the only place in agent/ that takes the real clock, disk, processes and network. `bin`
 * calls it with what argv and the environment said.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { shapeOfModel } from '../src/api/modelfiles/shape.ts'
import { every, systemClock, systemRandom } from '../src/lib/clock.ts'
import { OpError, isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import { connect } from '../src/rpc/grpcclient.ts'
import type { Client } from '../src/rpc/messages.ts'
import { swappable } from '../src/rpc/swap.ts'
import type { DirectoryLock } from '../src/store/lock.ts'
import { lockDirectory } from '../src/store/lock.ts'
import { STOP_AFTER_FAILURE } from './actions.ts'
import type { StopHow } from './agent.ts'
import { Agent } from './agent.ts'
import type { Credentials, ToldTrust } from './credentials.ts'
import {
  FreshCredentials,
  addressTowards,
  credentialsFile,
  isOutdatedBy,
  joinCluster,
  readCredentials,
  trustsOf,
} from './credentials.ts'
import type { HubOptions } from './fetch/hub.ts'
import type { FetchDoors } from './fetch/doors.ts'
import { openDoor } from './fetch/door.ts'
import { Members } from './members.ts'
import { checkEndpoint, hubRequests, peerDoors } from './fetch/hub.ts'
import { FILES_AT_ONCE, ModelFetcher } from './fetch/fetcher.ts'
import { threadedTransfers } from './fetch/transfer/threads.ts'
import { openLinks } from './links/open.ts'
import { DiskShelf } from './models.ts'
import { keepAwake } from './awake.ts'
import type { EngineReport } from './nodestatus.ts'
import { machineDoors } from './observe/doors.ts'
import { Firewall } from './firewall.ts'
import type { Observe } from './observe/facts.ts'
import { createObserver } from './observe/index.ts'
import { loopbackPorts, networksOf, portObserver, systemInterfaces } from './observe/ports.ts'
import type { Simulation } from './observe/simulate.ts'
import { parseSimulation, reportAs } from './observe/simulate.ts'
import { PortPool, checkPortRange, defaultPortRange, ephemeralRange, parsePortRange } from './ports.ts'
import { sharedTurn } from './pressureturn.ts'
import { fileRecord } from './record.ts'
import type { Runtimes } from './runtimes/index.ts'
import { probeEngines, runtimesOf } from './runtimes/index.ts'
import { openHosts } from './shardhost/hosts.ts'
import { notAsked } from './thunderbolt/condition.ts'
import { checkKeeping, thunderboltKeeper } from './thunderbolt/real.ts'

export interface RunAgentOptions {
  /** `host:port` of the server. */
  readonly server: string
  readonly name: string
  readonly dataDir: string
  readonly modelsDir: string
  /** Holds the engines that `npm run setup` made. */
  readonly userDataDir: string
  /** Folder with llama.cpp's programs; absent: where setup put them, or on `searchPath`. */
  readonly llamaCppDir?: string
  /** PATH */
  readonly searchPath?: string
  /** `A-B`; absent: 20000-20999. */
  readonly portRange?: string
  /** `chip=Apple M4,memory=16Gi,…` */
  readonly simulate?: string
  /** N: report 1/N of the machine. */
  readonly share?: number
  readonly labels?: Readonly<Record<string, string>>
  /** Of `mctl join-token create`; needed once, until the agent has credentials of its own. */
  readonly token?: string
  /** Give Thunderbolt cables the addresses that the server gave out, for as long as the agent runs. macOS, root. */
  readonly configureThunderbolt?: boolean
  /** Where `hf://` models come from; absent: this agent fetches none. */
  readonly hub?: HubOptions
  readonly agentVersion: string
  readonly log: Logger
  /** Ends the agent and leaves its shards running. */
  readonly signal: AbortSignal
  /** Ends the agent after it has stopped its shards. */
  readonly stopShards?: AbortSignal
  /** Shortens the drain of `stopShards`. */
  readonly hurry?: AbortSignal
}

/** What the firewall did not take is told to it again after so long. */
const FIREWALL_AGAIN_MS = 60_000

/** IPv4 address under which this node's shards listen while the cluster has no identities. */
const LOOPBACK = '127.0.0.1'

/**
 * Runs one agent to its end. Resolves with the exit code: 0 when it was stopped, 1 when the server refuses it (the log
 * says why). Rejects with OpError Invalid for options that make no sense, Unavailable when another agent has the data
 * directory.
 */
export async function runAgent(options: RunAgentOptions): Promise<number> {
  const { name, dataDir, log } = options
  const simulation = options.simulate === undefined ? undefined : parseSimulation(options.simulate)
  const portRange = options.portRange === undefined ? defaultPortRange : parsePortRange(options.portRange)
  checkPortRange(portRange, ephemeralRange(process.platform, portRangeOfKernel()))
  if (options.configureThunderbolt === true) checkKeeping(simulation !== undefined)
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const lock = lockFolder(dataDir)
  const over = new AbortController()
  try {
    const joined = await membership(options, over.signal)
    if (joined === undefined) return 0
    const { client, address, credentialsFile, identity } = joined
    const runtimes = runtimesOf({
      userDataDir: options.userDataDir,
      platform: process.platform,
      ...(options.llamaCppDir === undefined ? {} : { folder: options.llamaCppDir }),
      ...(options.searchPath === undefined ? {} : { searchPath: options.searchPath }),
    })
    const machine = machineOf(options, runtimes, simulation, credentialsFile === undefined)
    const { bootId } = await machine.observe({ pids: [], loadedBytes: 0 })
    const ports = new PortPool({ range: portRange, dataDir, clock: systemClock })
    const hostDoors = { dataDir, address, credentialsFile, ports, bootId, runtimes, clock: systemClock, log }
    const shelf = new DiskShelf({
      modelsDir: options.modelsDir,
      bootId,
      cacheFile: join(dataDir, 'digests.json'),
      shapeOf: shapeOfModel,
      clock: systemClock,
      log,
    })
    // What the fetcher asks for comes over the session of the agent, which has the fetcher.
    const late: { agent?: Agent } = {}
    const peersOf: FetchDoors['peersOf'] = (model) => late.agent?.peersOf(model) ?? Promise.resolve([])
    const fetcher =
      options.hub === undefined
        ? undefined
        : fetcherOf(options, { hub: options.hub, shelf, bootId, peersOf, credentialsFile })
    const members = new Members()
    const door =
      fetcher && (await openDoor({ ...options, address, credentialsFile, bootId, claims: fetcher.claims, members }))
    const firewall = new Firewall({ platform: process.platform, dataDir, log })
    const guarded = credentialsFile === undefined ? {} : { firewall }
    const thunderbolt =
      options.configureThunderbolt === true
        ? thunderboltKeeper({ ...options, client, address, isJoined: credentialsFile !== undefined, firewall })
        : undefined
    const hosts = openHosts({ ...hostDoors, ...guarded })
    const isServing = () => hosts.list().some(({ state }) => state !== undefined && state.phase !== 'Exited')
    const credentials = credentialsFile === undefined ? undefined : () => credentialsOf(dataDir)
    const shared = { dataDir, credentialsFile, isServing, members, clock: systemClock, random: systemRandom, log }
    // A laboratory node has no links of its own.
    const links =
      simulation !== undefined
        ? undefined
        : await openLinks({
            ...shared,
            ...guarded,
            ports,
            launch: runtimes.mlx?.linkBench,
            credentials,
            ownAddresses,
            platform: process.platform,
          })
    const agent = new Agent(
      {
        client,
        hosts,
        models: shelf,
        ...(fetcher === undefined ? {} : { fetcher }),
        onMembers: (list) => members.set(list),
        ...(identity && {
          trusts: () => trustsOf(identity.fresh.current),
          onTrust: (trust: ToldTrust) => identity.fresh.tell(trust),
          strangerAt: () => identity.fresh.strangerAt(),
        }),
        observe: machine.observe,
        probeEngines: machine.probe,
        ...(links === undefined ? {} : { measureLink: links.measure, onShards: links.onShards }),
        conditions: () => [
          ...(credentialsFile === undefined ? [] : [firewall.condition()]),
          ...(thunderbolt === undefined ? [] : [thunderbolt.condition()]),
          ...(thunderbolt === undefined && process.platform === 'darwin' ? [notAsked] : []),
        ],
        record: fileRecord(dataDir),
        pressureTurn: sharedTurn(join(options.userDataDir, 'pressure'), systemClock),
        clock: systemClock,
        random: systemRandom,
        log,
      },
      {
        nodeName: name,
        agentVersion: options.agentVersion,
        address,
        ...(door === undefined ? {} : { modelsDoor: door }),
        ...(links === undefined ? {} : { linksDoor: { address, port: links.door.port } }),
        ...(options.labels === undefined ? {} : { labels: options.labels }),
      },
    )
    late.agent = agent
    identity?.keep(() => agent.reconnect())
    listen(agent, options)
    const awake = keepAwake({ platform: process.platform, clock: systemClock, signal: over.signal, busy: isServing })
    const scanning = shelf.run(over.signal)
    const keeping = thunderbolt?.run(over.signal)
    void every(systemClock, FIREWALL_AGAIN_MS, over.signal, () => firewall.again())
    const end = await agent.run()
    over.abort()
    await Promise.all([scanning, awake, keeping])
    await Promise.all([door?.close(), links?.door.close()])
    client.close()
    return end.kind === 'Stopped' ? 0 : 1
  } finally {
    over.abort()
    lock.release()
  }
}

interface Membership {
  readonly client: Client
  /** Under which the gateway and the other ranks reach this node. */
  readonly address: string
  /** Absent: the cluster has no identities, as far as this agent knows. */
  readonly credentialsFile?: string
  readonly identity?: {
    readonly fresh: FreshCredentials
    /** Renews from now on, and tells when the client calls as somebody new. */
    readonly keep: (onFresh: () => void) => void
  }
}

/** Who we are to the server: by certificate where there is one or a token gets one, else as a neighbour on loopback. */
async function membership(options: RunAgentOptions, over: AbortSignal): Promise<Membership | undefined> {
  const { server, name: node, dataDir, token, labels = {}, log, signal } = options
  const ended = AbortSignal.any([signal, over])
  const doors = { dataDir, server, node, labels, clock: systemClock, random: systemRandom, log, signal: ended }
  const kept = readCredentials(dataDir)
  if (kept !== undefined && kept.node !== node)
    throw new OpError(
      'Invalid',
      `start agent "${node}": ${dataDir} holds the credentials of node "${kept.node}". Give each node a --data-dir of its own`,
    )
  const standing = kept !== undefined && isOutdatedBy(kept, token) ? undefined : kept
  const credentials = standing ?? (token === undefined ? undefined : await joinCluster(doors, token))
  if (ended.aborted) return undefined
  if (credentials === undefined) return { client: connect(server, { node }), address: LOOPBACK }
  const connected = ({ authorityPem, certificatePem, keyPem }: Credentials) =>
    connect(server, { tls: { authorityPem, own: { certificatePem, keyPem } } })
  const client = swappable(connected(credentials))
  const address = await addressTowards(doors, credentials)
  const fresh = new FreshCredentials(doors, readCredentials(dataDir) ?? credentials)
  const keep = (onFresh: () => void) =>
    void fresh.keep((next) => {
      client.swap(connected(next))
      onFresh()
    })
  return { client, address, credentialsFile: credentialsFile(dataDir), identity: { fresh, keep } }
}

interface FetchParts {
  readonly hub: HubOptions
  readonly shelf: DiskShelf
  readonly bootId: string
  readonly peersOf: FetchDoors['peersOf']
  readonly credentialsFile: string | undefined
}

function fetcherOf(
  { name, dataDir, modelsDir, log }: RunAgentOptions,
  { hub, shelf, bootId, peersOf, credentialsFile }: FetchParts,
): ModelFetcher {
  const endpoint = checkEndpoint(hub.endpoint)
  const fetcher = new ModelFetcher({
    transfers: threadedTransfers({ clock: systemClock, threadsMax: FILES_AT_ONCE }),
    request: hubRequests({ ...hub, endpoint }),
    endpoint,
    ...(peersOf === undefined ? {} : { peersOf }),
    peers: { own: name, ...peerDoors(credentialsFile === undefined ? undefined : () => credentialsOf(dataDir)) },
    modelsDir,
    bootId,
    volume: machineDoors.volume,
    lock: (dir) => lockModel(modelsDir, dir),
    clock: systemClock,
    random: systemRandom,
    log,
  })
  // What has come or gone, or is not needed any more, shows in the Node at once, not at the next scan.
  let ended = ''
  fetcher.onChange(() => {
    const over = [...fetcher.states().values()].filter(({ kind }) => kind !== 'Fetching').length
    const now = [over, ...fetcher.usedFolders()].join(' ')
    if (now !== ended) void shelf.scan().catch((error) => log.warn('models scan failed', { error: messageOf(error) }))
    ended = now
  })
  return fetcher
}

const ownAddresses = () => Object.values(systemInterfaces()).flatMap((found) => found.map(({ address }) => address))

function credentialsOf(dataDir: string): Credentials {
  const credentials = readCredentials(dataDir)
  if (credentials === undefined) throw new OpError('Unauthorized', `${dataDir} holds no credentials of this node`)
  return credentials
}

/** The lock is beside the models, for a model's folder holds nothing but its files. */
function lockModel(modelsDir: string, dir: string): DirectoryLock | undefined {
  const folder = join(modelsDir, 'hf', '.locks', basename(dir))
  mkdirSync(folder, { recursive: true })
  try {
    return lockDirectory(folder)
  } catch (error) {
    if (isOpError(error, 'Unavailable')) return undefined
    throw error
  }
}

/** The same lock as a server's: one process for one data directory, freed by the OS however the process ends. */
function lockFolder(dataDir: string): DirectoryLock {
  try {
    return lockDirectory(dataDir)
  } catch (error) {
    throw new OpError(
      'Unavailable',
      `start an agent in ${dataDir}: another process has this folder. Stop it, or give this agent a --data-dir of its own (${messageOf(error)})`,
      { cause: error },
    )
  }
}

function listen(agent: Agent, { signal, stopShards, hurry, log }: RunAgentOptions): void {
  const stop = (how: StopHow) =>
    void agent.stop(how).catch((error) => log.error('agent not stopped in order', { error: messageOf(error) }))
  on(signal, () => stop({ shards: 'leave' }))
  on(stopShards, () => stop({ shards: 'stop' }))
  on(hurry, () => {
    if (stopShards?.aborted) stop({ shards: 'stop', limits: { ...STOP_AFTER_FAILURE, graceMs: 1_000 } })
  })
}

function on(signal: AbortSignal | undefined, run: () => void): void {
  if (signal?.aborted) run()
  else signal?.addEventListener('abort', run, { once: true })
}

/** Observation and probes belong together: the GPU limit is a fact of the machine that only an engine can tell. */
function machineOf(
  options: RunAgentOptions,
  runtimes: Runtimes,
  simulation: Simulation | undefined,
  loopbackOnly: boolean,
) {
  let gpuMemoryBytes: number | undefined
  const { platform } = process
  const portDoors = { ...machineDoors, interfaces: systemInterfaces }
  const ports = loopbackOnly ? loopbackPorts : portObserver({ platform, doors: portDoors, clock: systemClock })
  const plain = createObserver({
    platform,
    doors: machineDoors,
    dataDir: options.dataDir,
    ports,
    // Only Macs have cables whose addresses must keep out of them.
    ...(platform === 'darwin' && !loopbackOnly ? { networks: () => networksOf(systemInterfaces()) } : {}),
  })
  const withGpu: Observe = async (own) => {
    const facts = await plain(own)
    return gpuMemoryBytes === undefined ? facts : { ...facts, gpuMemoryBytes }
  }
  const probe = async (known?: EngineReport): Promise<EngineReport> => {
    const report = await probeEngines(runtimes, known)
    gpuMemoryBytes = report.gpuMemoryBytes ?? gpuMemoryBytes
    return report
  }
  const how = {
    ...(simulation === undefined ? {} : { simulation }),
    ...(options.share === undefined ? {} : { shares: options.share }),
  }
  return { observe: reportAs(withGpu, how), probe }
}

function portRangeOfKernel(): string | undefined {
  try {
    return readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
  } catch {
    return undefined
  }
}
