/**
 * The loop of Syncs. Level-based: a pass looks at the Sync, at what was read of its source and at the living objects,
 * plans, and writes in one transaction. Hints, changes and time only wake it. It may die at any line: what is applied
 * and what is said of it are one commit, and everything else is found out again.
 */
import type { MctlObject } from '../api/meta.ts'
import { keyOf, keyString, parseKey } from '../api/meta.ts'
import type { Sync } from '../api/sync.ts'
import { PREVIEW_ANNOTATION, SYNC_LABEL } from '../api/sync.ts'
import { setConditions } from '../api/conditions.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import { KeyQueue } from '../lib/keyqueue.ts'
import type { Logger } from '../lib/log.ts'
import { involvedObjectOf, recordEvent, setStatus } from '../store/objects.ts'
import type { Change, Snapshot, Store, Tx } from '../store/store.ts'
import type { Heals } from './drift.ts'
import { examine, liveObject } from './examine.ts'
import type { Finding } from './examine.ts'
import { COMPONENT, performSync } from './perform.ts'
import { planSync } from './plan.ts'
import type { SourceReader } from './reader.ts'
import { Readings } from './readings.ts'
import type { Finished } from './readings.ts'
import type { Rendered } from './render.ts'
import type { Scene, SyncPlan } from './scene.ts'

export interface GitopsDoors {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly reader: SourceReader
  /** Told of each pass that wrote something, and of each reading: for measures. */
  readonly onPass?: (sync: string, plan: SyncPlan) => void
  readonly onRead?: (sync: string, finished: Finished) => void
}

export interface Gitops {
  /** The source of this Sync may have changed: it is looked at, soon. */
  hint(sync: string): void
  /** Resolves when no pass and no reading is under way; appointments in the future do not count. */
  idle(): Promise<void>
  stop(): Promise<void>
}

const FULL_PASS_MS = 5 * 60_000
/** Several hints, or changes of several objects, make one look. */
const HINT_MS = 500
const CHANGE_MS = 100
const retryBackoff = { firstMs: 500, factor: 2, maxMs: 60_000, jitter: 0.2 }

export function startGitops(doors: GitopsDoors): Gitops {
  const { store, clock, random } = doors
  const log = doors.log.with({ controller: 'sync' })
  const memory: Memory = { heals: new Map(), requests: new Map() }
  const readings = new Readings({ ...doors, log }, (key, finished) => {
    if (finished !== undefined) doors.onRead?.(parseKey(key).name, finished)
    queue.add(key)
  })
  const queue = new KeyQueue({
    clock,
    random,
    backoff: retryBackoff,
    work: (key) => pass({ ...doors, log }, readings, memory, key),
    onError: (key, error, failures) => tellFailure(log, { key, error, failures }),
  })
  const unsubscribe = store.onCommit((changes) => {
    const snapshot = store.snapshot()
    for (const change of changes) {
      for (const key of ownKeys(change, snapshot)) queue.add(key)
      for (const key of keysOfObject(change)) queue.addAfter(key, CHANGE_MS)
    }
  })
  for (const sync of store.snapshot().list('Sync')) queue.add(keyFor(sync))
  return {
    hint(name) {
      const key = keyString({ kind: 'Sync', namespace: '', name })
      readings.hint(key)
      queue.addAfter(key, HINT_MS)
    },
    async idle() {
      let revision: number
      do {
        revision = store.stats().revision
        await queue.idle()
        await readings.idle()
        await queue.idle()
      } while (store.stats().revision !== revision)
    },
    async stop() {
      unsubscribe()
      queue.stop()
      await readings.stop()
      await queue.idle()
    },
  }
}

/** What the world did wrong is a warning; what we did wrong is an error with its place (docs/decisions/0009). */
function tellFailure(log: Logger, { key, error, failures }: { key: string; error: unknown; failures: number }): void {
  const facts = { key, failures, error: messageOf(error) }
  if (isOpError(error)) log.warn('a pass failed', facts)
  else log.error('a bug in a pass', { ...facts, stack: error instanceof Error ? error.stack : undefined })
}

/** What a restarted server may forget. */
interface Memory {
  readonly heals: Map<string, Heals>
  /** The last `mctl sync now` that was seen: it makes loops be tried again. */
  readonly requests: Map<string, string | undefined>
}

const keyFor = (object: MctlObject): string => keyString(keyOf(object))

/** A Sync that changed, and those that may wait for it or for what it held. */
function ownKeys({ type, object, previous }: Change, snapshot: Snapshot): readonly string[] {
  if (object.kind !== 'Sync') return []
  const before = previous as Sync | undefined
  const now = object as Sync
  const others = snapshot.list('Sync').filter(({ metadata }) => metadata.name !== now.metadata.name)
  const isNewsForOthers =
    type !== 'MODIFIED' ||
    before?.status?.conditions !== now.status?.conditions ||
    before?.status?.health !== now.status?.health ||
    before?.status?.inventory !== now.status?.inventory
  return [...(type === 'DELETED' ? [] : [keyFor(object)]), ...(isNewsForOthers ? others.map(keyFor) : [])]
}

/** The Syncs that an object carries the label of, now or before. */
function keysOfObject({ object, previous }: Change): readonly string[] {
  if (object.kind === 'Event') return []
  const names = [object, previous].flatMap((one) => one?.metadata.labels?.[SYNC_LABEL] ?? [])
  return [...new Set(names)].map((name) => keyString({ kind: 'Sync', namespace: '', name }))
}

type PassDoors = GitopsDoors

async function pass(doors: PassDoors, readings: Readings, memory: Memory, key: string): Promise<number | undefined> {
  const { name } = parseKey(key)
  const sync = doors.store.snapshot().get('Sync', '', name)
  if (sync === undefined) {
    readings.forget(key)
    memory.heals.delete(key)
    memory.requests.delete(key)
    return undefined
  }
  const finished = readings.of(key, sync)
  const request = finished?.asked.request
  if (memory.requests.get(key) !== request) memory.heals.delete(key)
  memory.requests.set(key, request)
  const plan = await carryOut(doors, name, finished, memory.heals.get(key) ?? new Map<string, never>())
  if (plan === undefined) return undefined
  memory.heals.set(key, plan.heals)
  doors.onPass?.(name, plan)
  if (plan.isReleased === true) doors.reader.forget(sync.metadata.uid)
  const isRead = sync.metadata.deletionTimestamp === undefined && (!sync.spec.suspend || wantsPreview(sync))
  const nextReadMs = isRead ? readings.start(key, sync) : undefined
  return Math.min(plan.waitMs ?? Infinity, nextReadMs ?? Infinity, FULL_PASS_MS)
}

const wantsPreview = ({ metadata, status }: Sync): boolean => {
  const request = metadata.annotations?.[PREVIEW_ANNOTATION]
  return request !== undefined && status?.preview?.request !== request
}

/** Plans and writes in one transaction. When the store refuses the whole, that is said in another one and tried again. */
async function carryOut(
  { store, clock, log }: PassDoors,
  name: string,
  finished: Finished | undefined,
  heals: Heals,
): Promise<SyncPlan | undefined> {
  try {
    const done = await store.transact((tx) => {
      const sync = tx.get('Sync', '', name)
      if (sync === undefined) return undefined
      const plan = planSync(sceneOf(tx, sync, { finished, heals, monotonicMs: clock.monotonicMs() }))
      return { plan, audit: performSync(tx, sync, plan) }
    })
    for (const write of done?.audit ?? [])
      log.info('audit', { user: 'mctl-gitops', sync: name, ...write, decision: 'allowed' })
    return done?.plan
  } catch (error) {
    await sayFailed(store, name, error)
    throw error
  }
}

interface Known {
  readonly finished: Finished | undefined
  readonly heals: Heals
  readonly monotonicMs: number
}

function sceneOf(tx: Tx, sync: Sync, { finished, heals, monotonicMs }: Known): Scene {
  const examined = new Map<Rendered, readonly Finding[]>()
  const { request, preview } = finished?.asked ?? {}
  return {
    sync,
    syncs: tx.list('Sync'),
    reading: finished?.reading,
    answers: {
      ...(request === undefined ? {} : { request }),
      ...(preview === undefined ? {} : { preview }),
    },
    tookMs: finished === undefined ? 0 : finished.endedMs - finished.startedMs,
    examine(rendered) {
      const known = examined.get(rendered) ?? examine(tx, sync, rendered)
      examined.set(rendered, known)
      return known
    },
    live: (entry) => liveObject(tx, entry),
    heals,
    nowMs: tx.nowMs,
    monotonicMs,
  }
}

/** On the Sync itself, where people look; a bug is contained to it, for its transaction was undone. */
async function sayFailed(store: Store, name: string, error: unknown): Promise<void> {
  const message = messageOf(error)
  await store.transact((tx) => {
    const sync = tx.get('Sync', '', name)
    if (sync === undefined) return
    const update = {
      type: 'Ready',
      status: 'False',
      reason: 'ApplyFailed',
      message: `nothing was changed: ${message}; it is tried again`,
      observedGeneration: sync.metadata.generation,
    } as const
    setStatus(tx, sync, { ...sync.status, conditions: setConditions(sync.status?.conditions, [update], tx.nowMs) })
    if (isOpError(error)) return
    const involvedObject = involvedObjectOf(sync)
    const source = { component: COMPONENT }
    recordEvent(tx, { involvedObject, type: 'Warning', reason: 'ControllerBug', message, source })
  })
}
