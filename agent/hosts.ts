/**
 * The door between the agent and its processes. The real one (agent/shardhost/hosts.ts) spawns and adopts shardhosts;
 * the simulator's keeps them in memory. The agent's loop and plan know only this.
 */
import type { Shard } from '../src/api/shard.ts'
import type { LogLine } from './shardhost/stamps.ts'
import type { HostState } from './shardhost/protocol.ts'

/** What was taken for a rank at Prepared: ports, addresses, the verified model folder. Kept on disk with the handle. */
export interface PreparedShard {
  readonly address: string
  /** Door port (leader) on `address`. */
  readonly port: number
  /** Engine HTTP port on 127.0.0.1. */
  readonly enginePort: number
  /** `ip:port` of this rank's rendezvous listener. */
  readonly ringAddress: string
  readonly modelDir?: string
}

/** One shard that this machine knows of: prepared, running, or ended and not yet forgotten. */
export interface LocalShard {
  readonly shardUid: string
  readonly shardName: string
  readonly clusterUid: string
  readonly prepared: PreparedShard
  /** A host was started for it, though it may not have told its state yet. */
  readonly started?: boolean
  /** undefined: never started, or the host has not spoken yet. */
  readonly state?: HostState
  /** The host process is gone though it never said Exited (SIGKILL of the host): its engine was stopped, too. */
  readonly lost?: boolean
  /** The host lives and has answered nothing for so long. */
  readonly silentSeconds?: number
}

/** Which lines of a log are read. */
export interface LogOptions {
  /** So many from the end of what is there. */
  readonly tail?: number
  /** Leaves out lines that are older, in ms of the machine's clock; those without a time stay. */
  readonly sinceMs?: number
  readonly follow: boolean
  readonly signal: AbortSignal
}

export interface Hosts {
  /** Reads the handles on disk, adopts living hosts (pid + start time + uid over the socket), finds the dead. Once, at start. */
  recover(): Promise<void>
  list(): readonly LocalShard[]
  /** Takes fresh ports (bind-tested) and writes the handle. Idempotent by uid. */
  prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard>
  /** Starts the host with the engine. The shard must be prepared and have a rendezvous. Idempotent by uid. */
  start(shard: Shard): Promise<void>
  /**
   * Asks the host to stop its engine: SIGTERM, `graceMs`, SIGKILL. Returns at once; the end is a change of state.
   * `drainMs` (absent: 0) comes before SIGTERM: the leader refuses new requests and answers those it has, the other
   * ranks wait for it. A second call only shortens the first.
   */
  stop(shardUid: string, graceMs: number, reason: string, drainMs?: number): void
  /** Frees ports, socket, folder (not the log). Only when ended or never started. */
  forget(shardUid: string): Promise<void>
  /** Called on every change of any local shard. */
  onChange(listener: (shardUid: string) => void): () => void
  /** Lines of the shard's engine log, newest kept; ends unless `follow`. Uid '': of the newest shard of that name, gone or not. */
  readLog(shardUid: string, shardName: string, options: LogOptions): AsyncIterable<LogLine>
  /** Lets go of the sockets; the hosts live on. */
  close(): void
}
