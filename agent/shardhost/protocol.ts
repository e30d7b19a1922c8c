/**
 * What agent and shardhost say to each other. The shardhost is a small process in its own session around one engine
 * process; it outlives the agent. The agent writes `spec.json`, starts the host, and speaks JSON lines over a Unix
 * socket; the host keeps `state.json` (atomic) and, at the end, `exit.json`. Both are read when the host is gone.
 */
import type { ShardExit } from '../../src/api/shard.ts'
import type { TunnelEnd } from './tunnel.ts'

export interface EngineLaunch {
  readonly argv: readonly string[]
  /** The whole environment: built from scratch, nothing is inherited. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
}

export interface HostSpec {
  readonly shardUid: string
  readonly shardName: string
  readonly clusterUid: string
  readonly rank: number
  readonly worldSize: number
  /** Own folder of the shard: spec.json, state.json, exit.json, engine files. 0700. */
  readonly dir: string
  readonly socketPath: string
  /** Engine stdout and stderr; bounded, the last 3 epochs of a group and rank are kept. */
  readonly logFile: string
  readonly engine: EngineLaunch
  /** Engine files, written 0600 by the host before the start: `"@SHARDHOST_PID@"` in them becomes the host's pid. */
  readonly files?: readonly { readonly path: string; readonly content: string }[]
  readonly companion?: CompanionSpec
  /** Engine events as JSON lines arrive on this fd of the engine (env MCTL_EVENTS_FD). */
  readonly eventsFd: 3
  /** The leader's HTTP door; other ranks have none. */
  readonly door: null | {
    readonly address: string
    readonly port: number
    readonly enginePort: number
    readonly servedName: string
  }
  /** The node's key and certificate, for every door of this shard; absent: plain, on loopback. */
  readonly credentialsFile?: string
  readonly startupDeadlineMs: number
  readonly liveness: Liveness
}

/** When a Ready engine counts as dead although its process lives: the runtime knows how long its engine may be silent. */
export interface Liveness {
  /** Without a heartbeat. */
  readonly beatSeconds: number
  /** With heartbeats that tell of no step, or of requests and no token. */
  readonly stallSeconds: number
  /** An engine that was idle for so long is asked for one token. */
  readonly canaryEverySeconds: number
  /** How long that may take. */
  readonly canarySeconds: number
}

/** Why an engine that is Ready should not be kept. */
export interface Unwell {
  readonly reason: 'EngineFrozen' | 'EngineStalled' | 'EngineStuck' | 'CanaryFailed'
  readonly message: string
}

/** For an engine that speaks no events of ours: what its companion in the host must know (companion.ts). */
export type CompanionSpec =
  | {
      readonly kind: 'LlamaServer'
      readonly enginePort: number
      /** Ways to the RPC servers, rank 1 first; none: it computes alone. */
      readonly workers: readonly TunnelEnd[]
      /** Layers of the whole model. */
      readonly layers: number
      readonly limits: { readonly servedName: string; readonly contextTokens: number; readonly maxOutputTokens: number }
    }
  | {
      readonly kind: 'RpcWorker'
      /** Where the engine listens on 127.0.0.1. */
      readonly enginePort: number
      /** `ip:port` of the way in. */
      readonly address: string
      /** The node that leads the group: nobody else comes in. */
      readonly visitor: string
    }

export type HostPhase = 'Starting' | 'Loading' | 'Ready' | 'Stopping' | 'Exited'

export interface HostState {
  readonly shardUid: string
  readonly hostPid: number
  /** Opaque start time of the pid as the OS tells it: pid + start time is a process. */
  readonly hostStartTime: string
  readonly enginePid?: number
  readonly engineStartTime?: string
  readonly phase: HostPhase
  readonly progress?: { readonly doneBytes: number; readonly totalBytes: number }
  /** Seconds since the engine last polled or stepped, from its heartbeats: the one stall signal. */
  readonly progressAgeSeconds?: number
  /** The engine lives and is of no use any more. */
  readonly unwell?: Unwell
  readonly exit?: ShardExit
  readonly lastLogLines: readonly string[]
}

export type ToHost =
  | {
      readonly type: 'Stop'
      readonly graceMs: number
      readonly reason: string
      /**
       * Before SIGTERM: the leader answers the requests that it has taken, at most this long, and refuses new ones; the
       * other ranks wait for their leader to end. Absent: 0. A second Stop only shortens the first.
       */
      readonly drainMs?: number
    }
  | { readonly type: 'Ping' }
/** Sent on connect and on each change. */
export type FromHost = { readonly type: 'State'; readonly state: HostState }

/**
 * One line on the engine's event fd, as the shim and the fake engine write it; each also carries `rank`, `pid` and `t`
 * (seconds since 1970). `s` is seconds since the engine's start; memory is in bytes.
 */
export type EngineEvent =
  | { readonly ev: 'start'; readonly world: number }
  | { readonly ev: 'joined'; readonly world: number; readonly s: number }
  | { readonly ev: 'loading' }
  | {
      readonly ev: 'loaded'
      readonly s: number
      /** GPU memory held now, and at most so far. */
      readonly active: number
      readonly peak: number
      readonly layers: readonly [number, number]
      /** Weight files that this rank read. */
      readonly files: number
      /** What a token of KV cache costs on this rank, and how many fit into the group's budget. */
      readonly kvBytesPerToken: number
      readonly kvTokens: number
      /** Requests at once, as far as the budget goes. */
      readonly concurrency: number
    }
  | { readonly ev: 'ready'; readonly s: number }
  | {
      readonly ev: 'hb'
      readonly phase: string
      readonly busy: boolean
      /** Requests that run, and those that wait for a place. */
      readonly active: number
      readonly queued: number
      readonly steps: number
      readonly polls: number
      readonly ptok: number
      readonly gtok: number
      /** Seconds since the last poll or step. */
      readonly age: number
      readonly mem: number
    }
  | { readonly ev: 'stopping' }
  | { readonly ev: 'exit'; readonly code: number; readonly reason: string }

/** Stands in the engine's arguments for `127.0.0.1:port` of the way to that rank: the port is known when it is open. */
export const wayTo = (rank: number): string => `@WAY_TO_RANK_${rank}@`

/** Stands for the host's pid, as a JSON string, in `HostSpec.files`: the agent cannot know it before the host runs. */
export const HOST_PID_TOKEN = '@SHARDHOST_PID@'
