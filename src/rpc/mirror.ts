/**
 * A local copy of one kind, kept by a watch (an informer): initial state into a shadow, swapped in at the bookmark,
 * then each change; resumed after a cut, listed anew after Expired. What it held stays while the server is away.
 */
import type { KindName } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import type { BackoffPolicy } from '../lib/backoff.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { isOpError } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import type { Client, WatchEvent } from './messages.ts'

export interface MirrorOptions {
  readonly client: Client
  readonly kind: KindName
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onHeader?: (header: Extract<WatchEvent, { type: 'HEADER' }>) => void
  /** Called after each change that a reader may see; not before the first whole list. */
  readonly onChange: (objects: ReadonlyMap<string, MctlObject>) => void
}

const policy: BackoffPolicy = { firstMs: 200, maxMs: 5000, factor: 2, jitter: 0.5 }

/** Runs until the signal aborts; objects are keyed by uid. */
export async function mirror(options: MirrorOptions): Promise<void> {
  const copy = new Copy(options)
  let failures = 0
  while (!options.signal.aborted) {
    try {
      for await (const event of options.client.watch(
        { kind: options.kind, ...copy.resume },
        { signal: options.signal },
      )) {
        copy.take(event)
        failures = 0
      }
    } catch (error) {
      if (options.signal.aborted) return
      // A position that a server does not take is no better later.
      if (isOpError(error, 'Expired') || isOpError(error, 'Invalid')) copy.forgetPosition()
      if (!isOpError(error, 'Expired'))
        options.log.warn('watch broke off', { kind: options.kind, error: String(error) })
      failures++
    }
    await sleep(options.clock, backoffMs(policy, failures, options.random.next()), options.signal)
  }
}

class Copy {
  resume: { resourceVersion?: string; incarnation?: string } = {}
  readonly #options: MirrorOptions
  #objects = new Map<string, MctlObject>()
  /** The list under way; undefined once it is whole. */
  #shadow: Map<string, MctlObject> | undefined = new Map()
  #incarnation = ''

  constructor(options: MirrorOptions) {
    this.#options = options
  }

  /** The next watch lists anew; what is held stays until that list is whole. */
  forgetPosition(): void {
    this.resume = {}
    this.#shadow = new Map()
  }

  take(event: WatchEvent): void {
    if (event.type === 'HEADER') {
      this.#incarnation = event.incarnation
      // A list that was cut half-way begins anew.
      if (this.#shadow !== undefined) this.#shadow = new Map()
      this.#options.onHeader?.(event)
      return
    }
    if (event.type === 'BOOKMARK') {
      if (this.#shadow !== undefined && event.initialEventsEnd) {
        this.#objects = this.#shadow
        this.#shadow = undefined
        this.#options.onChange(this.#objects)
      }
    } else this.#change(event.type, event.object)
    if (this.#shadow === undefined)
      this.resume = { resourceVersion: event.resourceVersion, incarnation: this.#incarnation }
  }

  #change(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: MctlObject): void {
    const target = this.#shadow ?? this.#objects
    if (type === 'DELETED') target.delete(object.metadata.uid)
    else target.set(object.metadata.uid, object)
    if (this.#shadow === undefined) this.#options.onChange(this.#objects)
  }
}
