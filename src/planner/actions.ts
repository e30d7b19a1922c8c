/**
 * What a decision may ask of the store: one list, and `src/controllers/perform.ts` executes each member of it. A plan
 * that has nothing to do and says how long it waits is a legal plan.
 */
import type { Manifest, MctlObject } from '../api/meta.ts'

export interface ActionArgs {
  create: { readonly object: Manifest }
  /** Replaces the spec of the living object with this uid. */
  setSpec: { readonly object: MctlObject; readonly spec: unknown }
  setStatus: { readonly object: MctlObject; readonly status: unknown }
  /** Adds to metadata.annotations. */
  annotate: { readonly object: MctlObject; readonly annotations: Readonly<Record<string, string>> }
  /** `stopReason` is told to the agents: `GroupFailed` shortens the grace of a shard, nobody can use the survivors. */
  delete: { readonly object: MctlObject; readonly stopReason?: string }
  removeFinalizer: { readonly object: MctlObject; readonly finalizer: string }
  recordEvent: {
    readonly about: MctlObject
    readonly type: 'Normal' | 'Warning'
    /** Constant, CamelCase. */
    readonly reason: string
    readonly message: string
  }
}
export type StoreAction = { [K in keyof ActionArgs]: { readonly action: K } & ActionArgs[K] }[keyof ActionArgs]

export interface Plan {
  readonly actions: readonly StoreAction[]
  /** What was decided and what is waited for, a sentence each: for `mctl plan`, tests and logs. */
  readonly report: readonly string[]
  /** Look again after so many ms although nothing changed. */
  readonly waitMs?: number
}

export const setSpec = (object: MctlObject, spec: unknown): StoreAction => ({ action: 'setSpec', object, spec })
export const setStatus = (object: MctlObject, status: unknown): StoreAction => ({ action: 'setStatus', object, status })
export const annotate = (object: MctlObject, annotations: Readonly<Record<string, string>>): StoreAction => ({
  action: 'annotate',
  object,
  annotations,
})
export const remove = (object: MctlObject): StoreAction => ({ action: 'delete', object })
/** Read by agents on a Shard that is being deleted (agent/plan.ts). */
export const STOP_REASON_ANNOTATION = 'mctl.dev/stop-reason'

export const removeFinalizer = (object: MctlObject, finalizer: string): StoreAction => ({
  action: 'removeFinalizer',
  object,
  finalizer,
})

export function event(about: MctlObject, type: 'Normal' | 'Warning', reason: string, message: string): StoreAction {
  return { action: 'recordEvent', about, type, reason, message }
}

export const isBeingDeleted = (object: MctlObject): boolean => object.metadata.deletionTimestamp !== undefined

export const ownerOf = (object: MctlObject) => ({
  kind: object.kind,
  name: object.metadata.name,
  uid: object.metadata.uid,
  controller: true,
})

/** The smallest of the waits that are set. */
export function soonest(...waitsMs: readonly (number | undefined)[]): { waitMs?: number } {
  const set = waitsMs.filter((w) => w !== undefined)
  return set.length === 0 ? {} : { waitMs: Math.max(0, Math.min(...set)) }
}
