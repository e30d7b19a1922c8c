/** Carries out a plan in the planning transaction: writes, inventory, status and events stand or fall together. */
import type { MctlObject } from '../api/meta.ts'
import { API_VERSION, keyOf } from '../api/meta.ts'
import type { Health, InventoryEntry, Sync, SyncStatus } from '../api/sync.ts'
import { SYNC_LABEL, SYNC_MANAGER } from '../api/sync.ts'
import { SYNC_FINALIZER } from '../api/words.ts'
import {
  applyObject,
  deleteObject,
  disownFields,
  involvedObjectOf,
  patchObject,
  recordEvent,
  removeFinalizer,
  setStatus,
} from '../store/objects.ts'
import type { Tx } from '../store/store.ts'
import { keyOfEntry, liveObject } from './examine.ts'
import { healthOf, worst } from './health.ts'
import type { SyncPlan, SyncWrite } from './scene.ts'
import { entryKey } from './scene.ts'

export const COMPONENT = 'mctl-gitops'

/** One write as the audit tells it. */
export interface AuditedSyncWrite {
  readonly verb: string
  readonly kind: string
  readonly name: string
  readonly revision: string
}

export function performSync(tx: Tx, sync: Sync, plan: SyncPlan): readonly AuditedSyncWrite[] {
  const entries = new Map(plan.keeps.map((entry) => [entryKey(entry), entry]))
  const audit = plan.writes.map((write) => {
    const object = execute(tx, write)
    if (write.do === 'Apply') {
      const entry = entryOf(object, write.finding.desired.wave)
      entries.set(entryKey(entry), entry)
    }
    return audited(write.do.toLowerCase(), object)
  })
  const inventory = [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry)
  // The Sync itself may be among what was applied.
  const current = (tx.getByUid(sync.metadata.uid) ?? sync) as Sync
  setStatus(tx, current, statusWith(tx, sync, plan.status, inventory))
  for (const { type, reason, message } of plan.events)
    recordEvent(tx, { involvedObject: involvedObjectOf(sync), type, reason, message, source: { component: COMPONENT } })
  if (plan.isReleased === true) removeFinalizer(tx, current, SYNC_FINALIZER)
  return audit
}

function statusWith(tx: Tx, sync: Sync, status: SyncStatus, inventory: readonly InventoryEntry[]): SyncStatus {
  const others = inventory.filter(({ uid }) => uid !== sync.metadata.uid)
  const health: Health = worst(others.map((entry) => healthOf(ownLive(tx, entry))))
  return {
    ...status,
    inventory,
    objects: inventory.length,
    ...(status.observedGeneration === undefined ? {} : { health }),
  }
}

/** Another object under the same name is none of ours. */
function ownLive(tx: Tx, entry: InventoryEntry): MctlObject | undefined {
  const object = liveObject(tx, entry)
  return object?.metadata.uid === entry.uid ? object : undefined
}

function execute(tx: Tx, write: SyncWrite): MctlObject {
  if (write.do === 'Apply') {
    const { desired, force } = write.finding
    return applyObject(tx, desired.manifest, { fieldManager: SYNC_MANAGER, force }).object
  }
  const key = keyOfEntry(write.entry)
  const { uid } = write.entry
  if (write.do === 'Prune') return deleteObject(tx, key, { preconditions: { uid } }).object
  return key.kind === 'Node' ? withdraw(tx, write.entry) : release(tx, write.entry)
}

/** What only the source had set of the Node goes; the Node stays. */
function withdraw(tx: Tx, { kind, name }: InventoryEntry): MctlObject {
  const empty = { apiVersion: API_VERSION, kind, metadata: { name } }
  return applyObject(tx, empty, { fieldManager: SYNC_MANAGER, force: true }).object
}

function release(tx: Tx, entry: InventoryEntry): MctlObject {
  const patch = { metadata: { labels: { [SYNC_LABEL]: null } } }
  const { object } = patchObject(tx, keyOfEntry(entry), 'merge', patch, { preconditions: { uid: entry.uid } })
  return disownFields(tx, object, SYNC_MANAGER)
}

function entryOf(object: MctlObject, wave: number): InventoryEntry {
  const { kind, namespace, name } = keyOf(object)
  return {
    kind,
    ...(namespace === '' ? {} : { namespace }),
    name,
    uid: object.metadata.uid,
    ...(wave === 0 ? {} : { wave }),
  }
}

function audited(verb: string, object: MctlObject): AuditedSyncWrite {
  const { name, resourceVersion } = object.metadata
  return { verb, kind: object.kind, name, revision: resourceVersion }
}
