/** Begins to fetch a shard's model. Returns at once: a fetch takes hours, and how far it is, is observed. */
import type { ActionArgs } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'

export async function fetchModel({ fetcher }: ExecutorDoors, { shard }: ActionArgs['fetchModel']): Promise<void> {
  fetcher?.begin(shard)
}
