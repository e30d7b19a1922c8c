/** What a plan says: conditions, events, history and previews, in words for people. Pure. */
import { causeText } from '../api/causes.ts'
import { findCondition, setConditions } from '../api/conditions.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import { timestamp } from '../api/meta.ts'
import type { SyncAttempt, SyncChange, SyncStatus } from '../api/sync.ts'
import { PREVIEW_ANNOTATION, shortRevision } from '../api/sync.ts'
import type { Finding } from './examine.ts'
import type { Verdict } from './judge.ts'
import { removalsOf } from './judge.ts'
import type { Rendered } from './render.ts'
import type { Refusal, Scene, SyncEvent, SyncWrite } from './scene.ts'
import { desiredKeys } from './scene.ts'

const MAX_HISTORY = 20
const MAX_CHANGES = 50
const MAX_PREVIEW = 200
const MAX_MESSAGE_CHARS = 16_000

export interface Said {
  readonly status: ConditionUpdate['status']
  readonly reason: string
  readonly message: string
  readonly refusal?: Refusal
}

/** The status with the conditions that say this, and the event where it is news. */
export function saying(
  scene: Scene,
  status: SyncStatus,
  said: Said,
): { readonly status: SyncStatus; readonly events: readonly SyncEvent[] } {
  const { sync, nowMs } = scene
  const observedGeneration = sync.metadata.generation
  const { refusal } = said
  const message = wholeMessage(said, status)
  const isBlocked = refusal?.blocked !== undefined
  const isStalled = refusal?.isStalled === true || said.reason === 'DriftLoop'
  const updates: ConditionUpdate[] = [
    { type: 'Ready', status: said.status, reason: said.reason, message, observedGeneration },
    {
      type: 'PruneBlocked',
      status: isBlocked ? 'True' : 'False',
      reason: isBlocked ? 'ApprovalNeeded' : 'NothingBlocked',
      message: isBlocked ? `waits for \`mctl sync approve ${sync.metadata.name}\`` : 'no deletion waits for a person',
      observedGeneration,
    },
    {
      type: 'Stalled',
      status: isStalled ? 'True' : 'False',
      reason: isStalled ? said.reason : 'GoesOn',
      message: isStalled ? 'waiting alone will not mend this' : 'goes on by itself',
      observedGeneration,
    },
  ]
  const old = findCondition(sync.status?.conditions, 'Ready')
  const isNews = old?.status !== said.status || old.reason !== said.reason || old.message !== message
  const event: SyncEvent = { type: said.status === 'False' ? 'Warning' : 'Normal', reason: said.reason, message }
  return {
    status: { ...status, observedGeneration, conditions: setConditions(status.conditions, updates, nowMs) },
    // That it is synced follows from what was applied, which has an event of its own.
    events: isNews && said.status !== 'True' ? [event] : [],
  }
}

/** With every cause on a line of its own, and with what is followed meanwhile. */
function wholeMessage({ message, refusal }: Said, { lastAppliedRevision }: SyncStatus): string {
  const kept = shortRevision(lastAppliedRevision)
  const meanwhile = refusal === undefined || kept === undefined ? '' : `; ${kept} is followed meanwhile`
  const lines = [`${message}${meanwhile}`, ...(refusal?.causes ?? []).map(causeText)]
  return lines.join('\n').slice(0, MAX_MESSAGE_CHARS)
}

/** The status with the refused try in its history, once. */
export function withAttempt(scene: Scene, status: SyncStatus, refusal: Refusal): SyncStatus {
  const { revision, attempt, message } = refusal
  if (revision === undefined) return status
  const history = status.history ?? []
  const isKnown = history.some(
    (one) => one.revision === revision && one.result === 'Refused' && one.message === message,
  )
  const entry = attemptOf(scene, attempt ?? { revision }, { result: 'Refused', message, changes: [] })
  return {
    ...status,
    lastAttemptedRevision: revision,
    history: isKnown ? history : [entry, ...history].slice(0, MAX_HISTORY),
  }
}

export function attemptOf(
  { nowMs, tookMs }: Scene,
  { revision, digest, author, subject }: Pick<Rendered, 'revision'> & Partial<Rendered>,
  { result, changes, message }: Pick<SyncAttempt, 'result' | 'message'> & { readonly changes: readonly SyncChange[] },
): SyncAttempt {
  return {
    revision,
    ...(digest === undefined ? {} : { digest }),
    time: timestamp(nowMs),
    ...(result === 'Healed' ? {} : { durationMs: Math.round(tookMs) }),
    ...(author === undefined ? {} : { author }),
    ...(subject === undefined ? {} : { subject }),
    result,
    ...(message === undefined ? {} : { message: message.slice(0, 1000) }),
    ...(changes.length === 0 ? {} : { changes: changes.slice(0, MAX_CHANGES) }),
    ...(changes.length <= MAX_CHANGES ? {} : { more: changes.length - MAX_CHANGES }),
  }
}

/** What becomes of the object of a write or finding. */
export function changeOf(what: SyncWrite | Finding): SyncChange {
  if ('do' in what) {
    if (what.do === 'Apply') return changeOf(what.finding)
    const { kind, namespace, name } = what.entry
    return { action: what.do, kind, ...inNamespace(namespace), name }
  }
  const { kind, namespace, name } = what.desired.key
  const { fields } = what
  const action = what.result === 'Created' ? 'Create' : what.result === 'Configured' ? 'Configure' : 'Keep'
  return { action, kind, ...inNamespace(namespace), name, ...(fields.length === 0 ? {} : { fields }) }
}

const inNamespace = (namespace: string | undefined) =>
  namespace === undefined || namespace === '' ? {} : { namespace }

/** `2 created, 1 pruned`. */
export function countsText(changes: readonly SyncChange[]): string {
  const words = { Create: 'created', Configure: 'configured', Prune: 'pruned', Release: 'released', Keep: 'adopted' }
  const parts = Object.entries(words).flatMap(([action, word]) => {
    const count = changes.filter((change) => change.action === action).length
    return count === 0 ? [] : [`${count} ${word}`]
  })
  return parts.join(', ') || 'nothing to change'
}

/** The status with the answer to the last `mctl sync diff`, when this reading answers it. */
export function withPreview(scene: Scene, verdict: Verdict, status: SyncStatus): SyncStatus {
  const { sync, answers, reading } = scene
  const request = sync.metadata.annotations?.[PREVIEW_ANNOTATION]
  if (request === undefined || request !== answers.preview || status.preview?.request === request) return status
  const head = reading?.head
  const message =
    verdict.kind === 'Refused'
      ? wholeMessage({ status: 'False', ...verdict, ...verdict.refusal, refusal: verdict.refusal }, status)
      : undefined
  if (head === undefined || head.causes.length > 0)
    return { ...status, preview: { request, changes: [], message: message ?? 'nothing was read yet' } }
  const applied = scene.examine(head).filter((f) => f.result === 'Created' || f.fields.length > 0)
  const changes = [...applied.map(changeOf), ...removalsOf(scene, desiredKeys(head)).map(changeOf)]
  const preview = {
    request,
    revision: head.revision,
    changes: changes.slice(0, MAX_PREVIEW),
    ...(changes.length <= MAX_PREVIEW ? {} : { more: changes.length - MAX_PREVIEW }),
    ...(message === undefined ? {} : { message }),
  }
  return { ...status, preview }
}
