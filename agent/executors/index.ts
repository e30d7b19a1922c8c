/** Every action with its executor. They make no choices and do not retry: the next pass is the retry. */
import type { ShardExit } from '../../src/api/shard.ts'
import { isOpError, messageOf } from '../../src/lib/errors.ts'
import type { Action, ActionArgs, ActionKind } from '../actions.ts'
import type { ExecutorDoors } from './doors.ts'
import { failShard } from './fail-shard.ts'
import { fetchModel } from './fetch-model.ts'
import { forgetShard } from './forget-shard.ts'
import { prepareShard } from './prepare-shard.ts'
import { startShard } from './start-shard.ts'
import { stopShard } from './stop-shard.ts'

export type Executors = {
  readonly [K in ActionKind]: (doors: ExecutorDoors, args: ActionArgs[K]) => Promise<void>
}
const executors: Executors = { stopShard, forgetShard, failShard, fetchModel, prepareShard, startShard }

/** Carries one action out; rejects with what went wrong. */
export function execute<K extends ActionKind>(doors: ExecutorDoors, action: { readonly kind: K } & ActionArgs[K]) {
  return executors[action.kind](doors, action)
}

export const shardUidOf = (action: Action): string => ('shard' in action ? action.shard.metadata.uid : action.shardUid)
export const shardNameOf = (action: Action): string =>
  'shard' in action ? action.shard.metadata.name : action.shardName

/** What a failed executor means for its shard: preparing and starting end it, the others are tried again. */
export function exitOfFailure(action: Action, error: unknown, nowMs: number): ShardExit | undefined {
  if (action.kind !== 'prepareShard' && action.kind !== 'startShard') return undefined
  const refused = isOpError(error, 'Invalid')
  const reason = refused ? 'LaunchRefused' : action.kind === 'prepareShard' ? 'PrepareFailed' : 'StartFailed'
  return { reason, message: messageOf(error), atMs: nowMs }
}
