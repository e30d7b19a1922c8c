/** What fetching touches besides the files themselves: the hub, the volume, time, chance, and other agents of this machine. */
import type { Clock, Random } from '../../src/lib/clock.ts'
import type { Logger } from '../../src/lib/log.ts'

export interface HubAnswer {
  readonly status: number
  readonly header: (name: string) => string | undefined
  readonly body: AsyncIterable<Uint8Array>
  /** Lets go of a body that is not read to its end. */
  readonly drop: () => void
}

/** One GET from byte `from` on, redirects followed. Rejects when there is no answer. */
export type HubGet = (path: string, from: number, signal: AbortSignal) => Promise<HubAnswer>

export interface Volume {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface FetchDoors {
  readonly get: HubGet
  /** Of the hub, for messages. */
  readonly endpoint: string
  /** The folder of the models; fetched ones lie in its `hf/`. */
  readonly modelsDir: string
  /** undefined: cannot be told, then nothing is held back. */
  readonly volume: (dir: string) => Promise<Volume | undefined>
  /** Only one process of this machine at a time has the folder; undefined: another one has it now. */
  readonly lock: (dir: string) => { release(): void } | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
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
