/** Engine logs up the session that the agent opened: one task per request, as fast as the session takes them. */
import { shardName } from '../src/api/shard.ts'
import type { Clock } from '../src/lib/clock.ts'
import { OpError, isOpError, messageOf } from '../src/lib/errors.ts'
import type { ServerMessage } from '../src/rpc/messages.ts'
import type { Hosts } from './hosts.ts'
import type { Outbox } from './outbox.ts'

export type LogsStart = Extract<ServerMessage, { type: 'LogsStart' }>

export class LogRelay {
  readonly #hosts: Hosts
  readonly #outbox: Outbox
  readonly #clock: Pick<Clock, 'nowMs'>
  /** Name of a shard that this node knows by uid. */
  readonly #nameOf: (shardUid: string) => string | undefined
  readonly #running = new Map<string, AbortController>()

  constructor(
    hosts: Hosts,
    outbox: Outbox,
    clock: Pick<Clock, 'nowMs'>,
    nameOf: (shardUid: string) => string | undefined,
  ) {
    this.#hosts = hosts
    this.#outbox = outbox
    this.#clock = clock
    this.#nameOf = nameOf
  }

  /** Sends chunks until the log ends, the reader stops it, or the session is over; then LogEnd. Never throws. */
  async start(request: LogsStart): Promise<void> {
    const { requestId } = request
    const control = new AbortController()
    this.#running.get(requestId)?.abort()
    this.#running.set(requestId, control)
    try {
      await this.#pump(request, control)
      void this.#outbox.send({ type: 'LogEnd', requestId })
    } catch (error) {
      const code = isOpError(error) ? error.code : 'Internal'
      void this.#outbox.send({ type: 'LogEnd', requestId, error: { code, message: messageOf(error) } })
    } finally {
      if (this.#running.get(requestId) === control) this.#running.delete(requestId)
    }
  }

  stop(requestId: string): void {
    this.#running.get(requestId)?.abort()
  }

  close(): void {
    for (const control of this.#running.values()) control.abort()
  }

  async #pump(request: LogsStart, control: AbortController): Promise<void> {
    const { shardUid, tail, follow, requestId, sinceTimeMs, sinceAgoMs, timestamps } = request
    const name = request.shardName || this.#nameOf(shardUid)
    if (name === undefined) throw new OpError('NotFound', `this node knows no shard with uid ${shardUid}`)
    const [uid, of] = request.previous ? ['', previousName(name)] : [shardUid, name]
    // Lines have the time of this machine, so what is a while ago is reckoned by its clock.
    const sinceMs = sinceAgoMs === undefined ? sinceTimeMs : this.#clock.nowMs() - sinceAgoMs
    const options = {
      ...(tail === undefined ? {} : { tail }),
      ...(sinceMs === undefined ? {} : { sinceMs }),
      follow,
      signal: control.signal,
    }
    for await (const { text, atMs } of this.#hosts.readLog(uid, of, options)) {
      const time = timestamps === true ? `${atMs === undefined ? '<unknown>' : new Date(atMs).toISOString()} ` : ''
      const delivered = await this.#outbox.send({ type: 'LogChunk', requestId, text: `${time}${text}\n` })
      if (!delivered || control.signal.aborted) return
    }
  }
}

/** The log of the run before: that of the same rank in the epoch before. */
function previousName(name: string): string {
  const { group = '', epoch, rank } = /^(?<group>.+)-e(?<epoch>\d+)-(?<rank>\d+)$/.exec(name)?.groups ?? {}
  if (epoch === undefined || Number(epoch) <= 1)
    throw new OpError('NotFound', `shard ${name} had no run before this one`)
  return shardName(group, Number(epoch) - 1, Number(rank))
}
