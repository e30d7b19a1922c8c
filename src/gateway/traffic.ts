/**
 * What the gateway does at this moment, told to the server every two seconds: requests at each replica, requests that
 * wait, tokens of the last ten seconds. A failure is not told again: the next account is newer.
 */
import type { ReplicaTraffic, Traffic } from '../api/live.ts'
import type { Clock } from '../lib/clock.ts'
import { every } from '../lib/clock.ts'
import type { Balancer } from './balancer.ts'

export interface TrafficOptions {
  readonly clock: Clock
  readonly balancer: Balancer
  readonly tell: (traffic: Omit<Traffic, 'gateway'>) => Promise<unknown>
}

const EVERY_MS = 2_000
const WINDOW_SECONDS = 10

/** Tokens of the last ten whole seconds, second by second, and of the one that goes on. */
interface Window {
  readonly tokens: number[]
  second: number
}

export class TrafficTeller {
  readonly #options: TrafficOptions
  readonly #windows = new Map<string, Window>()
  readonly #over = new AbortController()

  constructor(options: TrafficOptions) {
    this.#options = options
    void every(options.clock, EVERY_MS, this.#over.signal, () => this.#tell())
  }

  /** So many tokens came from the replica just now. */
  count(shardUid: string, tokens: number): void {
    const window = this.#windows.get(shardUid) ?? { tokens: [], second: this.#second() }
    this.#windows.set(shardUid, window)
    this.#moveOn(window)
    window.tokens[window.tokens.length - 1] = (window.tokens.at(-1) ?? 0) + tokens
  }

  stop(): void {
    this.#over.abort()
  }

  async #tell(): Promise<void> {
    const { balancer, tell } = this.#options
    const replicas = balancer.loads()
    for (const uid of this.#windows.keys())
      if (!replicas.some(({ shardUid }) => shardUid === uid)) this.#windows.delete(uid)
    const traffic = {
      replicas: replicas.map((load): ReplicaTraffic => ({
        ...load,
        tokensPerSecond: this.#tokensPerSecond(load.shardUid),
      })),
      queues: balancer.queues(),
    }
    // The server may be away, and says so in its own log when it is back.
    await tell(traffic).catch(() => {})
  }

  #tokensPerSecond(shardUid: string): number {
    const window = this.#windows.get(shardUid)
    if (window === undefined) return 0
    this.#moveOn(window)
    const whole = window.tokens.slice(0, -1)
    return whole.reduce((sum, tokens) => sum + tokens, 0) / WINDOW_SECONDS
  }

  #moveOn(window: Window): void {
    const passed = this.#second() - window.second
    window.second += passed
    const fresh = Math.min(WINDOW_SECONDS + 1, window.tokens.length === 0 ? 1 : passed)
    window.tokens.push(...Array<number>(fresh).fill(0))
    window.tokens.splice(0, window.tokens.length - WINDOW_SECONDS - 1)
  }

  #second = (): number => Math.floor(this.#options.clock.monotonicMs() / 1000)
}
