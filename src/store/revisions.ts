/**
 * Revisions are taken from blocks that were reserved in the database file itself, WAL flushed and truncated. A power
 * loss may cost the WAL's tail, and with it revisions that clients have seen; the next start begins above the last
 * reserved block, so none of them is ever used again.
 */
import { OpError } from '../lib/errors.ts'
import type { MetaKey, Tables } from './tables.ts'

/** A restored backup begins at least this far above what it knows of: the cluster that it was taken from has gone on. */
export const RESTORE_BUMP = 1e9
/** A copy that nobody restored yet; else the mark is the revision from which the restored one counts. */
export const COPIED = '1'
/** As many revisions a second as no cluster writes: of two restores of one copy, the later one begins above. */
const REVISIONS_PER_MS = 1_000
/** A clock that is wrong by a century must not use up what can be counted exactly. */
const TIME_REVISION_MAX = 2 ** 52

export class Revisions {
  /** The first revision of this incarnation: nothing was written under it yet. */
  readonly opened: number
  /** The newest revision that an earlier incarnation is known to have given out; those between are of a lost tail. */
  readonly known: number
  readonly #tables: Tables
  readonly #block: number
  #reserved: number

  constructor(tables: Tables, block: number, nowMs: number) {
    const restored = tables.meta('restored')
    this.#tables = tables
    this.#block = block
    this.known = knownRevision(tables)
    this.#reserved = reservedRevision(tables)
    this.opened =
      restored === undefined
        ? this.#reserved
        : Math.max(this.#reserved, restored === COPIED ? revisionForRestore(tables, nowMs) : Number(restored))
    this.#tables.inTransaction(() => {
      tables.setMeta('openedRevision', String(this.opened))
      if (restored !== undefined) tables.setMeta('compactedRevision', String(this.opened))
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

/** From where on a restored copy counts when nothing is known of other restores of it. */
export const revisionForRestore = (tables: Tables, nowMs: number): number =>
  Math.max(
    Math.max(reservedRevision(tables), metaNumber(tables, 'restored')) + RESTORE_BUMP,
    Math.min(nowMs * REVISIONS_PER_MS, TIME_REVISION_MAX),
  )

const metaNumber = (tables: Tables, key: MetaKey): number => Number(tables.meta(key) ?? 0)

const knownRevision = (tables: Tables): number =>
  Math.max(tables.lastRevision(), metaNumber(tables, 'openedRevision'), metaNumber(tables, 'compactedRevision'))

const reservedRevision = (tables: Tables): number =>
  Math.max(knownRevision(tables), metaNumber(tables, 'reservedRevision'))
