/** Frees what an ended shard held on disk and in ports, and what the agent noted about it. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function forgetShard({ hosts, notes }: ExecutorDoors, args: ActionArgs['forgetShard']): Promise<void> {
  const { shardUid } = args
  await hosts.forget(shardUid)
  notes.failures.delete(shardUid)
  notes.stopsAsked.delete(shardUid)
  notes.started.delete(shardUid)
}
