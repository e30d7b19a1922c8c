/** Notes for good why a shard cannot run here; the status that says so follows from the note. The first cause stays. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function failShard({ notes }: ExecutorDoors, args: ActionArgs['failShard']): Promise<void> {
  if (!notes.failures.has(args.shardUid)) notes.failures.set(args.shardUid, args.exit)
}
