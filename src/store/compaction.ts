/**
 * Forgetting: the log's oldest rows go in slices, each in a turn of its own, because SQLite is synchronous and a ms in
 * it is a ms without heartbeats.
 */
import { nextTurn } from '../lib/clock.ts'
import type { OldRow, Tables } from './tables.ts'
import { SLICE_ROWS } from './tables.ts'

/** Pages given back to the file system after each slice. */
const SHRINK_PAGES = 64

/** What the log keeps whatever its size and age. */
export interface Keep {
  readonly rows: number
  readonly ms: number
}

export class Compaction {
  readonly #tables: Tables
  readonly #isOpen: () => boolean
  #compacted: number
  #rows: number

  constructor(tables: Tables, isOpen: () => boolean) {
    this.#tables = tables
    this.#isOpen = isOpen
    this.#compacted = Number(tables.meta('compactedRevision') ?? 0)
    this.#rows = tables.logRows()
  }

  /** Changes up to this revision are forgotten. */
  get revision(): number {
    return this.#compacted
  }

  get rows(): number {
    return this.#rows
  }

  appended(rows: number): void {
    this.#rows += rows
  }

  /** Forgets everything up to `revision`. */
  async compact(revision: number): Promise<void> {
    await this.#forget((oldest) => oldest.filter((row) => row.revision <= revision).length)
    if (!this.#isOpen() || revision <= this.#compacted) return
    this.#tables.trim(revision)
    this.#compacted = revision
  }

  /** Forgets what is neither among the newest rows nor young. */
  async keep({ rows, ms }: Keep, nowMs: number): Promise<void> {
    await this.#forget((oldest) => {
      const spare = oldest.slice(0, Math.max(0, this.#rows - rows))
      const young = spare.findIndex((row) => row.at_ms > nowMs - ms)
      return young === -1 ? spare.length : young
    })
  }

  /** `spare` says how many of the oldest rows may go. */
  async #forget(spare: (oldest: readonly OldRow[]) => number): Promise<void> {
    while (this.#isOpen()) {
      const oldest = this.#tables.oldest(SLICE_ROWS)
      const last = oldest[spare(oldest) - 1]
      if (last === undefined) return
      this.#rows -= this.#tables.trim(last.revision)
      this.#compacted = last.revision
      this.#tables.shrink(SHRINK_PAGES)
      await new Promise<void>((resolve) => nextTurn(resolve))
    }
  }
}
