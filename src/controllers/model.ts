/**
 * The loop of sources on the hub: whoever names an `hf://` model (or an https:// file) gets it pinned to a commit and read by its headers,
 * once per source and revision in the cluster. Reading takes seconds and more, so it happens beside the transactions:
 * a pass starts it, and its end wakes the key again. Failures are told on the Model and tried again with backoff.
 */
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { ModelHub } from '../api/modelhub.ts'
import { readSource } from '../api/modelhub.ts'
import type { BackoffPolicy } from '../lib/backoff.ts'
import { backoffMs } from '../lib/backoff.ts'
import { isOpError, messageOf, OpError } from '../lib/errors.ts'
import type { Change, Snapshot } from '../store/store.ts'
import { isOfKind } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { keyOfSource, planSource, sourceOfKey, sourceOfModel, sourceOfRef } from './modelplan.ts'
import type { Answer } from './modelplan.ts'
import { perform } from './perform.ts'

/** Readings at once: mostly waiting, and a hub that stalls must not hold up the others. */
const MAX_READINGS = 4
const retry: BackoffPolicy = { firstMs: 5_000, factor: 2, maxMs: 10 * 60_000, jitter: 0.2 }

export function modelLoop(doors: ControllerDoors, hub: ModelHub): Loop {
  const readings = new Readings(doors, hub)
  return {
    name: 'model',
    allKeys: (snapshot) => [
      ...new Set([
        ...snapshot.list('Model').flatMap(keyOfModel),
        ...snapshot.list('ModelDeployment').flatMap((d) => keysOfDeployment(d, snapshot)),
      ]),
    ],
    keysOf,
    listen: (wake) => readings.listen(wake),
    async reconcile(key) {
      const source = sourceOfKey(key)
      const answer = readings.answer(key)
      const plan = await doors.store.transact((tx) => {
        const made = planSource({
          ...source,
          models: tx.list('Model'),
          deployments: tx.list('ModelDeployment'),
          answer,
          nowMs: tx.nowMs,
        })
        perform(tx, made.actions)
        return made
      })
      if (plan.then === 'Read') readings.start(key)
      if (plan.then === 'Forget') readings.forget(key)
      return plan.waitMs
    },
  }
}

const keyOfModel = (model: Model): readonly string[] => {
  const source = sourceOfModel(model)
  return source === undefined ? [] : [keyOfSource(source)]
}

function keysOfDeployment({ spec }: ModelDeployment, snapshot: Snapshot): readonly string[] {
  const named = spec.model.name === undefined ? undefined : snapshot.get('Model', '', spec.model.name)
  if (named !== undefined) return keyOfModel(named)
  const source = sourceOfRef(spec.model)
  return source === undefined ? [] : [keyOfSource(source)]
}

function keysOf({ object, previous }: Change, snapshot: Snapshot): readonly string[] {
  if (isOfKind(object, 'Model'))
    return [...keyOfModel(object), ...(previous === undefined ? [] : keyOfModel(previous as Model))]
  return isOfKind(object, 'ModelDeployment') ? keysOfDeployment(object, snapshot) : []
}

/** What is being read, and how reading went; only memory knows it, for a restarted server reads anew. */
class Readings {
  readonly #doors: ControllerDoors
  readonly #hub: ModelHub
  readonly #answers = new Map<string, Answer>()
  readonly #failures = new Map<string, number>()
  readonly #dueMs = new Map<string, number>()
  readonly #running = new Set<string>()
  readonly #waiting = new Set<string>()
  #stop = new AbortController()
  #wake: (key: string) => void = () => {}

  constructor(doors: ControllerDoors, hub: ModelHub) {
    this.#doors = doors
    this.#hub = hub
  }

  listen(wake: (key: string) => void): () => void {
    this.#wake = wake
    this.#stop = new AbortController()
    return () => {
      this.#stop.abort()
      this.#waiting.clear()
    }
  }

  answer(key: string): Answer | undefined {
    const answer = this.#answers.get(key)
    if (answer?.kind !== 'Failed' || this.#busy(key)) return answer
    const leftMs = (this.#dueMs.get(key) ?? 0) - this.#doors.clock.monotonicMs()
    return { ...answer, retryInMs: Math.max(0, leftMs) }
  }

  start(key: string): void {
    if (this.#busy(key) || this.#stop.signal.aborted) return
    if (this.#answers.get(key)?.kind !== 'Failed') this.#answers.set(key, { kind: 'Reading' })
    if (this.#running.size >= MAX_READINGS) this.#waiting.add(key)
    else void this.#read(key)
  }

  forget(key: string): void {
    if (this.#busy(key)) return
    this.#answers.delete(key)
    this.#failures.delete(key)
    this.#dueMs.delete(key)
  }

  #busy(key: string): boolean {
    return this.#running.has(key) || this.#waiting.has(key)
  }

  async #read(key: string): Promise<void> {
    const { revision, source } = sourceOfKey(key)
    const { log } = this.#doors
    this.#running.add(key)
    this.#waiting.delete(key)
    try {
      const model = await readSource(this.#hub, source, revision, this.#stop.signal)
      this.#answers.set(key, { kind: 'Read', model })
      log.info('model read from the hub', { source, modelRevision: revision, commit: model.resolvedRevision })
    } catch (error) {
      this.#fail(key, error)
      if (!this.#stop.signal.aborted)
        log.warn('model not read from the hub', { source, modelRevision: revision, error: messageOf(error) })
    }
    this.#running.delete(key)
    const [next] = this.#waiting
    if (next !== undefined) void this.#read(next)
    if (!this.#stop.signal.aborted) this.#wake(key)
  }

  #fail(key: string, error: unknown): void {
    const { clock, random } = this.#doors
    const failures = (this.#failures.get(key) ?? 0) + 1
    this.#failures.set(key, failures)
    const told = isOpError(error) ? error : new OpError('Internal', messageOf(error), { cause: error })
    const waitMs = Math.max(backoffMs(retry, failures, random.next()), (told.retryAfterSeconds ?? 0) * 1000)
    this.#dueMs.set(key, clock.monotonicMs() + waitMs)
    this.#answers.set(key, { kind: 'Failed', code: told.code, message: messageOf(told), retryInMs: waitMs })
  }
}
