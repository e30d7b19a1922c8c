/**
 * What memory pressure means for this node: pure. Short memory stops new placements (the condition MemoryPressure, held
 * for a while so that it does not flap); memory that has been critical for ten seconds costs the least important group
 * its place, before the machine dies. The agent decides it alone, whether the server is there or not: a Mac out of
 * memory has seconds, and two deciders could stop two groups (docs/decisions/0008).
 */
import type { Shard } from '../src/api/shard.ts'
import type { Pressure } from './observe/facts.ts'

/** So long critical, and a group goes; the next one after as long again. */
export const CRITICAL_MS = 10_000
const HELD_AFTER_WARN_MS = 60_000
/** As in Kubernetes: what was stopped for want of memory must not come back at the first free page. */
const HELD_AFTER_CRITICAL_MS = 5 * 60_000
/** Readings further apart say nothing of the time between them. */
const READINGS_APART_MS = 15_000

/** Times in monotonic ms. */
export interface PressureHistory {
  readonly readAtMs: number
  readonly pressure: Pressure | undefined
  readonly criticalSinceMs?: number
  /** The condition stands until then. */
  readonly heldUntilMs?: number
}

export function afterReading(
  before: PressureHistory | undefined,
  pressure: Pressure | undefined,
  nowMs: number,
): PressureHistory {
  const unbroken = before !== undefined && nowMs - before.readAtMs <= READINGS_APART_MS
  const heldMs = pressure === 'Critical' ? HELD_AFTER_CRITICAL_MS : pressure === 'Warn' ? HELD_AFTER_WARN_MS : 0
  const heldUntilMs = Math.max(before?.heldUntilMs ?? 0, heldMs === 0 ? 0 : nowMs + heldMs)
  return {
    readAtMs: nowMs,
    pressure,
    ...(pressure === 'Critical' ? { criticalSinceMs: (unbroken ? before.criticalSinceMs : undefined) ?? nowMs } : {}),
    ...(heldUntilMs > nowMs ? { heldUntilMs } : {}),
  }
}

/** A group is being stopped for it: what that frees must show before another one goes. */
export const startOver = (history: PressureHistory, nowMs: number): PressureHistory =>
  history.criticalSinceMs === undefined ? history : { ...history, criticalSinceMs: nowMs }

export const isPressed = (history: PressureHistory | undefined, nowMs: number): boolean =>
  (history?.heldUntilMs ?? 0) > nowMs

/** Ms that memory has been critical for, as far as it was looked at. */
export const criticalForMs = ({ criticalSinceMs, readAtMs }: PressureHistory): number =>
  criticalSinceMs === undefined ? 0 : readAtMs - criticalSinceMs

/** Whose group goes first: lowest priority, then the youngest, then by name. undefined: nobody is here. */
export function leastImportant(shards: readonly Shard[]): Shard | undefined {
  const priority = ({ spec }: Shard) => spec.priority ?? 0
  const bornMs = ({ metadata }: Shard) => Date.parse(metadata.creationTimestamp)
  return [...shards].sort(
    (a, b) => priority(a) - priority(b) || bornMs(b) - bornMs(a) || (a.metadata.name > b.metadata.name ? -1 : 1),
  )[0]
}
