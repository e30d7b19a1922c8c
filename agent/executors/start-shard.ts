/** Starts the shardhost with its engine. A start that fails is the end of the shard: its group re-forms. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function startShard({ hosts, notes }: ExecutorDoors, { shard }: ActionArgs['startShard']): Promise<void> {
  await hosts.start(shard)
  notes.started.add(shard.metadata.uid)
}
