/**
 * Watches: each has a bounded queue of committed changes, filled in the turn of the commit. A watcher registers before
 * it reads the initial state or the log, and both end at that very revision: no gap, nothing twice.
 */
import type { ObjectOf } from '../api/objects.ts'
import type { OpError } from '../lib/errors.ts'
import { unresponsive } from './refusals.ts'
import type { Change } from './store.ts'

export const MAX_PENDING = 1_000

export class Watcher {
  readonly #wanted: (kind: string) => boolean
  readonly #maxPending: number
  #pending: Change[] = []
  #taken = 0
  #failure: OpError | undefined
  #ended = false
  #wake: (() => void) | undefined

  constructor(kinds: readonly (keyof ObjectOf)[] | undefined, maxPending: number) {
    const set: ReadonlySet<string> | undefined = kinds === undefined ? undefined : new Set(kinds)
    this.#wanted = set === undefined ? () => true : (kind) => set.has(kind)
    this.#maxPending = maxPending
  }

  wants(kind: string): boolean {
    return this.#wanted(kind)
  }

  /** Never blocks: whoever does not keep up is closed, and lists again. */
  offer(changes: readonly Change[]): void {
    if (this.#failure !== undefined || this.#ended) return
    for (const change of changes) if (this.#wanted(change.object.kind)) this.#pending.push(change)
    const waiting = this.#pending.length - this.#taken
    if (waiting > this.#maxPending) this.fail(unresponsive(waiting))
    else if (waiting > 0) this.#wakeUp()
  }

  fail(failure: OpError): void {
    this.#failure = failure
    this.#pending = []
    this.#taken = 0
    this.#wakeUp()
  }

  end(): void {
    this.#ended = true
    this.#wakeUp()
  }

  /** Throws when the watch was closed; false when it has ended: nothing more is to be delivered. */
  goesOn(): boolean {
    if (!this.#ended && this.#failure !== undefined) throw this.#failure
    return !this.#ended
  }

  /** The next change; undefined at the end. Throws what the watch was closed with. */
  async take(): Promise<Change | undefined> {
    while (this.goesOn()) {
      const change = this.#pending[this.#taken]
      if (change !== undefined) {
        this.#taken++
        if (this.#taken === this.#pending.length || this.#taken > this.#maxPending) {
          this.#pending = this.#pending.slice(this.#taken)
          this.#taken = 0
        }
        return change
      }
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return undefined
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
