/**
 * Executes the actions that a pass decided on, at most one of a shard at a time and each apart from the others. The
 * notes that they leave about shards are kept here.
 */
import type { Clock } from '../src/lib/clock.ts'
import { messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import type { Action } from './actions.ts'
import type { ExecutorDoors, Notes } from './executors/doors.ts'
import { emptyNotes } from './executors/doors.ts'
import { execute, exitOfFailure, shardNameOf, shardUidOf } from './executors/index.ts'
import type { Fetcher } from './fetch/fetcher.ts'
import type { Hosts } from './hosts.ts'

export interface ExecutionDoors {
  readonly hosts: Hosts
  readonly fetcher?: Fetcher | undefined
  readonly clusterUid: () => string
  readonly clock: Clock
  readonly log: Logger
  /** An action has ended. `again`: there is something new to decide on. */
  readonly onEnd: (again: boolean) => void
}

export class Execution {
  readonly #doors: ExecutionDoors
  readonly notes: Notes = emptyNotes()

  constructor(doors: ExecutionDoors) {
    this.#doors = doors
  }

  /** Begins the action unless another one of its shard is underway; a stop does not wait for that. */
  begin(action: Action): void {
    const uid = shardUidOf(action)
    if (this.notes.busy.has(uid) && action.kind !== 'stopShard') return
    this.notes.busy.add(uid)
    void this.#run(action, uid)
  }

  /** Forgets the notes of shards that are neither wanted nor here. */
  keepOnly(isKnown: (shardUid: string) => boolean): void {
    const { failures, started, stopsAsked } = this.notes
    for (const uid of [...failures.keys(), ...started, ...stopsAsked.keys()]) {
      if (isKnown(uid)) continue
      failures.delete(uid)
      started.delete(uid)
      stopsAsked.delete(uid)
    }
  }

  async #run(action: Action, uid: string): Promise<void> {
    const { hosts, fetcher, clusterUid, clock, log, onEnd } = this.#doors
    const { busy, failures } = this.notes
    const facts = { action: action.kind, shard: shardNameOf(action), uid }
    const doors: ExecutorDoors = { hosts, fetcher, notes: this.notes, clusterUid }
    let again = true
    try {
      await execute(doors, action)
      log.info('action done', { ...facts, ...reasonOf(action) })
    } catch (error) {
      const exit = exitOfFailure(action, error, clock.nowMs())
      log.warn('action failed', { ...facts, error: messageOf(error) })
      if (exit !== undefined) failures.set(uid, exit)
      // Without an end to report there is nothing new: the next periodic pass tries again.
      else again = false
    } finally {
      busy.delete(uid)
    }
    onEnd(again)
  }
}

const reasonOf = (action: Action) =>
  action.kind === 'failShard'
    ? { reason: action.exit.reason, message: action.exit.message }
    : action.kind === 'stopShard'
      ? { reason: action.reason }
      : {}
