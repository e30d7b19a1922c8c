/** Takes ports and writes the handle: from then on the shard is Prepared, also for an agent that restarts. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function prepareShard(doors: ExecutorDoors, args: ActionArgs['prepareShard']): Promise<void> {
  await doors.hosts.prepare(args.shard, doors.clusterUid(), args.modelDir)
}
