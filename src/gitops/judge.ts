/** What is to be done about the newest revision: refuse it, wait, apply it, or keep what is applied. Pure. */
import { PRUNE_ANNOTATION, APPROVE_ANNOTATION, shortRevision, sourceName } from '../api/sync.ts'
import type { InventoryEntry, Sync } from '../api/sync.ts'
import { dependencyFault } from './dependencies.ts'
import type { Finding } from './examine.ts'
import { guardPrune } from './guard.ts'
import type { Rendered } from './render.ts'
import type { Refusal, Scene, SyncWrite } from './scene.ts'
import { desiredKeys, entryKey, inventoryOf } from './scene.ts'

export type Verdict =
  /** Nobody has read the source yet. */
  | { readonly kind: 'Unread' }
  /** `keep` is the revision that is followed meanwhile, where it is known. */
  | { readonly kind: 'Refused'; readonly refusal: Refusal; readonly keep: Rendered | undefined }
  | { readonly kind: 'Waiting'; readonly reason: string; readonly message: string; readonly keep: Rendered | undefined }
  /** The newest revision is applied: only drift is left to undo. */
  | { readonly kind: 'Current'; readonly rendered: Rendered; readonly findings: readonly Finding[] }
  | {
      readonly kind: 'Advance'
      readonly rendered: Rendered
      readonly findings: readonly Finding[]
      readonly removals: readonly SyncWrite[]
    }

export function judge(scene: Scene): Verdict {
  const { sync, reading } = scene
  if (reading === undefined) return { kind: 'Unread' }
  const { head, failure } = reading
  const keep = keptRevision(sync, reading.lastGood)
  if (failure !== undefined || head === undefined) {
    const { reason = 'FetchFailed', message = 'nothing was read', revision } = failure ?? {}
    const isStalled = reason === 'ForcePushRefused' || reason === 'SignatureRefused'
    return refused({ reason, message, causes: [], isStalled, ...(revision === undefined ? {} : { revision }) }, keep)
  }
  if (head.causes.length > 0)
    return refused(refusalOf(head, 'InvalidManifests', 'nothing was changed', { causes: head.causes }), keep)
  if (isApplied(sync, head)) return { kind: 'Current', rendered: head, findings: scene.examine(head) }
  return judgeNew(scene, head, keep)
}

function judgeNew(scene: Scene, head: Rendered, keep: Rendered | undefined): Verdict {
  const { sync, syncs } = scene
  const findings = scene.examine(head)
  const faults = findings.flatMap(({ fault }) => fault ?? [])
  const [first] = faults
  if (first !== undefined) {
    const causes = faults.map(({ cause }) => cause)
    return refused(refusalOf(head, first.reason, 'nothing was changed', { causes }), keep)
  }
  const waits = dependencyFault(sync, syncs)
  if (waits?.reason === 'DependencyCycle') return refused(refusalOf(head, waits.reason, waits.message), keep)
  if (waits !== undefined) return { kind: 'Waiting', ...waits, keep }
  const removals = removalsOf(scene, desiredKeys(head))
  const pruned = removals.flatMap((write) => (write.do === 'Prune' ? [write.entry] : []))
  if (head.missingPaths.length > 0 && pruned.length === 0)
    return refused(refusalOf(head, 'PathNotFound', `there is no ${head.missingPaths.join(', ')} in it`), keep)
  const blocked = guardPrune({
    revision: head.revision,
    pruned,
    followed: inventoryOf(sync).length,
    wanted: head.objects.length,
    missingPaths: head.missingPaths,
    approved: sync.metadata.annotations?.[APPROVE_ANNOTATION],
  })
  if (blocked !== undefined) {
    const message =
      `would delete ${pruned.length} of ${inventoryOf(sync).length} objects: ${blocked.reason}; nothing of it was applied; ` +
      `\`mctl sync approve ${sync.metadata.name}\` lets it, a new commit that keeps them does, too`
    return refused(refusalOf(head, 'PruneBlocked', message, { blocked }), keep)
  }
  return { kind: 'Advance', rendered: head, findings, removals }
}

const refused = (refusal: Refusal, keep: Rendered | undefined): Verdict => ({ kind: 'Refused', refusal, keep })

function refusalOf(
  head: Rendered,
  reason: string,
  message: string,
  more: Pick<Partial<Refusal>, 'causes' | 'blocked'> = {},
): Refusal {
  const { causes = [] } = more
  const count = causes.length === 0 ? '' : `${causes.length} ${causes.length === 1 ? 'problem' : 'problems'}, `
  return {
    reason,
    message: `${revisionText(head)}: ${count}${message}`,
    isStalled: true,
    revision: head.revision,
    attempt: head,
    ...more,
    causes,
  }
}

export const revisionText = ({ revision }: Pick<Rendered, 'revision'>): string =>
  revision.startsWith('sha256:') ? `directory ${shortRevision(revision)}` : `commit ${shortRevision(revision)}`

/** Whether this very revision of this very source was applied whole. */
export const isApplied = ({ spec, status }: Sync, { revision, digest }: Rendered): boolean =>
  status?.source === sourceName(spec.source) &&
  status.lastAppliedRevision === revision &&
  status.lastAppliedDigest === digest

/** The last applied revision as it was read, if it is sound and reads as it did when it was applied. */
const keptRevision = (sync: Sync, lastGood: Rendered | undefined): Rendered | undefined =>
  lastGood !== undefined && lastGood.causes.length === 0 && isApplied(sync, lastGood) ? lastGood : undefined

/**
 * What becomes of the objects that are followed and not wanted any more, last wave first. Objects that are gone, on their
 * way out, or others under the same name are left alone.
 */
export function removalsOf({ sync, live }: Scene, wanted: ReadonlySet<string>): readonly SyncWrite[] {
  const gone = inventoryOf(sync).filter((entry) => !wanted.has(entryKey(entry)))
  return [...gone].sort(lastFirst).flatMap((entry): readonly SyncWrite[] => {
    const object = live(entry)
    if (object === undefined || object.metadata.uid !== entry.uid || object.metadata.deletionTimestamp !== undefined)
      return []
    // A Node is a machine, not a manifest: the source only takes back what it had set. A Sync never removes itself.
    const stays =
      !sync.spec.prune ||
      entry.kind === 'Node' ||
      entry.uid === sync.metadata.uid ||
      object.metadata.annotations?.[PRUNE_ANNOTATION] === 'disabled'
    return [{ do: stays ? 'Release' : 'Prune', entry }]
  })
}

const lastFirst = (a: InventoryEntry, b: InventoryEntry): number =>
  (b.wave ?? 0) - (a.wave ?? 0) || (entryKey(a) < entryKey(b) ? 1 : -1)
