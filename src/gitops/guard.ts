/** When deletions need a person: nothing left, more than 10 objects, or more than 30 % of what is followed. Pure. */
import { createHash } from 'node:crypto'
import type { BlockedPrune, InventoryEntry } from '../api/sync.ts'
import { objectText } from '../api/sync.ts'

const MAX_PRUNED = 10
const MAX_PRUNED_SHARE = 0.3
const MAX_TOLD = 100

export interface PruneQuestion {
  readonly revision: string
  /** What would be deleted. */
  readonly pruned: readonly InventoryEntry[]
  /** How many objects are followed now. */
  readonly followed: number
  /** How many the revision wants. */
  readonly wanted: number
  readonly missingPaths: readonly string[]
  /** What a person has approved last. */
  readonly approved: string | undefined
}

/** What must be approved first; undefined when nothing must. */
export function guardPrune(question: PruneQuestion): BlockedPrune | undefined {
  const { revision, pruned, approved } = question
  const reason = reasonToAsk(question)
  if (reason === undefined) return undefined
  const approval = approvalOf(revision, pruned)
  if (approved === approval) return undefined
  const objects = pruned.slice(0, MAX_TOLD).map(objectText)
  return { revision, approval, reason, objects }
}

function reasonToAsk({ pruned, followed, wanted, missingPaths }: PruneQuestion): string | undefined {
  const count = pruned.length
  if (count === 0) return undefined
  if (missingPaths.length > 0)
    return `for the source has no ${missingPaths.map((path) => `"${path}"`).join(', ')} any more`
  if (wanted === 0) return 'for the source holds no objects any more'
  if (count > MAX_PRUNED) return `more than ${MAX_PRUNED}`
  const share = count / Math.max(1, followed)
  if (share > MAX_PRUNED_SHARE) return `more than ${Math.round(100 * MAX_PRUNED_SHARE)} %`
  return undefined
}

/** Stands for this revision and exactly these objects: an approval cannot be used for others later. */
function approvalOf(revision: string, pruned: readonly InventoryEntry[]): string {
  const uids = pruned.map(({ uid }) => uid).sort()
  return createHash('sha256')
    .update([revision, ...uids].join('\n'))
    .digest('hex')
    .slice(0, 16)
}
