/**
 * The store's promise, free of SQLite: snapshot, transact, watch. The same door must be able to stand on etcd
 * (snapshot + compare-and-swap), so nothing outside this room may assume more than what is written here.
 * The write door for objects (defaults, validation, managers, preconditions) is `objects.ts`, on top of `Tx`.
 */
import type { MctlObject, ObjectKey } from '../api/meta.ts'
import type { ObjectOf } from '../api/objects.ts'
import type { OpError } from '../lib/errors.ts'

/** A consistent state at one revision. Objects are deeply frozen: share them, never change them. */
export interface Snapshot {
  readonly revision: number
  get<K extends keyof ObjectOf>(kind: K, namespace: string, name: string): ObjectOf[K] | undefined
  getByUid(uid: string): MctlObject | undefined
  /** In order of namespace, then name. `namespace` absent: all. */
  list<K extends keyof ObjectOf>(kind: K, namespace?: string): readonly ObjectOf[K][]
  /** Objects whose ownerReferences name this uid, of any kind. */
  ownedBy(ownerUid: string): readonly MctlObject[]
}

/** A transaction: reads see its own writes and those of transactions that ran before it, committed or about to be. */
export interface Tx extends Snapshot {
  /** Time of the transaction: the only clock that its function may read. */
  readonly nowMs: number
  newUid(): string
  /**
   * Writes the object under its key and returns it frozen with the new resourceVersion. Raw: no defaults, validation
   * or managers (those are objects.ts'). An object that is equal but for resourceVersion is returned as it is, and
   * makes no revision.
   */
  put<T extends MctlObject>(object: T): T
  /**
   * Runs `run` on this transaction, admits what it wrote, undoes it and returns its result: a dry run. Its revisions
   * are given back; a throw goes on to the caller.
   */
  rehearse<T>(run: () => T): T
  /** Removes the object; its last state goes into the log as DELETED under a new revision. NotFound when absent. */
  remove(key: ObjectKey): void
}

export type ChangeType = 'ADDED' | 'MODIFIED' | 'DELETED'

/** One committed change. `object` of DELETED is the last state, its resourceVersion that of the deletion. */
export interface Change {
  readonly type: ChangeType
  readonly revision: number
  readonly object: MctlObject
  /** State before, for selectors that an object enters or leaves; absent on ADDED and on what was read back from the log. */
  readonly previous?: MctlObject
}

export type WatchFrame =
  | Change
  /** `initialEventsEnd`: everything that existed when the watch began has been sent. */
  | { readonly type: 'BOOKMARK'; readonly revision: number; readonly initialEventsEnd: boolean }

export interface WatchOptions {
  /** Absent: all kinds. */
  readonly kinds?: readonly (keyof ObjectOf)[]
  /**
   * 'initial': the present state as ADDED, then a bookmark with initialEventsEnd, then changes.
   * A revision: every change after it; OpError Expired when it is compacted or of the future.
   */
  readonly from: 'initial' | number
  readonly signal: AbortSignal
  /** Undelivered changes after which the watch ends with OpError Expired ("due to unresponsiveness"). Default 1,000. */
  readonly maxPending?: number
}

export interface StoreStats {
  readonly revision: number
  readonly compactedRevision: number
  readonly objects: number
  readonly logRows: number
}

export interface Store {
  /** New at each start and each restore: a client that knows another one must relist. */
  readonly incarnation: string
  /** Of the cluster, for ever: an agent obeys one cluster only. */
  readonly clusterUid: string
  /**
   * Runs `run` (synchronous, pure in its reads and writes: it may run again) and resolves with its result once the
   * writes are durable. A throw rolls back its writes alone. Transactions that are waiting share one commit.
   */
  transact<T>(run: (tx: Tx) => T): Promise<T>
  /** The last committed state; a plain synchronous read. */
  snapshot(): Snapshot
  /** Frames in order, once each, resumable at any revision. Aborting `signal` ends it without an error. */
  watch(options: WatchOptions): AsyncIterable<WatchFrame>
  /** Called in order after each commit, in the same turn. Must not throw or block; for queues of keys. */
  onCommit(listener: (changes: readonly Change[]) => void): () => void
  /** Forgets log rows up to `revision` in slices that block for no more than a few ms; resolves when done. */
  compact(revision: number): Promise<void>
  /** A consistent copy into `file` by SQLite's online backup, while serving. */
  backup(file: string): Promise<void>
  stats(): StoreStats
  /**
   * Resolves when the disk failed in a way that leaves the last commit in doubt. From then on every call is refused: only
   * a new start can find out what is true.
   */
  readonly failed: Promise<OpError>
  close(): Promise<void>
}
