/** What fetching touches besides the files themselves: the hub, peers, the volume, time, chance, and other agents of this machine. */
import type { Clock, Random } from '../../src/lib/clock.ts'
import type { Logger } from '../../src/lib/log.ts'
import type { Peer } from '../../src/api/peers.ts'
import type { FileRequest, Transfers } from './transfer/transfers.ts'

export interface FileRequestOptions {
  /** First byte. */
  readonly from: number
  /** A part is of use only as long as the server says this of the whole. */
  readonly ifRange?: string
}

export interface Volume {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface FetchDoors {
  /** Brings bytes onto disk. */
  readonly transfers: Transfers
  /** How a file at an address of the hub, or elsewhere, is asked for. */
  readonly request: (address: string, options: FileRequestOptions) => FileRequest
  /** Of the hub. */
  readonly endpoint: string
  /** Which nodes hold files of a model, or are getting them; as the server knows. Absent: there are none. */
  readonly peersOf?: (model: { readonly source: string; readonly commit: string }) => Promise<readonly Peer[]>
  /** This node's name, and how it speaks to peers. Absent: it does not. */
  readonly peers?: { readonly own: string } & PeerDoors
  /** The folder of the models; fetched ones lie in its `hf/` and `https/`. */
  readonly modelsDir: string
  /** Changes when the machine starts anew: what was not flushed to the disk then counts for nothing. */
  readonly bootId: string
  /** undefined: cannot be told, then nothing is held back. */
  readonly volume: (dir: string) => Promise<Volume | undefined>
  /** Only one process of this machine at a time has the folder; undefined: another one has it now. */
  readonly lock: (dir: string) => { release(): void } | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export interface PeerDoors {
  /** The small answer to one GET of a path at a peer's door. Rejects when there is none. */
  readonly ask: (peer: Peer, path: string, signal: AbortSignal) => Promise<PeerAnswer>
  /** How a file is asked for there. */
  readonly request: (peer: Peer, path: string, options: FileRequestOptions) => FileRequest
}

export interface PeerAnswer {
  readonly status: number
  readonly text: string
}

/** Why a fetch is over; the reason is a CamelCase word for the shard's exit. */
export class FetchFailure extends Error {
  readonly reason: 'ModelFetchFailed' | 'ModelFileCorrupt' | 'ModelAccessDenied'
  constructor(reason: FetchFailure['reason'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'FetchFailure'
    this.reason = reason
  }
}

/** No room now; what is there stays, and the fetch goes on when there is. */
export class DiskFull extends Error {
  override readonly name = 'DiskFull'
}

/** What an error says when the volume is full, or the quota: DiskFull; undefined for every other error. */
export function diskFullOf(error: unknown): DiskFull | undefined {
  if (error instanceof DiskFull) return error
  const { code } = error as NodeJS.ErrnoException
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return full ? new DiskFull('the volume of the models folder is full', { cause: error }) : undefined
}
