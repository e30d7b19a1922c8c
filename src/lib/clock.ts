/**
 * Time and chance come in by this door (a lint rule holds it): whoever waits, stamps or jitters takes a `Clock` or a
 * `Random`, so that the simulator can run a day in a second and repeat a failing seed.
 */
import { randomUUID } from 'node:crypto'

/** A pending timer; `cancel` is idempotent and safe after it fired. */
export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall time in ms since 1970. May jump; never use it to measure a duration. */
  nowMs(): number
  /** Monotonic ms from an arbitrary start. */
  monotonicMs(): number
  /** Calls `run` once after `delayMs`. A pending timer keeps the process alive: who stops cancels what it waits for. */
  after(delayMs: number, run: () => void): Timer
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** A fresh UUID. */
  uuid(): string
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, Math.max(0, delayMs))
    return { cancel: () => clearTimeout(timer) }
  },
}

export const systemRandom: Random = {
  next: () => Math.random(),
  uuid: () => randomUUID(),
}

/** Resolves after `delayMs`, or at once (without an error) when `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const finish = () => {
      timer.cancel()
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const timer = clock.after(delayMs, finish)
    signal?.addEventListener('abort', finish, { once: true })
  })
}

/** Calls `run` every `periodMs` until the signal aborts; a slow `run` delays the next call and never overlaps it. */
export async function every(clock: Clock, periodMs: number, signal: AbortSignal, run: () => void | Promise<void>) {
  while (!signal.aborted) {
    await sleep(clock, periodMs, signal)
    if (!signal.aborted) await run()
  }
}

/** Runs `run` in a later turn of the event loop: what is queued in this turn shares it. */
export const nextTurn = (run: () => void): void => void setImmediate(run)
