/** When a Shard that is being deleted may go: its finalizer stands for a process, and falls when that is gone. */
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { AGENT_FINALIZER } from '../api/words.ts'
import type { Plan, StoreAction } from './actions.ts'
import { isBeingDeleted, removeFinalizer, setStatus } from './actions.ts'
import { earlierCause } from './rankfailure.ts'

/**
 * `node` undefined: its Node object is gone, and with it everything that it ran (a returning agent's fence sees to it).
 * What the Shard says of its end goes with it: if that is what its group failed of, the group is told first.
 */
export function planShardEnd(shard: Shard, node: Node | undefined, group: ShardGroup | undefined): Plan {
  if (!isBeingDeleted(shard)) return { actions: [], report: [] }
  const phase = shard.status?.phase
  const released = { actions: [...tellCause(shard, group), removeFinalizer(shard, AGENT_FINALIZER)] }
  // Failed may be said of an engine that still has to be killed; Stopped is said when no process is left.
  if (phase === 'Stopped') return { ...released, report: ['Released: no process of it is left'] }
  if (node === undefined) return { ...released, report: [`Released: node ${shard.spec.nodeName} was removed`] }
  return { actions: [], report: [`Stopping: waiting for the agent of ${shard.spec.nodeName}`] }
}

function tellCause(shard: Shard, group: ShardGroup | undefined): readonly StoreAction[] {
  const owned = (shard.metadata.ownerReferences ?? []).some((owner) => owner.uid === group?.metadata.uid)
  const firstCause = earlierCause(shard, group?.status?.firstCause)
  if (!owned || group === undefined || firstCause === undefined) return []
  return [setStatus(group, { ...group.status, firstCause })]
}
