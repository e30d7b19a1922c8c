/**
 * What a shard's host is told in `spec.json`: from the shard, from what was prepared for it, and from its engine's
 * launch. Everything that can refuse a start is here: nothing has been changed when it throws.
 */
import { join } from 'node:path'
import type { Shard } from '../../src/api/shard.ts'
import { bytesToLoad, isLeader } from '../../src/api/shard.ts'
import { OpError, assert } from '../../src/lib/errors.ts'
import { splitHostPort } from '../../src/lib/hostport.ts'
import type { Handle } from '../handles.ts'
import { shardDir, socketName } from '../handles.ts'
import type { PreparedShard } from '../hosts.ts'
import type { Runtimes } from '../runtimes/index.ts'
import { defaultLiveness } from './health.ts'
import { logPath } from './logs.ts'
import type { HostSpec } from './protocol.ts'

export interface HostSpecOptions {
  readonly dataDir: string
  readonly socketDir: string
  readonly runtimes: Runtimes
  /** The node's key and certificate; absent: the cluster has no identities. */
  readonly credentialsFile?: string | undefined
  /** Absent: DESIGN §10a. */
  readonly startupDeadlineMs?: (shard: Shard) => number
}

/** DESIGN §10a: bytes / 200 MB/s + 120 s. */
const defaultStartupDeadlineMs = (shard: Shard): number =>
  Math.ceil(bytesToLoad(shard, shard.spec.parts.weights) / 200_000 + 120_000)

/** Throws OpError Invalid when the shard cannot be launched, Conflict when its rendezvous is not what was prepared. */
export function hostSpecOf(shard: Shard, handle: Handle, options: HostSpecOptions): HostSpec {
  const { dataDir, socketDir, runtimes, credentialsFile, startupDeadlineMs = defaultStartupDeadlineMs } = options
  const secured = credentialsFile === undefined ? {} : { credentialsFile }
  const { metadata, spec } = shard
  const runtime = runtimes[spec.engine.name]
  if (runtime === undefined)
    throw new OpError('Invalid', `start shard ${metadata.name}: this agent has no engine ${spec.engine.name}`)
  const dir = shardDir(dataDir, metadata.uid)
  const { prepared } = handle
  const { address, port, enginePort, modelDir } = prepared
  const launch = runtime.launch({ shard, modelDir, dir, enginePort, hosts: hostsOf(shard, prepared) })
  return {
    shardUid: metadata.uid,
    shardName: metadata.name,
    clusterUid: handle.clusterUid,
    rank: spec.rank,
    worldSize: spec.worldSize,
    dir,
    socketPath: join(socketDir, socketName(metadata.uid)),
    logFile: logPath(dataDir, handle.namespace, metadata.name, metadata.uid),
    engine: launch.engine,
    files: launch.files,
    ...(launch.companion === undefined ? {} : { companion: launch.companion }),
    eventsFd: 3,
    door: isLeader(shard) ? { address, port, enginePort, servedName: spec.serving.servedName } : null,
    ...secured,
    startupDeadlineMs: startupDeadlineMs(shard),
    liveness: { ...defaultLiveness, ...launch.liveness },
  }
}

/** The rendezvous as this rank sees it. A group of one needs none. Refuses one that names another port than ours. */
function hostsOf(shard: Shard, prepared: PreparedShard): readonly (readonly string[])[] {
  const { rendezvous, worldSize, rank } = shard.spec
  if (rendezvous === null) {
    if (worldSize === 1) return [[prepared.ringAddress]]
    throw new OpError('Invalid', `start shard ${shard.metadata.name}: a rank of ${worldSize} has no rendezvous yet`)
  }
  const own = rendezvous.hosts[rank]?.[0]
  assert(rendezvous.hosts.length === worldSize, `rendezvous of ${rendezvous.hosts.length} for a world of ${worldSize}`)
  if (worldSize > 1 && splitHostPort(own ?? '').port !== splitHostPort(prepared.ringAddress).port)
    throw new OpError(
      'Conflict',
      `start shard ${shard.metadata.name}: the rendezvous names ${own ?? 'nothing'}, this node prepared ${prepared.ringAddress}`,
    )
  return rendezvous.hosts
}
