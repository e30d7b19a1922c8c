/** Tells the log what shards wait for. Passes come all the time; only changes are worth a line. */
import type { Logger } from '../src/lib/log.ts'
import type { Wait } from './actions.ts'

export class WaitLog {
  readonly #log: Logger
  readonly #told = new Map<string, string>()

  constructor(log: Logger) {
    this.#log = log
  }

  tell(waits: readonly Wait[]): void {
    for (const { shardUid, shardName, reason, message } of waits) {
      if (this.#told.get(shardUid) === reason) continue
      this.#told.set(shardUid, reason)
      this.#log.info('shard waits', { shard: shardName, reason, message })
    }
    const waiting = new Set(waits.map(({ shardUid }) => shardUid))
    for (const uid of this.#told.keys()) if (!waiting.has(uid)) this.#told.delete(uid)
  }
}
