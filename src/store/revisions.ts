/**
 * Revisions are taken from blocks that were reserved in the database file itself, WAL flushed and truncated. A power
 * loss may cost the WAL's tail, and with it revisions that clients have seen; the next start begins above the last
 * reserved block, so none of them is ever used again.
 */
import { OpError } from '../lib/errors.ts'
import type { Tables } from './tables.ts'

/** A restored backup begins this far above what it knows of: the cluster that it was taken from has gone on. */
const RESTORE_BUMP = 1e9

export class Revisions {
  /** The first revision of this incarnation: nothing was written under it yet. */
  readonly opened: number
  /** The newest revision that an earlier incarnation is known to have given out; those between are of a lost tail. */
  readonly known: number
  readonly #tables: Tables
  readonly #block: number
  #reserved: number

  constructor(tables: Tables, block: number) {
    const number = (text: string | undefined) => Number(text ?? 0)
    const compacted = number(tables.meta('compactedRevision'))
    const restored = tables.meta('restored') !== undefined
    this.#tables = tables
    this.#block = block
    this.known = Math.max(tables.lastRevision(), number(tables.meta('openedRevision')), compacted)
    this.#reserved = Math.max(this.known, number(tables.meta('reservedRevision')))
    this.opened = this.#reserved + (restored ? RESTORE_BUMP : 0)
    this.#tables.inTransaction(() => {
      tables.setMeta('openedRevision', String(this.opened))
      if (restored) tables.setMeta('compactedRevision', String(this.opened))
      tables.deleteMeta('restored')
    })
    this.reserveAbove(this.opened)
  }

  /**
   * The highest revision that may be used by a transaction, at least a block above `last`. OpError Unavailable when
   * the reservation cannot be made durable.
   */
  reserveAbove(last: number): number {
    if (this.#reserved - last >= 2 * this.#block) return this.#reserved
    const reserved = last + 3 * this.#block
    this.#tables.setMeta('reservedRevision', String(reserved))
    if (this.#tables.checkpoint()) this.#reserved = reserved
    if (this.#reserved - last < this.#block)
      throw new OpError('Unavailable', 'reserve revisions: the database file is busy; end what else has it open')
    return this.#reserved
  }

  /** One transaction may need a whole block. */
  hasRoom(last: number): boolean {
    return this.#reserved - last >= this.#block
  }

  /** A revision that only a lost tail can have given out: whoever knows it has seen what never was. */
  isLost(revision: number): boolean {
    return revision > this.known && revision < this.opened
  }
}
