/**
 * When drift is undone: 5 s after it was seen, each time later for an object that drifts again and again, and not at all
 * once a loop is plain: somebody else wants the field, and a fight helps nobody. Pure; what it keeps is memory only, for
 * a restarted server may begin anew.
 */
export const HEAL_AFTER_MS = 5_000
export const HEAL_MAX_MS = 5 * 60_000
/** A field that flips more than 5 times within 10 minutes is a loop. */
export const LOOP_FLIPS = 5
export const LOOP_MS = 10 * 60_000

export interface HealRecord {
  /** When the present drift was first seen; absent: there is none. */
  readonly seenAtMs?: number
  /** Heals of the last 10 minutes, oldest first. */
  readonly healedAtMs: readonly number[]
  readonly looping: boolean
}
/** By key of the object. */
export type Heals = ReadonlyMap<string, HealRecord>

export type HealVerdict =
  | { readonly kind: 'Heal' }
  | { readonly kind: 'Wait'; readonly waitMs: number }
  /** More than a person would do: it stays as it is until the source changes or someone asks. */
  | { readonly kind: 'Loop' }

/** What to do about an object that differs now, and what to remember of it. `nowMs` is monotonic. */
export function judgeDrift(old: HealRecord | undefined, nowMs: number): { verdict: HealVerdict; record: HealRecord } {
  const healedAtMs = (old?.healedAtMs ?? []).filter((ms) => nowMs - ms < LOOP_MS)
  const seenAtMs = old?.seenAtMs ?? nowMs
  if (old?.looping === true || healedAtMs.length >= LOOP_FLIPS)
    return { verdict: { kind: 'Loop' }, record: { seenAtMs, healedAtMs, looping: true } }
  const delayMs = Math.min(HEAL_MAX_MS, HEAL_AFTER_MS * 2 ** healedAtMs.length)
  const waitMs = seenAtMs + delayMs - nowMs
  if (waitMs > 0) return { verdict: { kind: 'Wait', waitMs }, record: { seenAtMs, healedAtMs, looping: false } }
  return { verdict: { kind: 'Heal' }, record: { healedAtMs: [...healedAtMs, nowMs], looping: false } }
}

/** The record of an object that is as it should be; undefined when there is nothing left to remember. */
export function settled(old: HealRecord | undefined, nowMs: number): HealRecord | undefined {
  const healedAtMs = (old?.healedAtMs ?? []).filter((ms) => nowMs - ms < LOOP_MS)
  return healedAtMs.length === 0 ? undefined : { healedAtMs, looping: false }
}
