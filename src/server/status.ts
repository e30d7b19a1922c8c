/** UpdateStatus: an agent's report on its own Node and Shards, by uid, on the fields that agents may write. */
import type { Handlers } from '../rpc/messages.ts'
import { updateStatus } from '../store/objects.ts'
import { checkStatusWriter } from './trust/access.ts'
import { audited } from './audit.ts'
import type { ServerDoors } from './handlers.ts'

export function statusCalls({ store, log }: ServerDoors): Pick<Handlers, 'updateStatus'> {
  return {
    updateStatus: ({ uid, patch }, { identity }) =>
      audited(log, { identity, verb: 'updateStatus', target: { uid } }, () =>
        store.transact((tx) => {
          const standing = tx.getByUid(uid)
          // Of an unknown uid the door says NotFound: the agent stops that shard.
          if (standing !== undefined) checkStatusWriter(identity, standing)
          const { object, result } = updateStatus(tx, uid, patch)
          return { object, result }
        }),
      ),
  }
}
