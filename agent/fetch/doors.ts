/** What fetching touches besides the files themselves: the hub, peers, the volume, time, chance, and other agents of this machine. */
import type { Clock, Random } from '../../src/lib/clock.ts'
import type { Logger } from '../../src/lib/log.ts'
import type { Peer } from '../../src/api/peers.ts'

export interface HubAnswer {
  readonly status: number
  readonly header: (name: string) => string | undefined
  /** Whatever has come since the last look, together: a turn per batch costs less than one per chunk. */
  readonly body: AsyncIterable<readonly Uint8Array[]>
  /** Lets go of a body that is not read to its end. */
  readonly drop: () => void
}

export interface GetOptions {
  /** First byte. */
  readonly from: number
  readonly signal: AbortSignal
  /** A part is of use only as long as the server says this of the whole. */
  readonly ifRange?: string
}

/** One GET, redirects followed. Rejects when there is no answer. */
export type HubGet = (address: string, options: GetOptions) => Promise<HubAnswer>

export interface Volume {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface FetchDoors {
  readonly get: HubGet
  /** Of the hub. */
  readonly endpoint: string
  /** Which nodes hold files of a model, or are getting them; as the server knows. Absent: there are none. */
  readonly peersOf?: (model: { readonly source: string; readonly commit: string }) => Promise<readonly Peer[]>
  /** This node's name, and how it speaks to peers. Absent: it does not. */
  readonly peers?: { readonly own: string; readonly get: PeerGet }
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

/** One GET of a path at a peer's door. Rejects when there is no answer. */
export type PeerGet = (peer: Peer, path: string, options: GetOptions) => Promise<HubAnswer>

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
