/** Asks the host of a shard to end its engine. Returns at once: the end is observed like any other. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function stopShard({ hosts, notes }: ExecutorDoors, args: ActionArgs['stopShard']): Promise<void> {
  const { shardUid, limits, reason } = args
  hosts.stop(shardUid, limits.graceMs, reason, limits.drainMs)
  notes.stopsAsked.set(shardUid, limits)
}
