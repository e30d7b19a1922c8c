/**
 * Composition root of the agent: the only place in agent/ that takes the real clock, disk, processes and network. `bin`
 * calls it with what argv and the environment said.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { every, systemClock, systemRandom } from '../src/lib/clock.ts'
import { OpError, isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { DirectoryLock } from '../src/store/lock.ts'
import { lockDirectory } from '../src/store/lock.ts'
import { STOP_AFTER_FAILURE } from './actions.ts'
import type { StopHow } from './agent.ts'
import { Agent } from './agent.ts'
import { keepAwake } from './awake.ts'
import type { ToldTrust } from './credentials.ts'
import { trustsOf } from './credentials.ts'
import type { FetchDoors } from './fetch/doors.ts'
import type { HubOptions } from './fetch/hub.ts'
import type { Models } from './fetch/open.ts'
import { openModels } from './fetch/open.ts'
import { Firewall } from './firewall.ts'
import type { Hosts } from './hosts.ts'
import type { Links } from './links/open.ts'
import { openLinks } from './links/open.ts'
import { Members } from './members.ts'
import type { Membership } from './membership.ts'
import { membership, ownCredentials } from './membership.ts'
import { machineDoors } from './observe/doors.ts'
import type { MachineObserver } from './observe/machine.ts'
import { machineObserver } from './observe/machine.ts'
import { systemInterfaces } from './observe/ports.ts'
import type { Simulation } from './observe/simulate.ts'
import { parseSimulation } from './observe/simulate.ts'
import type { PortRange } from './ports.ts'
import { PortPool, checkPortRange, defaultPortRange, ephemeralRange, parsePortRange } from './ports.ts'
import { sharedTurn } from './pressureturn.ts'
import { fileRecord } from './record.ts'
import { runtimesOf } from './runtimes/index.ts'
import { openHosts } from './shardhost/hosts.ts'
import { notAsked } from './thunderbolt/condition.ts'
import type { ThunderboltKeeper } from './thunderbolt/keeper.ts'
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

/**
 * Runs one agent to its end. Resolves with the exit code: 0 when it was stopped, 1 when the server refuses it (the log
 * says why). Rejects with OpError Invalid for options that make no sense, Unavailable when another agent has the data
 * directory.
 */
export async function runAgent(options: RunAgentOptions): Promise<number> {
  const { dataDir } = options
  const simulation = options.simulate === undefined ? undefined : parseSimulation(options.simulate)
  const portRange = options.portRange === undefined ? defaultPortRange : parsePortRange(options.portRange)
  checkPortRange(portRange, ephemeralRange(process.platform, portRangeOfKernel()))
  if (options.configureThunderbolt === true) checkKeeping(simulation !== undefined)
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const lock = lockFolder(dataDir)
  const over = new AbortController()
  try {
    const signal = AbortSignal.any([options.signal, over.signal])
    const joined = await membership({ ...options, ...timeAndChance, signal })
    if (joined === undefined) return 0
    // What the fetcher asks for comes over the session of the agent, which has the fetcher.
    const late: { agent?: Agent } = {}
    const peersOf: PeersOf = (model) => late.agent?.peersOf(model) ?? Promise.resolve([])
    const parts = await openParts(options, { joined, simulation, portRange, peersOf })
    late.agent = agentOf(options, parts)
    return await serve(late.agent, options, parts, over)
  } finally {
    over.abort()
    lock.release()
  }
}

const timeAndChance = { clock: systemClock, random: systemRandom }
type PeersOf = NonNullable<FetchDoors['peersOf']>

interface Given {
  readonly joined: Membership
  readonly simulation: Simulation | undefined
  readonly portRange: PortRange
  readonly peersOf: PeersOf
}

/** What an agent works with on its machine. */
interface Parts {
  readonly joined: Membership
  readonly machine: MachineObserver
  readonly members: Members
  readonly models: Models
  readonly hosts: Hosts
  /** An engine is loading or loaded here. */
  readonly isServing: () => boolean
  readonly firewall: Firewall
  /** Absent: a laboratory node, which has no links of its own. */
  readonly links?: Links
  readonly thunderbolt?: ThunderboltKeeper
}

/** In the order in which they need each other. Nothing runs yet but the doors for other nodes. */
async function openParts(options: RunAgentOptions, given: Given): Promise<Parts> {
  const { joined, simulation, portRange, peersOf } = given
  const { dataDir, modelsDir, log } = options
  const { platform } = process
  const { address, credentialsFile } = joined
  const isJoined = credentialsFile !== undefined
  const credentials = isJoined ? () => ownCredentials(dataDir) : undefined
  const folder = options.llamaCppDir === undefined ? {} : { folder: options.llamaCppDir }
  const runtimes = runtimesOf({ ...options, ...folder, platform })
  const machine = machineObserver({
    ...options,
    platform,
    runtimes,
    simulation,
    loopbackOnly: !isJoined,
    clock: systemClock,
  })
  const { bootId } = await machine.observe({ pids: [], loadedBytes: 0 })
  const members = new Members()
  const shared = { dataDir, address, credentialsFile, credentials, members, ...timeAndChance, log }
  const lock = (dir: string) => lockModel(modelsDir, dir)
  const { hub } = options
  const files = { name: options.name, modelsDir, hub, bootId, peersOf, lock, volume: machineDoors.volume }
  const models = await openModels({ ...shared, ...files })
  const firewall = new Firewall({ platform, dataDir, log })
  const thunderbolt =
    options.configureThunderbolt === true
      ? thunderboltKeeper({ ...options, client: joined.client, address, isJoined, firewall })
      : undefined
  const ports = new PortPool({ range: portRange, dataDir, clock: systemClock })
  const guarded = { ...shared, ports, ...(isJoined ? { firewall } : {}) }
  const hosts = openHosts({ ...guarded, bootId, runtimes })
  const isServing = () => hosts.list().some(({ state }) => state !== undefined && state.phase !== 'Exited')
  const launch = runtimes.mlx?.linkBench
  const links =
    simulation === undefined ? await openLinks({ ...guarded, isServing, launch, ownAddresses, platform }) : undefined
  return {
    joined,
    machine,
    members,
    models,
    hosts,
    isServing,
    firewall,
    ...(links === undefined ? {} : { links }),
    ...(thunderbolt === undefined ? {} : { thunderbolt }),
  }
}

function agentOf(options: RunAgentOptions, parts: Parts): Agent {
  const { machine, models, members, hosts, links, joined } = parts
  const { client, address, identity } = joined
  const { name, dataDir, agentVersion, labels, log } = options
  return new Agent(
    {
      client,
      hosts,
      models: models.shelf,
      ...(models.fetcher === undefined ? {} : { fetcher: models.fetcher }),
      onMembers: (list) => members.set(list),
      ...(identity && {
        trusts: () => trustsOf(identity.fresh.current),
        onTrust: (trust: ToldTrust) => identity.fresh.tell(trust),
        strangerAt: () => identity.fresh.strangerAt(),
      }),
      observe: machine.observe,
      probeEngines: machine.probe,
      ...(links === undefined ? {} : { measureLink: links.measure, onShards: links.onShards }),
      conditions: () => conditionsOf(parts),
      record: fileRecord(dataDir),
      pressureTurn: sharedTurn(join(options.userDataDir, 'pressure'), systemClock),
      ...timeAndChance,
      log,
    },
    {
      nodeName: name,
      agentVersion,
      address,
      ...(models.door === undefined ? {} : { modelsDoor: models.door }),
      ...(links === undefined ? {} : { linksDoor: { address, port: links.door.port } }),
      ...(labels === undefined ? {} : { labels }),
    },
  )
}

const conditionsOf = ({ joined, firewall, thunderbolt }: Parts) => [
  ...(joined.credentialsFile === undefined ? [] : [firewall.condition()]),
  ...(thunderbolt === undefined ? [] : [thunderbolt.condition()]),
  ...(thunderbolt === undefined && process.platform === 'darwin' ? [notAsked] : []),
]

/** To its end; `over` ends what runs beside it. */
async function serve(agent: Agent, options: RunAgentOptions, parts: Parts, over: AbortController): Promise<number> {
  const { joined, models, links, isServing, firewall, thunderbolt } = parts
  joined.identity?.keep(() => agent.reconnect())
  listen(agent, options)
  const beside = [
    keepAwake({ platform: process.platform, clock: systemClock, signal: over.signal, busy: isServing }),
    models.shelf.run(over.signal),
    ...(thunderbolt === undefined ? [] : [thunderbolt.run(over.signal)]),
  ]
  void every(systemClock, FIREWALL_AGAIN_MS, over.signal, () => firewall.again())
  const end = await agent.run()
  over.abort()
  await Promise.all(beside)
  await Promise.all([models.door?.close(), links?.door.close()])
  joined.client.close()
  return end.kind === 'Stopped' ? 0 : 1
}

const ownAddresses = () => Object.values(systemInterfaces()).flatMap((found) => found.map(({ address }) => address))

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

function portRangeOfKernel(): string | undefined {
  try {
    return readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
  } catch {
    return undefined
  }
}
