/** What is true of this machine: the agent reports it, nothing here decides. Bytes, as counted by the OS. */

import type { NodeNetwork, NodePort } from '../../src/api/node.ts'

export type Pressure = 'Normal' | 'Warn' | 'Critical'

/** Changes at most with a reboot or an upgrade. */
export interface FixedFacts {
  readonly chip: string
  readonly gpuCores?: number
  readonly memoryBytes: number
  /** The GPU working-set limit, where an engine's probe told it. */
  readonly gpuMemoryBytes?: number
  /** `15.3` on macOS, `Linux 6.1.0` on Linux. */
  readonly osVersion?: string
  readonly hardwareModel?: string
  /** Changes at each boot. */
  readonly bootId: string
}

/** Changes all the time; never stored, only sent with heartbeats. A simulated node has none. */
export interface LiveFacts {
  /** RAM − what others hold for good (wired, compressor) − 1 GiB; our own shards do not count as others. */
  readonly headroomBytes?: number
  readonly pressure?: Pressure
  /** What the system cannot take back. */
  readonly wiredBytes?: number
  /** In use, less what the system may drop at once. */
  readonly usedBytes?: number
  /** Share of the time that the GPU is busy, 0…1, where the machine tells it. */
  readonly gpuBusy?: number
  /** Of the volume that holds the data folder. */
  readonly diskFreeBytes?: number
  readonly diskTotalBytes?: number
}

export interface MachineFacts extends FixedFacts, LiveFacts {
  /** The figures are laboratory figures. */
  readonly simulated?: boolean
  /** Absent: nobody looked, or a simulated node, whose cables are not its own. */
  readonly ports?: readonly NodePort[]
  /** Of a Mac that may have Thunderbolt cables. */
  readonly networks?: readonly NodeNetwork[]
}

/** Our own engines, which headroom does not count as others. */
export interface OwnEngines {
  readonly pids: readonly number[]
  /** Bytes bound by those that have loaded. */
  readonly loadedBytes: number
}

/** Reads the machine; the first call may take seconds on macOS. */
export type Observe = (own: OwnEngines) => Promise<MachineFacts>

/** Kept free for the system in every reading of headroom. */
export const HEADROOM_RESERVE_BYTES = 2 ** 30

/** The doors of an observer: text of a file, text of a command's stdout; undefined when it cannot be had. */
export interface MachineDoors {
  readonly readText: (path: string) => Promise<string | undefined>
  readonly runText: (command: string, args: readonly string[]) => Promise<string | undefined>
  /** Free and total bytes of the volume that holds `path`. */
  readonly volume: (path: string) => Promise<{ freeBytes: number; totalBytes: number } | undefined>
}
