/**
 * What the agent remembers of its shards across its own death: one folder per shard uid under `<dataDir>/shards`, with
 * handle.json (ours), spec.json, state.json, exit.json (shardhost) and the engine's files.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { splitHostPort } from '../src/lib/hostport.ts'
import type { Gate } from './firewall.ts'
import type { PreparedShard } from './hosts.ts'
import { readJson, writeJson } from './shardhost/statefile.ts'

export interface Handle {
  readonly version: 1
  readonly shardUid: string
  readonly shardName: string
  readonly namespace: string
  readonly clusterUid: string
  readonly bootId: string
  readonly prepared: PreparedShard
  /** Written before the host is spawned: from then on the shard counts as started, whatever became of it. */
  readonly started?: { readonly socketPath: string; readonly logFile: string; readonly atMs: number }
  /** Of a rank whose engine opens a port of its own to the others: who may come to it. */
  readonly gate?: Gate
}

export const shardsDir = (dataDir: string): string => join(dataDir, 'shards')
export const shardDir = (dataDir: string, shardUid: string): string => join(shardsDir(dataDir), safeName(shardUid))
const handlePath = (dataDir: string, shardUid: string): string => join(shardDir(dataDir, shardUid), 'handle.json')

/** Ports that a handle holds. */
export const portsOf = ({ prepared }: Handle): readonly number[] => [
  prepared.port,
  prepared.enginePort,
  splitHostPort(prepared.ringAddress).port,
]

/** Atomic; makes the shard's folder (0700) when it is not there. */
export function writeHandle(dataDir: string, handle: Handle): void {
  mkdirSync(shardDir(dataDir, handle.shardUid), { recursive: true, mode: 0o700 })
  writeJson(handlePath(dataDir, handle.shardUid), handle)
}

/** Every handle on disk. Folders without a readable one (a crash while preparing) are removed: nothing runs from them. */
export function readHandles(dataDir: string): readonly Handle[] {
  const handles: Handle[] = []
  for (const name of folderNames(shardsDir(dataDir))) {
    const dir = join(shardsDir(dataDir), name)
    const handle = readJson(join(dir, 'handle.json')) as Handle | undefined
    if (handle?.version === 1) handles.push(handle)
    else rmSync(dir, { recursive: true, force: true })
  }
  return handles
}

export function removeHandle(dataDir: string, shardUid: string): void {
  rmSync(shardDir(dataDir, shardUid), { recursive: true, force: true })
}

function folderNames(dir: string): readonly string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

/** Uids come over the wire: one that is no plain name gets a name of its own, never a path. */
const safeName = (uid: string): string =>
  /^[A-Za-z0-9-]{1,64}$/.test(uid) ? uid : createHash('sha256').update(uid).digest('hex')

/** macOS allows 103 bytes and a NUL in a socket's path, Linux 107. */
export const SOCKET_PATH_BYTES_MAX = 103

/** Folder for the shards' sockets: under the data directory where the paths fit, else a short one of this user's own. */
export function socketDir(dataDir: string, userId: number): string {
  const dir = join(dataDir, 'run')
  if (Buffer.byteLength(join(dir, socketName(''))) <= SOCKET_PATH_BYTES_MAX) return dir
  return join('/tmp', `mctl-${userId}-${createHash('sha256').update(dataDir).digest('hex').slice(0, 12)}`)
}

/** File name of a shard's socket; always of the same length. */
export const socketName = (shardUid: string): string =>
  `${createHash('sha256').update(shardUid).digest('hex').slice(0, 16)}.sock`
