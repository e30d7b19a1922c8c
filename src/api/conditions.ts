/** Conditions: a statement of state with a reason; lastTransitionTime moves only when status flips. */
import type { Condition, ConditionStatus } from './meta.ts'
import { timestamp } from './meta.ts'

export interface ConditionUpdate {
  readonly type: string
  readonly status: ConditionStatus
  readonly reason: string
  readonly message: string
  readonly observedGeneration?: number
}

export const findCondition = (conditions: readonly Condition[] | undefined, type: string): Condition | undefined =>
  conditions?.find((c) => c.type === type)

export const isTrue = (conditions: readonly Condition[] | undefined, type: string): boolean =>
  findCondition(conditions, type)?.status === 'True'

/** The list with each update merged in by type; an update that says nothing new leaves its condition as it was. */
export function setConditions(
  conditions: readonly Condition[] | undefined,
  updates: readonly ConditionUpdate[],
  nowMs: number,
): readonly Condition[] {
  const merged = new Map((conditions ?? []).map((c) => [c.type, c]))
  for (const update of updates) {
    const old = merged.get(update.type)
    const lastTransitionTime = old?.status === update.status ? old.lastTransitionTime : timestamp(nowMs)
    merged.set(update.type, { ...update, lastTransitionTime })
  }
  return [...merged.values()]
}
