/** Random SIGKILL, SIGSTOP and SIGCONT from a seed: which kind of process, which of them, and for how long. */
import type { SeededRandom } from '../../support/virtualclock.ts'
import type { RealCluster, Living, Role } from '../../support/realcluster.ts'

/** How often each is hit, beside the others. */
const targets: readonly Role[] = ['server', 'agent', 'agent', 'gateway', 'shardhost', 'engine', 'engine']

const AWAY_MS = 3_000
/** Beyond what silence means: an agent is NotReady after 20 s, an engine is stalled after 60 s. */
const STOPPED_MS = [300, 3_000, 8_000, 25_000] as const

export class Faults {
  readonly #cluster: RealCluster
  readonly #random: SeededRandom
  readonly #stopped = new Map<number, NodeJS.Timeout>()

  constructor(cluster: RealCluster, random: SeededRandom) {
    this.#cluster = cluster
    this.#random = random
  }

  /** Does one, and says what; undefined when there is nothing to hit. */
  strike(): string | undefined {
    const role = this.#random.pick(targets) ?? 'agent'
    const living = this.#cluster.living().filter((one) => one.role === role && !this.#stopped.has(one.pid))
    const target = this.#random.pick(living)
    if (target === undefined) return undefined
    return this.#random.next() < 0.55 ? this.#kill(target) : this.#stop(target)
  }

  /** SIGCONT for all. */
  end(): void {
    for (const [pid, timer] of this.#stopped) {
      clearTimeout(timer)
      signal(pid, 'SIGCONT')
    }
    this.#stopped.clear()
  }

  #kill({ pid, role, node }: Living): string {
    const awayMs = this.#random.below(AWAY_MS)
    signal(pid, 'SIGKILL')
    if (role === 'server') this.#cluster.restartLater('server', awayMs)
    if (node !== undefined) this.#cluster.restartLater(node, awayMs)
    return `SIGKILL ${node ?? role} (${pid})`
  }

  #stop({ pid, role, node }: Living): string {
    const forMs = this.#random.pick(STOPPED_MS) ?? 300
    signal(pid, 'SIGSTOP')
    const go = () => {
      this.#stopped.delete(pid)
      signal(pid, 'SIGCONT')
    }
    this.#stopped.set(pid, setTimeout(go, forMs))
    return `SIGSTOP ${node ?? role} (${pid}) for ${forMs} ms`
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It ended by itself.
  }
}
