/**
 * What is being read, and what reading found, per Sync. Reading takes seconds, so it happens beside the transactions: a
 * pass asks for it, its end wakes the key. Only memory knows it: a restarted server reads anew.
 */
import type { Sync } from '../api/sync.ts'
import { PREVIEW_ANNOTATION, REQUEST_ANNOTATION, sourceName } from '../api/sync.ts'
import type { BackoffPolicy } from '../lib/backoff.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import type { ReadRequest, SourceReader, SourceReading } from './reader.ts'

/** Mostly waiting for a network; a source that stalls must not hold up the others. */
const MAX_READINGS = 4
const JITTER = 0.1
const retry: BackoffPolicy = { firstMs: 5_000, factor: 2, maxMs: 10 * 60_000, jitter: JITTER }

export interface ReadingDoors {
  readonly reader: SourceReader
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** What a reading was asked for; another one makes it stale. */
interface Asked {
  readonly source: string
  readonly request?: string
  readonly preview?: string
  readonly lastApplied?: string
}

export interface Finished {
  readonly reading: SourceReading
  readonly asked: Asked
  readonly startedMs: number
  readonly endedMs: number
}

interface State {
  finished: Finished | undefined
  running: boolean
  /** Monotonic ms of the next look; -Infinity: at once. */
  dueMs: number
  failures: number
}

export class Readings {
  readonly #doors: ReadingDoors
  readonly #onEnd: (key: string, finished: Finished | undefined) => void
  readonly #states = new Map<string, State>()
  readonly #stop = new AbortController()
  readonly #running = new Set<Promise<void>>()

  /** `onEnd` is told when a reading has ended, with what is known now. */
  constructor(doors: ReadingDoors, onEnd: (key: string, finished: Finished | undefined) => void) {
    this.#doors = doors
    this.#onEnd = onEnd
  }

  /** What was read of the source as the spec names it now; undefined while nothing was. */
  of(key: string, sync: Sync): Finished | undefined {
    const finished = this.#states.get(key)?.finished
    return finished?.asked.source === fingerprint(sync) ? finished : undefined
  }

  /** Something may have changed: the next `start` reads. A hint, never evidence. */
  hint(key: string): void {
    this.#state(key).dueMs = -Infinity
  }

  /** Starts a reading when one is due; answers how long until the next is, undefined while one runs. */
  start(key: string, sync: Sync): number | undefined {
    const state = this.#state(key)
    const { clock } = this.#doors
    if (state.running || this.#stop.signal.aborted) return undefined
    const leftMs = this.#isAskedFor(state, sync) ? 0 : state.dueMs - clock.monotonicMs()
    if (leftMs > 0) return leftMs
    if (this.#running.size >= MAX_READINGS) return 200
    const run: Promise<void> = this.#read(key, sync, state).finally(() => this.#running.delete(run))
    this.#running.add(run)
    return undefined
  }

  forget(key: string): void {
    this.#states.delete(key)
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#running)
  }

  /** For tests and a clean end: resolves when nothing is being read. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  #state(key: string): State {
    const old = this.#states.get(key)
    if (old !== undefined) return old
    const fresh: State = { finished: undefined, running: false, dueMs: -Infinity, failures: 0 }
    this.#states.set(key, fresh)
    return fresh
  }

  /** The source is another one, or a person has asked since the last reading began. */
  #isAskedFor({ finished }: State, sync: Sync): boolean {
    if (finished === undefined) return true
    const asked = askedOf(sync)
    const { source, request, preview } = finished.asked
    return asked.source !== source || asked.request !== request || asked.preview !== preview
  }

  async #read(key: string, sync: Sync, state: State): Promise<void> {
    const { reader, clock, random, log } = this.#doors
    const asked = askedOf(sync)
    const startedMs = clock.monotonicMs()
    state.running = true
    // A hint that comes while this one reads asks for another one.
    state.dueMs = Infinity
    try {
      const reading = await reader.read(requestOf(sync, asked), this.#stop.signal)
      state.finished = { reading, asked, startedMs, endedMs: clock.monotonicMs() }
      state.failures = reading.failure?.reason === 'FetchFailed' ? state.failures + 1 : 0
    } catch (error) {
      state.failures += 1
      if (!isOpError(error, 'Cancelled'))
        log.error('a source could not be read', { sync: key, error: messageOf(error) })
    }
    state.running = false
    const intervalMs = sync.spec.intervalSeconds * 1000 * (1 + JITTER * random.next())
    const backoff = state.failures === 0 ? Infinity : backoffMs(retry, state.failures, random.next())
    state.dueMs = Math.min(state.dueMs, clock.monotonicMs() + Math.min(intervalMs, backoff))
    if (!this.#stop.signal.aborted) this.#onEnd(key, state.finished)
  }
}

function askedOf({ metadata, spec, status }: Sync): Asked {
  const { [REQUEST_ANNOTATION]: request, [PREVIEW_ANNOTATION]: preview } = metadata.annotations ?? {}
  const isSame = status?.source === sourceName(spec.source)
  return {
    source: fingerprint({ spec }),
    ...(request === undefined ? {} : { request }),
    ...(preview === undefined ? {} : { preview }),
    ...(isSame && status.lastAppliedRevision !== undefined ? { lastApplied: status.lastAppliedRevision } : {}),
  }
}

const fingerprint = ({ spec }: Pick<Sync, 'spec'>): string => JSON.stringify(spec.source)

const requestOf = ({ metadata, spec }: Sync, { lastApplied }: Asked): ReadRequest => ({
  name: metadata.name,
  uid: metadata.uid,
  source: spec.source,
  ...(lastApplied === undefined ? {} : { lastApplied }),
})
