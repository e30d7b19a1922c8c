/** Brings shard statuses to the server: each change once it is due, one write per shard at a time, until acknowledged. */
import { isDeepStrictEqual } from 'node:util'
import type { Shard, ShardStatus } from '../src/api/shard.ts'
import type { BackoffPolicy } from '../src/lib/backoff.ts'
import { backoffMs } from '../src/lib/backoff.ts'
import type { Clock, Random } from '../src/lib/clock.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Client } from '../src/rpc/messages.ts'
import type { StatusPatch } from './shardstatus.ts'
import { PROGRESS_PERIOD_MS, isDue, statusPatch } from './shardstatus.ts'
import type { WantedShards } from './wanted.ts'

const retry: BackoffPolicy = { firstMs: 500, maxMs: 30_000, factor: 2, jitter: 0.2 }
const WRITE_TIMEOUT_MS = 10_000
const REPEAT_MS = 10_000

export interface ReporterDoors {
  readonly client: Client
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly wanted: WantedShards
  /** What the server holds may have changed, or a retry is due: look again. */
  readonly onChange: () => void
}

interface Account {
  inFlight: boolean
  failures: number
  retryAtMs: number
  sentAtMs: number
  /** What was acknowledged last: sent again only after a pause, should the server keep less than it took. */
  acknowledged: StatusPatch | undefined
}

export class ShardReporter {
  readonly #doors: ReporterDoors
  readonly #accounts = new Map<string, Account>()

  constructor(doors: ReporterDoors) {
    this.#doors = doors
  }

  /** Writes the status when it differs from what the server holds, is due, and no other write of the shard is out. */
  offer(shard: Shard, status: ShardStatus, signal: AbortSignal): void {
    const uid = shard.metadata.uid
    const account = this.#accountOf(uid)
    const patch = statusPatch(shard.status, status)
    if (patch === undefined || account.inFlight) return
    const nowMs = this.#doors.clock.monotonicMs()
    if (nowMs < account.retryAtMs || !isDue(shard.status, patch, nowMs - account.sentAtMs)) return
    if (nowMs - account.sentAtMs < REPEAT_MS && isDeepStrictEqual(patch, account.acknowledged)) return
    account.inFlight = true
    account.sentAtMs = nowMs
    void this.#write(shard, patch, account, signal)
  }

  /** No write is out. */
  isQuiet(): boolean {
    return ![...this.#accounts.values()].some((a) => a.inFlight)
  }

  /** Forgets the accounts of shards that are no longer there. */
  keepOnly(isThere: (shardUid: string) => boolean): void {
    for (const [uid, account] of this.#accounts) if (!isThere(uid) && !account.inFlight) this.#accounts.delete(uid)
  }

  async #write(shard: Shard, patch: StatusPatch, account: Account, signal: AbortSignal): Promise<void> {
    const { client, wanted, log, onChange } = this.#doors
    const uid = shard.metadata.uid
    try {
      const options = { signal, timeoutMs: WRITE_TIMEOUT_MS }
      const { object } = await client.updateStatus({ uid, patch }, options)
      wanted.onWritten(object as Shard)
      account.failures = 0
      account.acknowledged = patch
      account.inFlight = false
    } catch (error) {
      account.inFlight = false
      if (isOpError(error, 'NotFound')) {
        log.warn('the server does not know the shard', { shard: shard.metadata.name, uid })
        wanted.drop(uid)
      } else if (!signal.aborted) return this.#failed(shard, account, error)
    }
    onChange()
  }

  #failed(shard: Shard, account: Account, error: unknown): void {
    const { clock, random, log, onChange } = this.#doors
    account.failures += 1
    const delayMs = backoffMs(retry, account.failures, random.next())
    account.retryAtMs = clock.monotonicMs() + delayMs
    clock.after(delayMs, onChange)
    if (account.failures === 1)
      log.warn('shard status not written', { shard: shard.metadata.name, error: messageOf(error) })
  }

  #accountOf(uid: string): Account {
    const known = this.#accounts.get(uid)
    if (known !== undefined) return known
    const fresh: Account = {
      acknowledged: undefined,
      inFlight: false,
      failures: 0,
      retryAtMs: -Infinity,
      sentAtMs: -PROGRESS_PERIOD_MS,
    }
    this.#accounts.set(uid, fresh)
    return fresh
  }
}
