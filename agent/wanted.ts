/** The shards that this node should run, as the server lists them: read whole, then kept up to date by a watch. */
import type { Shard } from '../src/api/shard.ts'
import type { Clock } from '../src/lib/clock.ts'
import { sleep } from '../src/lib/clock.ts'
import { OpError, isOpError } from '../src/lib/errors.ts'
import type { Client, WatchEvent } from '../src/rpc/messages.ts'

/** Watch gives speed, a whole list every 5 min certainty. */
const RELIST_MS = 5 * 60_000
const RESUME_MS = 1_000

export class WantedShards {
  #shards: Map<string, Shard> | undefined
  #next: Map<string, Shard> | undefined
  /** Listed to the end since `begin`. */
  #whole = false

  /** undefined until a list was read to its end; while a new one is being read the old one stays in force. */
  list(): readonly Shard[] | undefined {
    return this.#shards === undefined ? undefined : [...this.#shards.values()]
  }

  get(uid: string): Shard | undefined {
    return this.#shards?.get(uid)
  }

  /** The list of this session is whole. */
  isWhole(): boolean {
    return this.#whole
  }

  /** A list is being read and has not come to its end. */
  isListing(): boolean {
    return this.#next !== undefined
  }

  /** A new session: its list has to be read again. */
  begin(): void {
    this.#whole = false
  }

  /** A list from the beginning: it takes the place of the old one at its bookmark. */
  relist(): void {
    this.#next = new Map()
  }

  /** True when what `list` says may have changed. */
  on(event: WatchEvent): boolean {
    if (event.type === 'HEADER') return false
    const shards = this.#next ?? this.#shards ?? new Map<string, Shard>()
    if (event.type === 'BOOKMARK') {
      if (!event.initialEventsEnd || this.#next === undefined) return false
      this.#shards = this.#next
      this.#next = undefined
      this.#whole = true
      return true
    }
    const shard = event.object as Shard
    if (event.type === 'DELETED') shards.delete(shard.metadata.uid)
    else shards.set(shard.metadata.uid, shard)
    return shards === this.#shards
  }

  /** The answer to our own write is newer than what the watch told; a shard that left the list does not come back by it. */
  onWritten(shard: Shard): void {
    for (const shards of [this.#shards, this.#next]) {
      const held = shards?.get(shard.metadata.uid)
      if (held !== undefined && Number(held.metadata.resourceVersion) < Number(shard.metadata.resourceVersion))
        shards?.set(shard.metadata.uid, shard)
    }
  }

  /** The server does not know this uid: it is not wanted, whatever the watch still says. */
  drop(uid: string): void {
    this.#shards?.delete(uid)
    this.#next?.delete(uid)
  }
}

export interface WatchOptions {
  readonly client: Client
  readonly nodeName: string
  readonly clusterUid: string
  readonly wanted: WantedShards
  readonly clock: Clock
  readonly onChange: () => void
  readonly signal: AbortSignal
}

/**
 * Keeps `wanted` up to date until the signal aborts. A watch that ended is resumed where it stopped; one whose place is
 * gone (Expired) begins anew. Rejects with any other error: then the session is over.
 */
export async function watchWanted(options: WatchOptions): Promise<void> {
  const { client, nodeName, wanted, clock, signal } = options
  let cursor: { resourceVersion: string; incarnation: string } | undefined
  let listedAtMs = clock.monotonicMs()
  while (!signal.aborted) {
    if (cursor !== undefined && clock.monotonicMs() - listedAtMs >= RELIST_MS) cursor = undefined
    if (cursor === undefined) {
      wanted.relist()
      listedAtMs = clock.monotonicMs()
    }
    const turn = new AbortController()
    const relist = clock.after(Math.max(0, RELIST_MS - (clock.monotonicMs() - listedAtMs)), () => turn.abort())
    const abort = () => turn.abort()
    signal.addEventListener('abort', abort, { once: true })
    try {
      const selection = { kind: 'Shard', fieldSelector: `spec.nodeName=${nodeName}` } as const
      for await (const event of client.watch({ ...selection, ...cursor }, { signal: turn.signal })) {
        cursor = place(event, cursor, options)
        if (wanted.on(event)) options.onChange()
      }
    } catch (error) {
      if (signal.aborted) return
      if (isOpError(error, 'Expired')) cursor = undefined
      else if (!turn.signal.aborted) throw error
    } finally {
      relist.cancel()
      signal.removeEventListener('abort', abort)
    }
    // Before its bookmark a list has no place to resume from.
    if (wanted.isListing()) cursor = undefined
    if (!turn.signal.aborted) await sleep(clock, RESUME_MS, signal)
  }
}

type Cursor = { resourceVersion: string; incarnation: string } | undefined

/** Where to resume after this event; OpError Conflict when the stream is another cluster's. */
function place(event: WatchEvent, cursor: Cursor, { clusterUid }: WatchOptions): Cursor {
  if (event.type !== 'HEADER')
    return cursor === undefined ? undefined : { ...cursor, resourceVersion: event.resourceVersion }
  if (event.clusterUid !== clusterUid) throw unknownCluster(clusterUid, event.clusterUid)
  return { incarnation: event.incarnation, resourceVersion: cursor?.resourceVersion ?? '0' }
}

/** An agent obeys one cluster for its life. */
export const unknownCluster = (own: string, other: string): OpError =>
  new OpError(
    'Conflict',
    `UnknownCluster: this agent runs shards of cluster ${own}, the server is of cluster ${other}; nothing was stopped. ` +
      `Point --server at the right cluster, or use a fresh --data-dir`,
  )
