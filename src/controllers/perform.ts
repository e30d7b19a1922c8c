/** Executes a plan's actions in the planning transaction, through the store's write door. Doing makes no choices. */
import type { MctlObject } from '../api/meta.ts'
import { keyOf } from '../api/meta.ts'
import type { ActionArgs, StoreAction } from '../planner/actions.ts'
import { STOP_REASON_ANNOTATION } from '../planner/actions.ts'
import { createObject, deleteObject, involvedObjectOf, patchObject, recordEvent } from '../store/objects.ts'
import { removeFinalizer, setSpec, setStatus } from '../store/objects.ts'
import type { Tx } from '../store/store.ts'
import { keepLedger } from './keepledger.ts'

type Executors = { readonly [K in keyof ActionArgs]: (tx: Tx, args: ActionArgs[K]) => void }

export const COMPONENT = 'mctl-controllers'

const executors: Executors = {
  create: (tx, { object }) => void createObject(tx, object),
  setSpec: (tx, { object, spec }) => void setSpec(tx, object, spec),
  setStatus: (tx, { object, status }) => void setStatus(tx, object, status),
  annotate(tx, { object, annotations }) {
    const preconditions = { uid: object.metadata.uid }
    patchObject(tx, keyOf(object), 'merge', { metadata: { annotations } }, { preconditions })
  },
  delete(tx, { object, stopReason }) {
    const key = keyOf(object)
    const preconditions = { uid: object.metadata.uid }
    if (stopReason !== undefined) {
      const patch = { metadata: { annotations: { [STOP_REASON_ANNOTATION]: stopReason } } }
      patchObject(tx, key, 'merge', patch, { preconditions })
    }
    deleteObject(tx, key, { preconditions })
  },
  removeFinalizer: (tx, { object, finalizer }) => void removeFinalizer(tx, object, finalizer),
  recordEvent(tx, { about, type, reason, message }) {
    recordEvent(tx, {
      involvedObject: involvedObjectOf(about),
      type,
      reason,
      message,
      source: { component: COMPONENT },
    })
  },
}

/**
 * Writes what was planned; bound bytes of nodes follow in the same transaction. A bug (and the transaction is undone)
 * when the writes would raise a node's bound above its allocatable.
 */
export function perform(tx: Tx, actions: readonly StoreAction[]): void {
  keepLedger(tx, actions.some(touchesLedger), () => {
    for (const action of actions) execute(tx, action)
  })
}

function execute<K extends keyof ActionArgs>(tx: Tx, action: { readonly action: K } & ActionArgs[K]): void {
  const run: (tx: Tx, args: ActionArgs[K]) => void = executors[action.action]
  run(tx, action)
}

const isCounted = ({ kind }: Pick<MctlObject, 'kind'>): boolean => kind === 'ShardGroup' || kind === 'Shard'

const touchesLedger = (action: StoreAction): boolean =>
  action.action !== 'setStatus' && action.action !== 'recordEvent' && isCounted(action.object)
