/**
 * The store on SQLite: transactions that wait together run one after the other in memory, are written by one durable
 * SQLite transaction, and only then become visible to snapshots, watches and listeners, in that order.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { keyOf, keyString } from '../api/meta.ts'
import { kindNames } from '../api/kinds.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { every } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import { backUp } from './backup.ts'
import { LiveObjects, Version } from './cache.ts'
import type { Keep } from './compaction.ts'
import { Compaction } from './compaction.ts'
import { ensureDataDir, openDatabase, STORE_FILE } from './database.ts'
import { expireEvents } from './events.ts'
import { Gathering } from './gather.ts'
import { deepFreeze } from './json.ts'
import type { DirectoryLock } from './lock.ts'
import { lockDirectory } from './lock.ts'
import { migrate } from './migrations/index.ts'
import { tooNew, tooOld } from './refusals.ts'
import { Revisions } from './revisions.ts'
import type { Change, Snapshot, Store, StoreStats, Tx, WatchFrame, WatchOptions } from './store.ts'
import { SLICE_ROWS, Tables } from './tables.ts'
import type { Admit } from './transaction.ts'
import { Draft } from './transaction.ts'
import { MAX_PENDING, Watcher } from './watch.ts'

export interface OpenOptions {
  /** Made with mode 0700 when absent; ':memory:' keeps nothing. */
  readonly dataDir: string | ':memory:'
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Refuses transactions (and dry runs) by what they changed; for checks that need more than the object itself. */
  readonly admit?: Admit
  /** What the log keeps whatever its size and age. Default 10,000 rows and one hour. */
  readonly keep?: Keep
  /** How often old log rows and events are looked for. Default one minute. */
  readonly upkeepMs?: number
  /** Revisions reserved at a time, and the most changes that one transaction may make. Default 10,000. */
  readonly revisionBlock?: number
  /** Called at each point of each commit: where the simulator kills the server and fills the disk. */
  readonly atPoint?: (point: CommitPoint) => void
}

const KEEP: Keep = { rows: 10_000, ms: 3_600_000 }
/** One commit takes what is waiting, up to this many transactions or this long: a turn must stay short. */
const BATCH_TRANSACTIONS = 256
const BATCH_MS = 10

/**
 * Named points of a commit. `BeforeCommit`: its rows are written and not durable; a throw is taken as the disk's refusal.
 * `AfterCommit`: it is durable, and nobody was told.
 */
export type CommitPoint = 'BeforeCommit' | 'AfterCommit'

interface Job {
  readonly run: (tx: Tx) => unknown
  readonly resolve: (result: never) => void
  readonly reject: (error: unknown) => void
}

/**
 * Opens (or makes) the store and takes the data directory's lock. OpError Unavailable when another process owns it or
 * the files cannot be read, Unimplemented when a newer mctl has written them.
 */
export async function openStore(options: OpenOptions): Promise<Store> {
  const { dataDir, clock } = options
  const durable = dataDir !== ':memory:'
  if (durable) ensureDataDir(dataDir)
  const lock = durable ? lockDirectory(dataDir) : undefined
  let db: Database.Database | undefined
  try {
    db = openDatabase(dataDir)
    migrate(db, durable ? join(dataDir, STORE_FILE) : dataDir, clock.nowMs())
    return new SqliteStore(options, db, lock)
  } catch (error) {
    db?.close()
    lock?.release()
    throw error
  }
}

class SqliteStore implements Store {
  readonly incarnation: string
  readonly clusterUid: string
  readonly #options: OpenOptions
  readonly #db: Database.Database
  readonly #lock: DirectoryLock | undefined
  readonly #tables: Tables
  readonly #revisions: Revisions
  readonly #compaction: Compaction
  readonly #live = new LiveObjects()
  readonly #watchers = new Set<Watcher>()
  readonly #listeners = new Set<(changes: readonly Change[]) => void>()
  readonly #upkeep = new AbortController()
  readonly #gathering: Gathering
  #version: Version
  #waiting: Job[] = []
  /** Set once: closed, or the disk failed in a way that leaves the last commit in doubt. */
  #unavailable: OpError | undefined
  #tellFailed: (failure: OpError) => void = () => {}
  readonly failed = new Promise<OpError>((resolve) => (this.#tellFailed = resolve))

  constructor(options: OpenOptions, db: Database.Database, lock: DirectoryLock | undefined) {
    this.#options = options
    this.#db = db
    this.#lock = lock
    this.#tables = new Tables(db)
    this.incarnation = options.random.uuid()
    this.clusterUid = this.#tables.meta('clusterUid') ?? options.random.uuid()
    this.#tables.setMeta('clusterUid', this.clusterUid)
    // Flushes the WAL, so that no torn one makes another cluster of this: its agents would refuse it.
    this.#revisions = new Revisions(this.#tables, options.revisionBlock ?? 10_000, options.clock.nowMs())
    for (const object of this.#tables.objects()) this.#live.replace(keyString(keyOf(object)), deepFreeze(object))
    this.#version = new Version(this.#live, this.#revisions.opened)
    this.#compaction = new Compaction(this.#tables, () => this.#unavailable === undefined)
    this.#gathering = new Gathering(options.clock, () => this.#commitTurn())
    void every(options.clock, options.upkeepMs ?? 60_000, this.#upkeep.signal, () => this.#keepUp())
  }

  transact<T>(run: (tx: Tx) => T): Promise<T> {
    if (this.#unavailable !== undefined) return Promise.reject(this.#unavailable)
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ run, resolve, reject })
      this.#gathering.onWaiting(this.#waiting.length)
    })
  }

  snapshot(): Snapshot {
    return this.#version
  }

  onCommit(listener: (changes: readonly Change[]) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async *watch(options: WatchOptions): AsyncGenerator<WatchFrame, void, undefined> {
    if (options.signal.aborted) return
    if (this.#unavailable !== undefined) throw this.#unavailable
    const watcher = new Watcher(options.kinds, options.maxPending ?? MAX_PENDING)
    const end = () => watcher.end()
    options.signal.addEventListener('abort', end, { once: true })
    this.#watchers.add(watcher)
    try {
      if (options.from === 'initial') yield* this.#initialFrames(watcher, options.kinds ?? kindNames)
      else yield* this.#loggedFrames(watcher, options.from)
      for (let change = await watcher.take(); change !== undefined; change = await watcher.take()) yield change
    } finally {
      this.#watchers.delete(watcher)
      options.signal.removeEventListener('abort', end)
    }
  }

  compact(revision: number): Promise<void> {
    return this.#compaction.compact(Math.min(revision, this.#version.revision))
  }

  backup(file: string): Promise<void> {
    return backUp(this.#db, file)
  }

  stats(): StoreStats {
    return {
      revision: this.#version.revision,
      compactedRevision: this.#compaction.revision,
      objects: this.#live.size,
      logRows: this.#compaction.rows,
    }
  }

  close(): Promise<void> {
    if (!this.#db.open) return Promise.resolve()
    this.#gathering.stop()
    while (this.#waiting.length > 0) this.#commitWaiting()
    this.#upkeep.abort()
    this.#fail(new OpError('Unavailable', 'the store is closed'))
    this.#db.close()
    this.#lock?.release()
    return Promise.resolve()
  }

  #commitTurn(): void {
    if (this.#waiting.length > 0) this.#commitWaiting()
    if (this.#waiting.length > 0) this.#gathering.onWaiting(this.#waiting.length)
  }

  /** Runs the transactions that wait, commits, publishes, and only then settles their promises. */
  #commitWaiting(): void {
    const settle: (() => void)[] = []
    const jobs: Job[] = []
    try {
      if (this.#unavailable !== undefined) throw this.#unavailable
      const draft = this.#draft()
      this.#runWaiting(draft, jobs, settle)
      this.#commit(draft, jobs.length)
    } catch (error) {
      if (jobs.length === 0) jobs.push(...this.#waiting.splice(0))
      for (const job of jobs) job.reject(error)
      return
    }
    for (const run of settle) run()
  }

  #draft(): Draft {
    const { clock, random, admit } = this.#options
    return new Draft({
      live: this.#live,
      base: this.#version,
      revisionMax: this.#revisions.reserveAbove(this.#version.revision),
      nowMs: clock.nowMs(),
      newUid: () => random.uuid(),
      admit,
    })
  }

  #runWaiting(draft: Draft, jobs: Job[], settle: (() => void)[]): void {
    const startMs = this.#options.clock.monotonicMs()
    const mayGoOn = () =>
      jobs.length < BATCH_TRANSACTIONS &&
      this.#options.clock.monotonicMs() - startMs < BATCH_MS &&
      this.#revisions.hasRoom(draft.revision)
    for (const job of this.#waiting) {
      if (jobs.length > 0 && !mayGoOn()) break
      jobs.push(job)
      try {
        const result = draft.run(job.run)
        settle.push(() => job.resolve(result as never))
      } catch (error) {
        settle.push(() => job.reject(error))
      }
    }
    this.#waiting.splice(0, jobs.length)
  }

  #commit(draft: Draft, transactions: number): void {
    const { changes } = draft
    const { clock } = this.#options
    if (changes.length === 0) {
      this.#gathering.onCommitted(transactions, 0)
      return this.#version.reinstate()
    }
    const startMs = clock.monotonicMs()
    const { atPoint } = this.#options
    try {
      this.#tables.write(changes, draft.options.nowMs, () => atPoint?.('BeforeCommit'))
    } catch (error) {
      draft.undoTo(0)
      this.#version.reinstate()
      throw this.#afterFailedWrite(error)
    }
    atPoint?.('AfterCommit')
    this.#gathering.onCommitted(transactions, clock.monotonicMs() - startMs)
    this.#compaction.appended(changes.length)
    this.#version = this.#version.succeed(draft.revision)
    for (const watcher of this.#watchers) watcher.offer(changes)
    for (const listener of this.#listeners) this.#tell(listener, changes)
  }

  /** A full disk rolls back cleanly and may have room later; after any other failure nobody knows what the disk holds. */
  #afterFailedWrite(error: unknown): OpError {
    this.#options.log.error('commit failed', { error })
    const failure = new OpError('Unavailable', 'write to the store', { cause: error })
    const code = error instanceof Database.SqliteError ? error.code : ''
    if (code === 'SQLITE_FULL' || code.startsWith('SQLITE_BUSY')) return failure
    this.#fail(failure)
    this.#tellFailed(failure)
    return failure
  }

  #fail(failure: OpError): void {
    this.#unavailable = failure
    for (const watcher of this.#watchers) watcher.fail(failure)
  }

  /** A listener that throws is a bug: the commit stands, and the process ends by the uncaught error. */
  #tell(listener: (changes: readonly Change[]) => void, changes: readonly Change[]): void {
    try {
      listener(changes)
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }

  *#initialFrames(watcher: Watcher, kinds: readonly (typeof kindNames)[number][]): Generator<WatchFrame> {
    const version = this.#version
    for (const object of version.all(kinds)) {
      if (!watcher.goesOn()) return
      yield { type: 'ADDED', revision: Number(object.metadata.resourceVersion), object }
    }
    if (watcher.goesOn()) yield { type: 'BOOKMARK', revision: version.revision, initialEventsEnd: true }
  }

  /** Changes after `from` out of the log, page by page, up to the revision at which the watcher was registered. */
  *#loggedFrames(watcher: Watcher, from: number): Generator<WatchFrame> {
    const upTo = this.#version.revision
    if (from > upTo) throw tooNew(from, upTo)
    if (this.#revisions.isLost(from)) throw tooOld(from, this.#revisions.opened)
    for (let position = from; position < upTo;) {
      if (!watcher.goesOn()) return
      if (position < this.#compaction.revision) throw tooOld(position, this.#compaction.revision)
      const { changes, to } = this.#tables.changes(position, upTo, (kind) => watcher.wants(kind))
      for (const change of changes) {
        if (!watcher.goesOn()) return
        yield change
      }
      position = to
    }
  }

  async #keepUp(): Promise<void> {
    const { clock, log, keep = KEEP } = this.#options
    try {
      while ((await this.transact((tx) => expireEvents(tx, SLICE_ROWS))) > 0);
      await this.#compaction.keep(keep, clock.nowMs())
    } catch (error) {
      if (this.#db.open) log.error('upkeep failed', { error })
    }
  }
}
