/**
 * A clock that only moves when told to, and seeded chance: a day runs in a second, and a seed tells the same story
 * twice. Timers fire one by one, in order of time and then of making; between two of them everything that is ready to
 * run (promises, turns of the event loop) runs to its end.
 */
import type { Clock, Random, Timer } from '../../src/lib/clock.ts'

interface Appointment {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
}

export class VirtualClock implements Clock {
  #monotonicMs = 0
  #wallOffsetMs: number
  #order = 0
  #failure: Error | undefined
  readonly #appointments = new Set<Appointment>()

  constructor(startMs = Date.parse('2026-01-01T00:00:00Z')) {
    this.#wallOffsetMs = startMs
  }

  nowMs(): number {
    return Math.floor(this.#wallOffsetMs + this.#monotonicMs)
  }

  monotonicMs(): number {
    return this.#monotonicMs
  }

  after(delayMs: number, run: () => void): Timer {
    const appointment = { atMs: this.#monotonicMs + Math.max(0, delayMs), order: this.#order++, run }
    this.#appointments.add(appointment)
    return { cancel: () => void this.#appointments.delete(appointment) }
  }

  /** The wall clock jumps; durations do not. */
  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs
  }

  /** Time passes and nothing runs: the machine sleeps. What was due meanwhile runs, late, when it is advanced again. */
  sleep(ms: number): void {
    this.#monotonicMs += ms
  }

  /** Ends the run under way: `advance` rejects with it from now on. */
  fail(failure: Error): void {
    this.#failure = failure
  }

  /** Runs every timer that is due within `ms`, and what each of them sets off. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#monotonicMs + ms
    await settle()
    for (let next = this.#next(untilMs); next !== undefined; next = this.#next(untilMs)) {
      this.#appointments.delete(next)
      this.#monotonicMs = Math.max(this.#monotonicMs, next.atMs)
      next.run()
      await settle(() => this.#failure)
    }
    this.#monotonicMs = untilMs
  }

  /** Advances in steps until `holds`; throws when it does not within `limitMs`. */
  async advanceUntil(holds: () => boolean, limitMs: number, what: string, stepMs = 500): Promise<void> {
    const endMs = this.#monotonicMs + limitMs
    await settle()
    while (!holds()) {
      if (this.#monotonicMs >= endMs) throw new Error(`${what}: not within ${limitMs / 1000} s of virtual time`)
      await this.advance(stepMs)
    }
  }

  #next(untilMs: number): Appointment | undefined {
    let first: Appointment | undefined
    for (const a of this.#appointments)
      if (
        a.atMs <= untilMs &&
        (first === undefined || a.atMs < first.atMs || (a.atMs === first.atMs && a.order < first.order))
      )
        first = a
    return first
  }
}

/**
 * Resolves when no promise and no turn of the event loop is waiting to run any more. That may never come: `failed` is asked
 * in each turn for an error to reject with.
 */
export async function settle(failed: () => Error | undefined = () => undefined): Promise<void> {
  let quiet = 0
  while (quiet < 2) {
    const failure = failed()
    if (failure !== undefined) throw failure
    const busy = process.getActiveResourcesInfo().includes('Immediate')
    await new Promise<void>((resolve) => setImmediate(resolve))
    quiet = busy ? 0 : quiet + 1
  }
}

/** mulberry32: small, fast, and the same everywhere. */
export class SeededRandom implements Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  uuid(): string {
    const hex = () =>
      Math.floor(this.next() * 2 ** 32)
        .toString(16)
        .padStart(8, '0')
    const h = hex() + hex() + hex() + hex()
    return `${h.slice(0, 8)}-${h.slice(8, 12)}-4${h.slice(13, 16)}-8${h.slice(17, 20)}-${h.slice(20)}`
  }

  /** Uniform in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound)
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[this.below(items.length)]
  }
}
