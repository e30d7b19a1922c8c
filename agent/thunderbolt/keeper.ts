/**
 * Keeps the addresses of this Mac's Thunderbolt cables as the server gave them out, for as long as the agent runs: looks
 * when the server's word or this machine's addresses change, once a minute, and again soon after something failed. So a
 * moved cable, a port that macOS took back into its bridge and a reboot are the same to it.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ConditionUpdate } from '../../src/api/conditions.ts'
import type { NodeCable } from '../../src/api/node.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { every } from '../../src/lib/clock.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { Logger } from '../../src/lib/log.ts'
import type { Interfaces } from '../observe/ports.ts'
import { notSet } from './condition.ts'
import type { Outcome, ThunderboltDoors } from './configure.ts'
import { setThunderbolt } from './configure.ts'

const PERIOD_MS = 10_000
const LOOK_ANYWAY_MS = 60_000

export interface KeeperOptions {
  readonly doors: ThunderboltDoors
  /** What the server gave this node's cables; undefined: it does not say now. */
  readonly cables: () => Promise<readonly NodeCable[] | undefined>
  /** Own address on the way to the server. */
  readonly ownAddress: string
  /** Addresses that gangs which run here use; undefined: it is not known yet which run. */
  readonly inUse: () => readonly string[] | undefined
  readonly interfaces: () => Interfaces
  readonly clock: Clock
  readonly log: Logger
}

interface Pass {
  readonly cables: readonly NodeCable[]
  /** As they were when it ended. */
  readonly seen: Interfaces
  readonly atMs: number
  readonly outcome: Outcome
}

export class ThunderboltKeeper {
  readonly #options: KeeperOptions
  #last: Pass | undefined
  #told = ''

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  /** What the Node says of it. */
  condition(): ConditionUpdate {
    return notSet(this.#last?.outcome)
  }

  /** Until the signal aborts: what is set stays. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    const pass = async () => {
      try {
        await this.#pass()
      } catch (error) {
        this.#tell(messageOf(error), (message) => log.error('Thunderbolt links not looked at', { error: message }))
      }
    }
    await pass()
    await every(clock, PERIOD_MS, signal, pass)
  }

  async #pass(): Promise<void> {
    const { doors, ownAddress, interfaces, clock } = this.#options
    // Without the server its last word counts; before the first one nothing is touched.
    const cables = (await this.#options.cables()) ?? this.#last?.cables
    const inUse = this.#options.inUse()
    if (cables === undefined || inUse === undefined || !this.#isDue(cables)) return
    const outcome = await setThunderbolt(doors, { wish: { kind: 'Set', cables }, ownAddress, inUse })
    this.#last = { cables, seen: interfaces(), atMs: clock.monotonicMs(), outcome }
    this.#tellOutcome(outcome)
  }

  #isDue(cables: readonly NodeCable[]): boolean {
    const { interfaces, clock } = this.#options
    const last = this.#last
    return (
      last === undefined ||
      last.outcome.kind !== 'Done' ||
      last.outcome.plan.refusals.length > 0 ||
      clock.monotonicMs() - last.atMs >= LOOK_ANYWAY_MS ||
      !isDeepStrictEqual(cables, last.cables) ||
      !isDeepStrictEqual(interfaces(), last.seen)
    )
  }

  #tellOutcome(outcome: Outcome): void {
    const { log } = this.#options
    if (outcome.kind !== 'Unreadable')
      for (const { argv, why } of outcome.ran) log.info('network changed', { command: argv.join(' '), why })
    const { status, message } = notSet(outcome)
    this.#tell(message, () =>
      status === 'False'
        ? log.info('Thunderbolt links', { message })
        : log.warn('Thunderbolt links not set', { message }),
    )
  }

  /** Changes, not passes. */
  #tell(message: string, say: (message: string) => void): void {
    if (message === this.#told) return
    this.#told = message
    say(message)
  }
}
