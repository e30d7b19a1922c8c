/**
 * Which replica takes the next request: the one with the least in flight (ties: table order), never more at once than
 * its engine was planned for. What finds no place waits in its model's queue, first come first served.
 */
import type { Clock } from '../lib/clock.ts'
import type { Replica, RoutingTable } from './routes.ts'

export type NoLease =
  | { readonly kind: 'UnknownModel' }
  /** No replica is ready, or each one was tried and failed. */
  | { readonly kind: 'NoReplica' }
  | { readonly kind: 'QueueFull'; readonly waiting: number }
  | { readonly kind: 'ClientGone' }

export interface Lease {
  readonly kind: 'Lease'
  readonly replica: Replica
  /** Whether its replica has had no other request since this one came. */
  readonly isAlone: () => boolean
  /** Gives the place back; idempotent. */
  release(): void
}

interface Waiter {
  readonly excluded: ReadonlySet<string>
  readonly settle: (answer: Lease | NoLease) => void
}

export interface BalancerOptions {
  readonly clock: Clock
  /** Requests that may wait per model. */
  readonly queueMax: number
  /** How long a replica whose connection failed is left alone, unless the table names a new leader. */
  readonly suspectMs: number
}

export class Balancer {
  readonly #options: BalancerOptions
  readonly #inFlight = new Map<string, number>()
  /** Requests that each replica was ever given: tells whether another one came meanwhile. */
  readonly #turns = new Map<string, number>()
  readonly #suspectUntilMs = new Map<string, number>()
  readonly #queues = new Map<string, Waiter[]>()
  readonly #tableWaiters = new Set<() => void>()
  #table: RoutingTable = new Map()

  constructor(options: BalancerOptions) {
    this.#options = options
  }

  get table(): RoutingTable {
    return this.#table
  }

  setTable(table: RoutingTable): void {
    this.#table = table
    const uids = new Set([...table.values()].flat().map((r) => r.shardUid))
    for (const uid of this.#suspectUntilMs.keys()) if (!uids.has(uid)) this.#suspectUntilMs.delete(uid)
    for (const uid of this.#turns.keys()) if (!uids.has(uid)) this.#turns.delete(uid)
    for (const model of this.#queues.keys()) this.#serveQueue(model)
    for (const wake of [...this.#tableWaiters]) wake()
  }

  /** Resolves with the next table, after `timeoutMs` without one, or when the signal aborts. */
  nextTable(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        timer.cancel()
        signal.removeEventListener('abort', wake)
        this.#tableWaiters.delete(wake)
        resolve()
      }
      const timer = this.#options.clock.after(timeoutMs, wake)
      this.#tableWaiters.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }

  /** A place at a replica of `model` outside `excluded`, now or after waiting. Never throws. */
  acquire(model: string, excluded: ReadonlySet<string>, signal: AbortSignal): Promise<Lease | NoLease> {
    const now = this.#tryLease(model, excluded)
    if (now.kind !== 'Busy') return Promise.resolve(now)
    const queue = this.#queues.get(model) ?? []
    if (queue.length >= this.#options.queueMax) return Promise.resolve({ kind: 'QueueFull', waiting: queue.length })
    this.#queues.set(model, queue)
    return new Promise((resolve) => {
      const leave = () => {
        queue.splice(queue.indexOf(waiter), 1)
        resolve({ kind: 'ClientGone' })
      }
      const waiter: Waiter = {
        excluded,
        settle: (answer) => {
          signal.removeEventListener('abort', leave)
          resolve(answer)
        },
      }
      queue.push(waiter)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  /** The replica's connection failed: it is left alone for a while. */
  suspect(replica: Replica): void {
    const { clock, suspectMs } = this.#options
    this.#suspectUntilMs.set(replica.shardUid, clock.monotonicMs() + suspectMs)
    // Those who wait for this replica alone must hear now that there is none.
    for (const model of this.#queues.keys()) this.#serveQueue(model)
  }

  inFlight(): number {
    return [...this.#inFlight.values()].reduce((sum, n) => sum + n, 0)
  }

  waiting(): number {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.length, 0)
  }

  /** Requests at each replica of the table. */
  loads(): readonly { readonly shardUid: string; readonly inFlight: number }[] {
    const uids = new Set([...this.#table.values()].flat().map((r) => r.shardUid))
    return [...uids].map((shardUid) => ({ shardUid, inFlight: this.#inFlight.get(shardUid) ?? 0 }))
  }

  /** Requests that wait, of each model of the table. */
  queues(): readonly { readonly servedName: string; readonly waiting: number }[] {
    return [...this.#table.keys()].map((servedName) => ({
      servedName,
      waiting: this.#queues.get(servedName)?.length ?? 0,
    }))
  }

  #tryLease(model: string, excluded: ReadonlySet<string>): Lease | NoLease | { readonly kind: 'Busy' } {
    const replicas = this.#table.get(model)
    if (replicas === undefined) return { kind: 'UnknownModel' }
    const nowMs = this.#options.clock.monotonicMs()
    const usable = replicas.filter(
      (r) => !excluded.has(r.shardUid) && (this.#suspectUntilMs.get(r.shardUid) ?? 0) <= nowMs,
    )
    if (usable.length === 0) return { kind: 'NoReplica' }
    const free = usable.filter((r) => this.#load(r) < r.concurrency)
    if (free.length === 0) return { kind: 'Busy' }
    return this.#lease(
      model,
      free.reduce((best, r) => (this.#load(r) < this.#load(best) ? r : best)),
    )
  }

  #load(replica: Replica): number {
    return this.#inFlight.get(replica.shardUid) ?? 0
  }

  #lease(model: string, replica: Replica): Lease {
    const before = this.#load(replica)
    const turn = (this.#turns.get(replica.shardUid) ?? 0) + 1
    this.#inFlight.set(replica.shardUid, before + 1)
    this.#turns.set(replica.shardUid, turn)
    const isAlone = () => before === 0 && this.#turns.get(replica.shardUid) === turn
    let held = true
    const release = () => {
      if (!held) return
      held = false
      const left = this.#load(replica) - 1
      if (left > 0) this.#inFlight.set(replica.shardUid, left)
      else this.#inFlight.delete(replica.shardUid)
      this.#serveQueue(model)
    }
    return { kind: 'Lease', replica, isAlone, release }
  }

  #serveQueue(model: string): void {
    const queue = this.#queues.get(model) ?? []
    const stillWaiting: Waiter[] = []
    for (const waiter of queue.splice(0)) {
      const answer = this.#tryLease(model, waiter.excluded)
      if (answer.kind === 'Busy') stillWaiting.push(waiter)
      else waiter.settle(answer)
    }
    queue.push(...stillWaiting)
    if (queue.length === 0) this.#queues.delete(model)
  }
}
