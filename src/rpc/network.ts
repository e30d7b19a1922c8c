/**
 * A network of the mind, for the simulator: links between callers and the server that can be slow, cut, healed or reset.
 * It behaves as TCP does: within a stream nothing is lost or reordered, a reset breaks what is open, a cut says nothing
 * until keepalive gives up after 15 s. All by Clock and Random, so that a seed repeats a run.
 */
import type { Clock, Random } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'

/** keepalive 10 s + its timeout 5 s: when both ends know that a silent connection is dead. */
export const SILENCE_MS = 15_000
/** How long a new call waits for a connection. */
export const CONNECT_TIMEOUT_MS = 10_000

export interface LinkFaults {
  /** Uniform delay of each message. */
  readonly delayMs?: readonly [min: number, max: number]
  /** Chance that a message resets its call instead of arriving: the other side may or may not have seen the one before. */
  readonly resetChance?: number
}

/** `up`: to the server; `down`: from it. */
export type Direction = 'up' | 'down'

/** The way of one caller (a node, a user) to the server. */
export interface Link {
  readonly name: string
  /** Resolves when there is a connection; Unavailable when there is none in time, or the server is away. */
  open(signal: AbortSignal): Promise<void>
  /** Resolves when one message has crossed; Unavailable when the connection broke instead. */
  cross(signal: AbortSignal, direction: Direction): Promise<void>
  /** Told when open connections are reset. */
  onReset(listener: (error: OpError) => void): () => void
}

export interface Network {
  link(name: string): Link
  /** Slowness and loss of one link from now on; replaces what was said before. */
  faults(name: string, faults: LinkFaults): void
  /**
   * Nothing gets through (or nothing in one direction), nobody is told. A link can be cut for several reasons at once (a
   * pulled cable, a caller that is stopped) and is healed when the last one is gone.
   */
  cut(name: string, reason?: string, direction?: Direction): void
  heal(name: string, reason?: string): void
  /** Breaks open calls at once, as a crashed server or a pulled plug with RST does; new calls get through. */
  reset(name: string): void
  /** The server process is gone (true): calls break, new ones are refused at once; or back (false). */
  serverDown(down: boolean): void
  isCut(name: string, reason?: string): boolean
}

const CABLE = 'cable'

class MemoryLink implements Link {
  readonly name: string
  readonly #clock: Clock
  readonly #random: Random
  readonly #resetListeners = new Set<(error: OpError) => void>()
  #faults: LinkFaults = {}
  #healWaits: (() => void)[] = []
  /** Why it is cut, and which way. */
  readonly #cuts = new Map<string, Direction | undefined>()
  refused = false

  constructor(name: string, clock: Clock, random: Random) {
    this.name = name
    this.#clock = clock
    this.#random = random
  }

  async open(signal: AbortSignal): Promise<void> {
    if (this.refused) throw new OpError('Unavailable', `Unable to connect to the server: connection refused`)
    // A connection needs both directions.
    if (this.isCut() && !(await this.#healed(CONNECT_TIMEOUT_MS, signal)))
      throw new OpError(
        'Unavailable',
        `Unable to connect to the server: no connection within ${CONNECT_TIMEOUT_MS / 1000} s`,
      )
  }

  async cross(signal: AbortSignal, direction: Direction): Promise<void> {
    const { delayMs, resetChance = 0 } = this.#faults
    if (resetChance > 0 && this.#random.next() < resetChance) throw lost('connection reset')
    if (delayMs !== undefined) {
      const [min, max] = delayMs
      await sleep(this.#clock, min + (max - min) * this.#random.next(), signal)
    }
    if (this.#isCutFor(direction) && !(await this.#healed(SILENCE_MS, signal))) throw lost('keepalive timed out')
  }

  onReset(listener: (error: OpError) => void): () => void {
    this.#resetListeners.add(listener)
    return () => void this.#resetListeners.delete(listener)
  }

  set faults(faults: LinkFaults) {
    this.#faults = faults
  }

  isCut(reason?: string): boolean {
    return reason === undefined ? this.#cuts.size > 0 : this.#cuts.has(reason)
  }

  #isCutFor(direction: Direction): boolean {
    return [...this.#cuts.values()].some((cut) => cut === undefined || cut === direction)
  }

  cut(reason: string, direction: Direction | undefined): void {
    const before = this.#cuts.size
    this.#cuts.set(reason, direction)
    if (before > 0) return
    // Streams that say nothing find out, too: their pings are not answered.
    void this.#healed(SILENCE_MS, never).then((healed) => {
      if (!healed) this.reset('keepalive timed out')
    })
  }

  heal(reason: string): void {
    this.#cuts.delete(reason)
    if (this.#cuts.size > 0) return
    for (const wake of this.#healWaits.splice(0)) wake()
  }

  reset(reason: string): void {
    for (const listener of [...this.#resetListeners]) listener(lost(reason))
  }

  /** True when the link is healed within the time; false when the time is over or the signal aborts. */
  async #healed(withinMs: number, signal: AbortSignal): Promise<boolean> {
    const waiting = new AbortController()
    const stop = () => waiting.abort()
    this.#healWaits.push(stop)
    signal.addEventListener('abort', stop, { once: true })
    await sleep(this.#clock, withinMs, waiting.signal)
    signal.removeEventListener('abort', stop)
    this.#healWaits = this.#healWaits.filter((wait) => wait !== stop)
    return this.#cuts.size === 0
  }
}

const never = new AbortController().signal
const lost = (reason: string) => new OpError('Unavailable', `the connection to the server was lost: ${reason}`)

export function createNetwork(clock: Clock, random: Random): Network {
  const links = new Map<string, MemoryLink>()
  let down = false
  const linkOf = (name: string): MemoryLink => {
    const known = links.get(name)
    if (known !== undefined) return known
    const link = new MemoryLink(name, clock, random)
    link.refused = down
    links.set(name, link)
    return link
  }
  return {
    link: linkOf,
    faults: (name, faults) => void (linkOf(name).faults = faults),
    cut: (name, reason = CABLE, direction) => linkOf(name).cut(reason, direction),
    heal: (name, reason = CABLE) => linkOf(name).heal(reason),
    reset: (name) => linkOf(name).reset('connection reset'),
    serverDown(now) {
      down = now
      for (const link of links.values()) {
        link.refused = now
        if (now) link.reset('the server went away')
      }
    },
    isCut: (name, reason) => linkOf(name).isCut(reason),
  }
}
