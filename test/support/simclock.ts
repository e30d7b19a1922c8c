/**
 * The clock of one process or machine of the simulator, on top of another one: it can be stopped (SIGSTOP, a sleeping
 * Mac), go on later with everything that became due meanwhile, die with all that was planned, and be set wrong.
 */
import type { Clock, Timer } from '../../src/lib/clock.ts'

interface Appointment {
  readonly run: () => void
  timer: Timer | undefined
}

export class ProcessClock implements Clock {
  readonly #clock: Clock
  readonly #planned = new Set<Appointment>()
  #due: Appointment[] = []
  #wakes: (() => void)[] = []
  #paused = false
  #dead = false
  #wrongByMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  nowMs(): number {
    return this.#clock.nowMs() + this.#wrongByMs
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs()
  }

  after(delayMs: number, run: () => void): Timer {
    if (this.#dead) return { cancel: () => {} }
    const appointment: Appointment = { run, timer: undefined }
    this.#planned.add(appointment)
    appointment.timer = this.#clock.after(delayMs, () => this.#fire(appointment))
    return {
      cancel: () => {
        this.#planned.delete(appointment)
        appointment.timer?.cancel()
      },
    }
  }

  #fire(appointment: Appointment): void {
    if (!this.#planned.has(appointment)) return
    if (this.#paused) return void this.#due.push(appointment)
    this.#planned.delete(appointment)
    appointment.run()
  }

  get isPaused(): boolean {
    return this.#paused
  }

  pause(): void {
    this.#paused = true
  }

  /** What became due meanwhile happens now, in order and each in a turn of its own. */
  resume(): void {
    this.#paused = false
    for (const appointment of this.#due.splice(0)) this.#clock.after(0, () => this.#fire(appointment))
    for (const wake of this.#wakes.splice(0)) wake()
  }

  /** Resolves when the process runs; never for a dead one. */
  running(): Promise<void> {
    return this.#paused || this.#dead ? new Promise((resolve) => this.#wakes.push(resolve)) : Promise.resolve()
  }

  /** The wall clock of this process jumps; durations do not. */
  jumpWall(byMs: number): void {
    this.#wrongByMs += byMs
  }

  die(): void {
    this.#dead = true
    for (const { timer } of this.#planned) timer?.cancel()
    this.#planned.clear()
    this.#due = []
    this.#wakes = []
  }
}
