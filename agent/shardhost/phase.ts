/**
 * What an engine's events mean for its shard: pure, events in, view out. Ready is not among them for a leader: its
 * ready event only allows the one-token completion that makes it so (readiness.ts).
 */
import type { ShardExit } from '../../src/api/shard.ts'
import type { EngineEvent, HostPhase } from './protocol.ts'

export interface EngineView {
  readonly phase: HostPhase
  /** The engine has said ready. */
  readonly saidReady: boolean
  /** Last heartbeat: seconds without progress then, and when that was (monotonic ms). */
  readonly beat?: { readonly ageSeconds: number; readonly atMs: number }
  /** Has it requests, what has it done so far, and when (monotonic ms) did that grow, or had it none? */
  readonly work?: { readonly busy: boolean; readonly done: number; readonly atMs: number }
  /** Last words of the engine about its own end. */
  readonly farewell?: { readonly code: number; readonly reason: string }
}

export const startingView: EngineView = { phase: 'Starting', saidReady: false }

/** The view after one event. Stopping and Exited are the host's own words: no event leads out of them. */
export function onEvent(view: EngineView, event: EngineEvent, atMs: number): EngineView {
  const starting = view.phase === 'Starting'
  switch (event.ev) {
    case 'loading':
    case 'loaded':
      return starting ? { ...view, phase: 'Loading' } : view
    case 'ready':
      // A sign of life like a heartbeat: an engine that freezes right after it must age, too.
      return { ...view, saidReady: true, phase: starting ? 'Loading' : view.phase, beat: { ageSeconds: 0, atMs } }
    case 'hb':
      return { ...view, beat: { ageSeconds: event.age, atMs }, work: workAfter(view.work, event, atMs) }
    case 'exit':
      return { ...view, farewell: { code: event.code, reason: event.reason } }
    case 'start':
    case 'joined':
    case 'stopping':
      return view
  }
}

function workAfter(
  before: EngineView['work'],
  event: Extract<EngineEvent, { ev: 'hb' }>,
  atMs: number,
): NonNullable<EngineView['work']> {
  const busy = event.busy || event.active > 0 || event.queued > 0
  const done = event.steps + event.ptok + event.gtok
  return busy && before?.busy === true && before.done === done ? before : { busy, done, atMs }
}

/**
 * Seconds without progress: what the last heartbeat said plus the time since then, so that an engine that no longer
 * beats ages, too. Undefined before Ready: loading makes no steps.
 */
export function progressAgeSeconds(view: EngineView, nowMs: number): number | undefined {
  if (view.phase !== 'Ready' || view.beat === undefined) return undefined
  const sinceBeat = Math.max(0, (nowMs - view.beat.atMs) / 1000)
  return Math.round((view.beat.ageSeconds + sinceBeat) * 10) / 10
}

/** A line of the event pipe; undefined for what is no event of ours. */
export function parseEvent(line: string): EngineEvent | undefined {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value !== 'object' || value === null || !('ev' in value)) return undefined
    return knownEvents.has(String(value.ev)) ? (value as EngineEvent) : undefined
  } catch {
    return undefined
  }
}
const knownEvents = new Set<string>(['start', 'joined', 'loading', 'loaded', 'ready', 'hb', 'stopping', 'exit'])

export interface EngineEnd {
  readonly code: number | null
  readonly signal: string | null
  readonly phase: HostPhase
  readonly farewell?: { readonly reason: string }
  readonly lastLogLine?: string
  /** Why we ended it, when we did. */
  readonly asked?: { readonly reason: string; readonly message: string }
  readonly atMs: number
}

/** Exit codes of the engine contract (facts/engines.md §10.3). */
const meaningOfCode: Readonly<Record<number, string>> = {
  64: 'WorldMismatch',
  65: 'EngineUnsupported',
  75: 'ShardhostLost',
}

/** How an engine's end is told. An end that nobody asked for is a failure whatever its code: 0 has been seen for all. */
export function exitOf(end: EngineEnd): ShardExit {
  const never = end.code === null && end.signal === null
  const how = end.signal !== null ? `was ended by ${end.signal}` : `ended with code ${end.code ?? '?'}`
  // Whoever is ended by a signal says nothing about it: its last log line is about something else.
  const words = end.farewell?.reason ?? (end.signal === null ? end.lastLogLine : undefined)
  const because = words === undefined || words === '' ? '' : `: ${words}`
  return {
    ...(end.code === null ? {} : { code: end.code }),
    ...(end.signal === null ? {} : { signal: end.signal }),
    reason: end.asked?.reason ?? reasonOf(end),
    message:
      end.asked === undefined
        ? `the engine ${how} while ${end.phase}${because}`
        : `${end.asked.message}${never ? '' : `; the engine ${how}`}`,
    atMs: end.atMs,
  }
}

function reasonOf(end: EngineEnd): string {
  // SIGALRM is the engine's own deadline timer: joining a ring holds the interpreter, only the kernel can act then.
  if (end.signal === 'SIGALRM') return 'StartDeadline'
  if (end.signal !== null) return 'EngineCrashed'
  return meaningOfCode[end.code ?? -1] ?? 'EngineExited'
}
