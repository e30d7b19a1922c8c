/** When a Shard that is being deleted may go: its finalizer stands for a process, and falls when that is gone. */
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import { AGENT_FINALIZER } from '../api/words.ts'
import type { Plan } from './actions.ts'
import { isBeingDeleted, removeFinalizer } from './actions.ts'

/** `node` undefined: its Node object is gone, and with it everything that it ran (a returning agent's fence sees to it). */
export function planShardEnd(shard: Shard, node: Node | undefined): Plan {
  if (!isBeingDeleted(shard)) return { actions: [], report: [] }
  const phase = shard.status?.phase
  const released = { actions: [removeFinalizer(shard, AGENT_FINALIZER)] }
  if (phase === 'Stopped') return { ...released, report: ['Released: the agent stopped it'] }
  // An agent says Failed only once no process is left.
  if (phase === 'Failed' && shard.status?.exit !== undefined)
    return { ...released, report: ['Released: it had failed'] }
  if (node === undefined) return { ...released, report: [`Released: node ${shard.spec.nodeName} was removed`] }
  return { actions: [], report: [`Stopping: waiting for the agent of ${shard.spec.nodeName}`] }
}
