/**
 * What all loops share. A committed change is mapped to the keys that it may concern; a full pass every 5 minutes takes
 * the same path; a key is worked on by one transaction: snapshot → pure plan → writes. Nothing here retries inside a
 * pass: the next pass is the retry.
 */
import type { ConditionUpdate } from '../api/conditions.ts'
import { setConditions } from '../api/conditions.ts'
import type { Condition, MctlObject } from '../api/meta.ts'
import { keyOf, keyString, parseKey } from '../api/meta.ts'
import { isKindName } from '../api/kinds.ts'
import type { ObjectOf } from '../api/objects.ts'
import type { Traffic } from '../api/live.ts'
import type { ModelHub } from '../api/modelhub.ts'
import type { NodeSessions } from '../api/sessions.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { every } from '../lib/clock.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import type { OpError } from '../lib/errors.ts'
import { KeyQueue } from '../lib/keyqueue.ts'
import type { Logger } from '../lib/log.ts'
import { event, setStatus } from '../planner/actions.ts'
import type { Plan } from '../planner/actions.ts'
import type { World } from '../planner/world.ts'
import type { Change, Snapshot, Store } from '../store/store.ts'
import { perform } from './perform.ts'
import { worldOf } from './world.ts'

export interface ControllerDoors {
  readonly store: Store
  readonly sessions: NodeSessions
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Base URL that clients use, for status.endpoint; undefined: none yet. */
  readonly gatewayUrl: () => string | undefined
  /** Reads what `hf://` models are; absent: nobody does. */
  readonly hub?: ModelHub
  /** Of `watchSilence`; absent: silence is read from the nodes' conditions. */
  readonly silentForMs?: () => ReadonlyMap<string, number>
  /** What gateways told of themselves a moment ago; absent: there are none. */
  readonly gateways?: () => readonly Traffic[]
  /** Told of each pass of a loop. */
  readonly onPass?: ((controller: string, failed: boolean, durationMs: number) => void) | undefined
}

export interface Controller {
  /** Resolves when no key is ready or worked on; appointments in the future do not count. */
  idle(): Promise<void>
  /** Resolves when the key that is being worked on is done; the rest is left to the next start. */
  stop(): Promise<void>
}

export interface Loop {
  readonly name: string
  /** Keys of everything that this loop looks after. */
  allKeys(snapshot: Snapshot): readonly string[]
  /** Keys that a change may concern; `snapshot` is the state right after it. */
  keysOf(change: Change, snapshot: Snapshot): readonly string[]
  /** Works one key; a number asks for another look after that many ms. */
  reconcile(key: string): Promise<number | undefined>
  /** The store refused what was planned as Invalid: trying again cannot help, so it is said where people look. */
  refused?(key: string, error: OpError): Promise<void>
  /** Wakes keys for reasons other than commits; the answer ends it. */
  listen?(wake: (key: string) => void): () => void
}

const FULL_PASS_MS = 5 * 60_000
const retryBackoff = { firstMs: 200, factor: 2, maxMs: 30_000, jitter: 0.2 }

export function startController(doors: ControllerDoors, loop: Loop): Controller {
  const { store, clock, random } = doors
  const log = doors.log.with({ controller: loop.name })
  const queue = new KeyQueue({
    clock,
    random,
    backoff: retryBackoff,
    work: (key) => timed(doors, loop.name, () => workOn(doors, loop, key, log)),
    onError: (key, error, failures) => tellFailure(log, { key, error, failures }),
  })
  const wake = (key: string) => queue.add(key)
  const stopped = new AbortController()
  const unsubscribe = store.onCommit((changes) => {
    const snapshot = store.snapshot()
    for (const change of changes) loop.keysOf(change, snapshot).forEach(wake)
  })
  const unlisten = loop.listen?.(wake)
  const fullPass = () => loop.allKeys(store.snapshot()).forEach(wake)
  fullPass()
  void every(clock, FULL_PASS_MS, stopped.signal, fullPass)

  return {
    idle: () => queue.idle(),
    stop() {
      stopped.abort()
      unsubscribe()
      unlisten?.()
      queue.stop()
      return queue.idle()
    },
  }
}

async function timed<T>({ clock, onPass }: ControllerDoors, controller: string, pass: () => Promise<T>): Promise<T> {
  const startMs = clock.monotonicMs()
  let failed = true
  try {
    const answer = await pass()
    failed = false
    return answer
  } finally {
    onPass?.(controller, failed, clock.monotonicMs() - startMs)
  }
}

async function workOn(doors: ControllerDoors, loop: Loop, key: string, log: Logger): Promise<number | undefined> {
  try {
    return await loop.reconcile(key)
  } catch (error) {
    if (!isOpError(error)) await tellOfBug(doors, loop, key, error)
    if (!isOpError(error, 'Invalid')) throw error
    log.error('a plan was refused as invalid', { key, error: messageOf(error) })
    await loop.refused?.(key, error)
    return undefined
  }
}

/** What the world did wrong is a warning; what we did wrong is an error with its place (docs/decisions/0009). */
function tellFailure(log: Logger, { key, error, failures }: { key: string; error: unknown; failures: number }): void {
  const facts = { key, failures, error: messageOf(error) }
  if (isOpError(error)) log.warn('a pass failed', facts)
  else log.error('a bug in a pass', { ...facts, stack: error instanceof Error ? error.stack : undefined })
}

/**
 * A bug in one pass is contained: its transaction was undone, so nothing half-made is kept, and every other object goes
 * on being looked after. Who looks at this one must see it.
 */
async function tellOfBug({ store, log }: ControllerDoors, loop: Loop, key: string, error: unknown): Promise<void> {
  const { kind, namespace, name } = parseKey(key)
  const message = `the ${loop.name} controller cannot look after it: ${messageOf(error)}; it is tried again, other objects are not affected; please report this with the log of the server`
  try {
    await store.transact((tx) => {
      const object = isKindName(kind) ? tx.get(kind, namespace, name) : undefined
      if (object !== undefined) perform(tx, [event(object, 'Warning', 'ControllerBug', message)])
    })
  } catch (second) {
    log.warn('a bug was not told as an event', { key, error: messageOf(second) })
  }
}

/** One pass over one object: read it with its world, plan, write; answers the plan's wait. */
export function reconcileObject<K extends keyof ObjectOf>(
  { store, sessions, log, silentForMs }: ControllerDoors,
  kind: K,
  key: string,
  plan: (object: ObjectOf[K], world: World, nowMs: number) => Plan,
): Promise<number | undefined> {
  const { namespace, name } = parseKey(key)
  return store.transact((tx) => {
    const object = tx.get(kind, namespace, name)
    if (object === undefined) return undefined
    const made = plan(object, worldOf(tx, sessions.headroomBytes(), silentForMs?.()), tx.nowMs)
    const before = tx.revision
    perform(tx, made.actions)
    if (tx.revision !== before) log.debug('planned', { kind, name, report: made.report })
    return made.waitMs
  })
}

/** Says on the object itself that what it asks for cannot be written. */
export async function sayRefused(
  { store }: ControllerDoors,
  kind: 'ModelDeployment' | 'ShardGroup',
  key: string,
  update: ConditionUpdate,
): Promise<void> {
  const { namespace, name } = parseKey(key)
  await store.transact((tx) => {
    const object: (MctlObject & { status?: { conditions?: readonly Condition[] } }) | undefined = tx.get(
      kind,
      namespace,
      name,
    )
    if (object === undefined) return
    const conditions = setConditions(object.status?.conditions, [update], tx.nowMs)
    perform(tx, [setStatus(object, { ...object.status, conditions })])
  })
}

export const keyFor = (object: MctlObject): string => keyString(keyOf(object))

/** Keys of the owners of one kind: a change of a child concerns its parent. */
export const ownerKeys = (object: MctlObject, kind: keyof ObjectOf): readonly string[] =>
  (object.metadata.ownerReferences ?? [])
    .filter((owner) => owner.kind === kind)
    .map((owner) => keyString({ kind, namespace: object.metadata.namespace ?? '', name: owner.name }))
