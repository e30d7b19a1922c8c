/** `mctl describe sync`: what is followed, how far, what is wrong with the newest revision, and what was tried. */
import { causeText } from '../../api/causes.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { Sync, SyncAttempt, SyncChange } from '../../api/sync.ts'
import { objectText, shortRevision, sourceName } from '../../api/sync.ts'
import type { Block, Entry } from './text.ts'
import { fields, listing, section } from './text.ts'

export function describeSync(object: MctlObject): readonly Block[] {
  const { spec, status = {} } = object as Sync
  const { git } = spec.source
  const entries: Entry[] = [
    ['Source', sourceName(spec.source)],
    ...(git === undefined ? [] : [['Path', [git.path, ...(git.extraPaths ?? [])].join(', ')] as const]),
    ['Looked at', `every ${spec.intervalSeconds} s, and when something hints at a change`],
    ['Suspended', spec.suspend ? `yes: \`mctl sync resume ${object.metadata.name}\` goes on` : 'no'],
    ['Removal', removalText(spec)],
    ...(spec.dependsOn.length === 0 ? [] : [['After', spec.dependsOn.join(', ')] as const]),
    ['Applied', status.lastAppliedRevision ?? '<none>'],
    ['Applied at', status.lastAppliedTime ?? '<none>'],
    ['Tried', status.lastAttemptedRevision ?? '<none>'],
    ['Health', status.health ?? '<unknown>'],
    ['Objects', String(status.objects ?? 0)],
  ]
  return [
    fields(entries),
    listing('Faults', (status.causes ?? []).map(causeText)),
    ...blockedOf(object.metadata.name, status),
    section(
      'Inventory',
      ['OBJECT', 'WAVE'],
      (status.inventory ?? []).map((e) => [objectText(e), String(e.wave ?? 0)]),
    ),
    section('History', ['TIME', 'REVISION', 'RESULT', 'CHANGES', 'AUTHOR', 'SUBJECT'], historyRows(status.history)),
  ]
}

const removalText = ({ prune, deletionPolicy }: Sync['spec']): string =>
  `${prune ? 'what goes from the source is deleted' : 'nothing is deleted'}; without this Sync the objects ${deletionPolicy === 'Orphan' ? 'stay' : 'go'}`

const blockedOf = (name: string, { blocked }: NonNullable<Sync['status']>): readonly Block[] =>
  blocked === undefined ? [] : [listing(`Would be deleted once approved (mctl sync approve ${name})`, blocked.objects)]

export const historyRows = (history: readonly SyncAttempt[] | undefined): readonly (readonly string[])[] =>
  (history ?? []).map((attempt) => [
    attempt.time,
    shortRevision(attempt.revision) ?? '',
    attempt.result,
    changesText(attempt),
    attempt.author ?? '<none>',
    attempt.subject ?? '<none>',
  ])

const words: Readonly<Record<SyncChange['action'], string>> = {
  Create: 'created',
  Configure: 'configured',
  Prune: 'pruned',
  Release: 'released',
  Keep: 'kept',
}

/** `2 created, 1 pruned`, or why nothing was changed. */
export function changesText({ changes = [], more = 0, result, message }: SyncAttempt): string {
  if (result === 'Refused') return message ?? 'nothing'
  const counts = Object.entries(words).flatMap(([action, word]) => {
    const count = changes.filter((change) => change.action === action).length
    return count === 0 ? [] : [`${count} ${word}`]
  })
  if (more > 0) counts.push(`${more} more`)
  return counts.join(', ') || 'nothing to change'
}
