/** One pass over one Sync: what is written, what is said, and when to look again. Pure: a scene in, a plan out. */
import { causeText } from '../api/causes.ts'
import { keyString, timestamp } from '../api/meta.ts'
import type { SyncOperation, SyncStatus } from '../api/sync.ts'
import { objectText, PRUNE_ANNOTATION, sourceName } from '../api/sync.ts'
import type { HealRecord, Heals } from './drift.ts'
import { judgeDrift, settled } from './drift.ts'
import type { Finding } from './examine.ts'
import { healthOf, isWell } from './health.ts'
import type { Verdict } from './judge.ts'
import { judge, revisionText } from './judge.ts'
import type { Rendered } from './render.ts'
import type { Scene, SyncEvent, SyncPlan, SyncWrite } from './scene.ts'
import { entryKey, inventoryOf } from './scene.ts'
import { attemptOf, changeOf, countsText, saying, withAttempt, withPreview } from './told.ts'

export function planSync(scene: Scene): SyncPlan {
  const { sync } = scene
  if (sync.metadata.deletionTimestamp !== undefined) return planRemoval(scene)
  const verdict = judge(scene)
  const base = withPreview(scene, verdict, answered(scene, verdict))
  if (sync.spec.suspend) return quiet(scene, { ...base, observedGeneration: sync.metadata.generation })
  switch (verdict.kind) {
    case 'Unread':
      return quiet(scene, base)
    case 'Refused':
      return planRefused(scene, verdict, base)
    case 'Waiting': {
      const { blocked: _blocked, causes: _causes, operation: _operation, ...rest } = base
      const said = saying(scene, rest, { status: 'Unknown', reason: verdict.reason, message: verdict.message })
      return withDrift(scene, verdict.keep, { ...quiet(scene, said.status), events: said.events })
    }
    case 'Current':
      return planCurrent(scene, verdict.rendered, base)
    case 'Advance':
      return planAdvance(scene, verdict, base)
  }
}

/** Nothing is written but the status. */
const quiet = (scene: Scene, status: SyncStatus): SyncPlan => ({
  writes: [],
  keeps: inventoryOf(scene.sync),
  status,
  events: [],
  heals: scene.heals,
})

function answered({ sync, answers }: Scene, verdict: Verdict): SyncStatus {
  if (verdict.kind === 'Unread' || answers.request === undefined) return sync.status ?? {}
  return { ...sync.status, lastHandledRequest: answers.request }
}

function planRefused(
  scene: Scene,
  { refusal, keep }: Extract<Verdict, { kind: 'Refused' }>,
  base: SyncStatus,
): SyncPlan {
  const { blocked: _blocked, causes: _causes, operation: _operation, ...rest } = base
  const status: SyncStatus = {
    ...withAttempt(scene, rest, refusal),
    ...(refusal.causes.length === 0 ? {} : { causes: refusal.causes }),
    ...(refusal.blocked === undefined ? {} : { blocked: refusal.blocked }),
  }
  const said = saying(scene, status, { status: 'False', reason: refusal.reason, message: refusal.message, refusal })
  return withDrift(scene, keep, { ...quiet(scene, said.status), events: said.events })
}

function planCurrent(scene: Scene, rendered: Rendered, base: SyncStatus): SyncPlan {
  const { blocked: _blocked, causes: _causes, operation: _operation, ...rest } = base
  const status = { ...rest, lastAttemptedRevision: rendered.revision }
  const drift = withDrift(scene, rendered, quiet(scene, status))
  const loops = rendered.objects.filter(({ key }) => drift.heals.get(keyString(key))?.looping === true)
  const faults = scene.examine(rendered).flatMap(({ fault }) => fault ?? [])
  const said =
    faults.length > 0
      ? sayFaults(scene, drift.status, rendered, faults)
      : loops.length === 0
        ? saying(scene, drift.status, { status: 'True', reason: 'Synced', message: appliedText(rendered) })
        : saying(scene, drift.status, {
            status: 'False',
            reason: 'DriftLoop',
            message: loopText(scene, rendered, loops),
          })
  return { ...drift, status: said.status, events: [...drift.events, ...said.events] }
}

/** What was applied once may be refused later, when others have come in its way. */
function sayFaults(
  scene: Scene,
  status: SyncStatus,
  rendered: Rendered,
  faults: readonly NonNullable<Finding['fault']>[],
): ReturnType<typeof saying> {
  const told = faults.map(({ cause }) => causeText(cause)).join('\n')
  const reason = faults[0]?.reason ?? 'ObjectRefused'
  return saying(scene, status, {
    status: 'False',
    reason,
    message: `${revisionText(rendered)} is applied, but not all of it can be kept so\n${told}`,
  })
}

const appliedText = (rendered: Rendered): string =>
  `${revisionText(rendered)} is applied: ${rendered.objects.length} ${rendered.objects.length === 1 ? 'object' : 'objects'}`

function loopText(scene: Scene, rendered: Rendered, loops: Rendered['objects']): string {
  const keys = new Set(loops.map(({ key }) => keyString(key)))
  const told = scene
    .examine(rendered)
    .filter(({ desired, fields }) => keys.has(keyString(desired.key)) && fields.length > 0)
    .map(driftText)
  return (
    `others change again and again what the source says, and were undone 5 times within 10 minutes: ${told.join('; ')}; ` +
    `nothing is undone there until the source changes or \`mctl sync now ${scene.sync.metadata.name}\` is said`
  )
}

const driftText = ({ desired, fields, holders }: Finding): string => {
  const by = holders.length === 0 ? '' : ` (set by ${holders.join(', ')})`
  return `${objectText(desired.key)}: ${fields.length === 0 ? 'was deleted' : fields.join(', ')}${by}`
}

/** The plan with the drift from `rendered` undone where it is due; what it was planned for goes first. */
function withDrift(scene: Scene, rendered: Rendered | undefined, plan: SyncPlan): SyncPlan {
  if (rendered === undefined) return plan
  const heals = new Map<string, HealRecord>()
  const healed: Finding[] = []
  const waits: number[] = []
  for (const finding of scene.examine(rendered)) {
    const key = keyString(finding.desired.key)
    const differs = finding.result === 'Created' || (finding.result === 'Configured' && finding.fields.length > 0)
    if (!differs) {
      const record = settled(scene.heals.get(key), scene.monotonicMs)
      if (record !== undefined) heals.set(key, record)
      continue
    }
    const { verdict, record } = judgeDrift(scene.heals.get(key), scene.monotonicMs)
    heals.set(key, record)
    if (verdict.kind === 'Wait') waits.push(verdict.waitMs)
    if (verdict.kind === 'Heal') healed.push(finding)
  }
  const waitMs = waits.length === 0 ? {} : { waitMs: Math.min(...waits) }
  if (healed.length === 0) return { ...plan, heals, ...waitMs }
  const changes = healed.map(changeOf)
  const attempt = attemptOf(scene, rendered, { result: 'Healed', changes })
  return {
    ...plan,
    writes: [...plan.writes, ...healed.map((finding): SyncWrite => ({ do: 'Apply', finding }))],
    status: { ...plan.status, history: [attempt, ...(plan.status.history ?? [])].slice(0, HISTORY) },
    events: [
      ...plan.events,
      ...healed.map((finding): SyncEvent => ({
        type: 'Normal',
        reason: 'DriftCorrected',
        message: driftText(finding),
      })),
    ],
    heals,
    ...waitMs,
  }
}

const HISTORY = 20
/** After a wave: its objects have been looked at by their own controllers by then. */
const LOOK_AGAIN_MS = 1000

/** Applies the next wave that has something to do, when those before are healthy; with the last one goes what is not wanted. */
function planAdvance(scene: Scene, verdict: Extract<Verdict, { kind: 'Advance' }>, base: SyncStatus): SyncPlan {
  const { findings, rendered } = verdict
  const { blocked: _blocked, causes: _causes, ...status } = base
  const own = new Map(inventoryOf(scene.sync).map((entry) => [entryKey(entry), entry]))
  const isTodo = ({ result, desired }: Finding) => result !== 'Unchanged' || !own.has(keyString(desired.key))
  const todo = findings.filter(isTodo)
  const wave = Math.min(...todo.map(({ desired }) => desired.wave))
  const isOfWave = ({ desired }: Finding) => desired.wave === wave
  const leaving = todo.filter((finding) => isOfWave(finding) && finding.result === 'Terminating')
  if (leaving.length > 0) {
    const names = leaving.map(({ desired }) => objectText(desired.key)).join(', ')
    return waiting(scene, status, 'ObjectTerminating', `waits until ${names} is gone, to make it anew`)
  }
  const unwell = findings
    .filter(({ desired }) => desired.wave < wave)
    .filter((finding) => !isWell(healthIn(scene, finding)))
  if (todo.length > 0 && unwell.length > 0) return waitForWave(scene, verdict, status, unwell)
  const writes: SyncWrite[] = todo.filter(isOfWave).map((finding) => ({ do: 'Apply', finding }))
  return todo.every(isOfWave)
    ? lastStep(scene, verdict, status, [...writes, ...verdict.removals])
    : nextWave(scene, rendered, status, { wave, writes })
}

const healthIn = ({ sync, live }: Scene, { desired }: Finding) => {
  const { kind, namespace, name } = desired.key
  // A Sync that follows itself would wait for its own end.
  if (kind === 'Sync' && name === sync.metadata.name) return 'Healthy'
  return healthOf(live({ kind, namespace, name, uid: '' }))
}

function waiting(scene: Scene, status: SyncStatus, reason: string, message: string): SyncPlan {
  const said = saying(scene, status, { status: 'Unknown', reason, message })
  return { ...quiet(scene, said.status), events: said.events }
}

function waitForWave(
  scene: Scene,
  { rendered }: Extract<Verdict, { kind: 'Advance' }>,
  status: SyncStatus,
  unwell: readonly Finding[],
): SyncPlan {
  const { sync, nowMs } = scene
  const wave = Math.max(...unwell.map(({ desired }) => desired.wave))
  const operation = operationOf(scene, rendered, wave)
  const startedMs = Date.parse(operation.waveStartedAt)
  const leftMs = startedMs + sync.spec.waveTimeoutSeconds * 1000 - nowMs
  const names = unwell.map((f) => `${objectText(f.desired.key)} (${healthIn(scene, f)})`).join(', ')
  const isLate = leftMs <= 0
  const said = saying(
    scene,
    { ...status, operation },
    {
      status: isLate ? 'False' : 'Unknown',
      reason: isLate ? 'WaveTimedOut' : 'WaveProgressing',
      message:
        `${revisionText(rendered)}: wave ${wave} is applied, the next one waits for ${names}` +
        (isLate ? `; it is not healthy after ${sync.spec.waveTimeoutSeconds} s` : ''),
    },
  )
  return { ...quiet(scene, said.status), events: said.events, ...(isLate ? {} : { waitMs: leftMs }) }
}

/** Goes on with the wave that is under way, or begins to count for this one. */
function operationOf({ sync, nowMs }: Scene, { revision }: Rendered, wave: number): SyncOperation {
  const old = sync.status?.operation
  const now = timestamp(nowMs)
  if (old?.revision !== revision) return { revision, wave, startedAt: now, waveStartedAt: now }
  return old.wave === wave ? old : { ...old, wave, waveStartedAt: now }
}

function nextWave(
  scene: Scene,
  rendered: Rendered,
  status: SyncStatus,
  { wave, writes }: { readonly wave: number; readonly writes: readonly SyncWrite[] },
): SyncPlan {
  const operation = operationOf(scene, rendered, wave)
  const message = `${revisionText(rendered)}: wave ${wave} is applied, the next one waits until it is healthy`
  const attempt = attemptOf(scene, rendered, {
    result: 'Applied',
    changes: writes.map(changeOf),
    message: `wave ${wave}`,
  })
  const history = [attempt, ...(status.history ?? [])].slice(0, HISTORY)
  const next = { ...status, operation, history, lastAttemptedRevision: rendered.revision }
  const said = saying(scene, next, { status: 'Unknown', reason: 'WaveProgressing', message })
  const event: SyncEvent = {
    type: 'Normal',
    reason: 'WaveApplied',
    message: `${revisionText(rendered)}: wave ${wave} is applied: ${countsText(writes.map(changeOf))}`,
  }
  return { ...quiet(scene, said.status), writes, events: [event], heals: new Map(), waitMs: LOOK_AGAIN_MS }
}

function lastStep(
  scene: Scene,
  { rendered, removals }: Extract<Verdict, { kind: 'Advance' }>,
  status: SyncStatus,
  writes: readonly SyncWrite[],
): SyncPlan {
  const { operation: _operation, ...rest } = status
  const changes = writes.map(changeOf)
  const isWorthTelling = changes.length > 0 || rest.lastAppliedDigest !== rendered.digest
  const attempt = attemptOf(scene, rendered, { result: 'Applied', changes })
  const history = isWorthTelling ? [attempt, ...(rest.history ?? [])].slice(0, HISTORY) : (rest.history ?? [])
  const applied: SyncStatus = {
    ...rest,
    source: sourceName(scene.sync.spec.source),
    lastAttemptedRevision: rendered.revision,
    lastAppliedRevision: rendered.revision,
    lastAppliedDigest: rendered.digest,
    lastAppliedTime: timestamp(scene.nowMs),
    history,
  }
  const said = saying(scene, applied, { status: 'True', reason: 'Synced', message: appliedText(rendered) })
  const by = [
    rendered.subject === undefined ? '' : ` "${rendered.subject}"`,
    rendered.author === undefined ? '' : ` by ${rendered.author}`,
  ]
  const event: SyncEvent = {
    type: 'Normal',
    reason: 'Applied',
    message: `${revisionText(rendered)}${by.join('')}: ${countsText(changes)}`,
  }
  const removed = new Set(removals.map((write) => (write.do === 'Apply' ? '' : entryKey(write.entry))))
  const wanted = new Set(rendered.objects.map(({ key }) => keyString(key)))
  return {
    writes,
    keeps: inventoryOf(scene.sync).filter((entry) => wanted.has(entryKey(entry)) && !removed.has(entryKey(entry))),
    status: said.status,
    events: isWorthTelling ? [event] : [],
    heals: new Map() as Heals,
  }
}

/** The Sync is being deleted: its objects stay, free for others, or go and are waited for. */
function planRemoval(scene: Scene): SyncPlan {
  const { sync, live } = scene
  const standing = inventoryOf(sync).filter((entry) => live(entry)?.metadata.uid === entry.uid)
  const stays = ({ kind, uid }: { kind: string; uid: string }, entryPrune: string | undefined) =>
    sync.spec.deletionPolicy === 'Orphan' || kind === 'Node' || uid === sync.metadata.uid || entryPrune === 'disabled'
  const writes = [...standing].reverse().flatMap((entry): readonly SyncWrite[] => {
    const object = live(entry)
    if (stays(entry, object?.metadata.annotations?.[PRUNE_ANNOTATION])) return [{ do: 'Release', entry }]
    return object?.metadata.deletionTimestamp === undefined ? [{ do: 'Prune', entry }] : []
  })
  const released = new Set(writes.flatMap((write) => (write.do === 'Release' ? [entryKey(write.entry)] : [])))
  const keeps = standing.filter((entry) => !released.has(entryKey(entry)))
  return { ...quiet(scene, sync.status ?? {}), writes, keeps, isReleased: keeps.length === 0 }
}
