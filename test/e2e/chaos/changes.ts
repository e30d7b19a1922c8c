/** Another person, who applies changes all the time; remembers what was acknowledged and must therefore stand at the end. */
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import { isOpError } from '../../../src/lib/errors.ts'
import type { Client } from '../../../src/rpc/messages.ts'
import type { SeededRandom } from '../../support/virtualclock.ts'

export interface Wish {
  readonly replicas: number
  readonly contextTokens: number
}

export interface Wanted {
  readonly name: string
  readonly maxReplicas: number
  readonly manifest: (wish: Wish) => object
}

export class Changes {
  readonly #client: Client
  readonly #wanted: readonly Wanted[]
  readonly #random: SeededRandom
  /** Deployment → what may stand: the acknowledged wish, and those whose fate is unknown. */
  readonly #possible = new Map<string, readonly Wish[]>()
  acknowledged = 0
  unanswered = 0

  constructor(client: Client, wanted: readonly Wanted[], random: SeededRandom) {
    this.#client = client
    this.#wanted = wanted
    this.#random = random
  }

  /** Resolves when all are acknowledged. */
  async applyAll(wish: Wish): Promise<void> {
    for (const wanted of this.#wanted)
      while ((await this.#apply(wanted, wish)) !== 'acknowledged')
        await new Promise((resolve) => setTimeout(resolve, 200))
  }

  /** One change of one deployment: mostly its replicas, sometimes its template. */
  async change(): Promise<string> {
    const wanted = this.#random.pick(this.#wanted)
    const before = this.#possible.get(wanted?.name ?? '')?.[0]
    if (wanted === undefined || before === undefined) return ''
    const wish =
      this.#random.next() < 0.7
        ? { ...before, replicas: 1 + this.#random.below(wanted.maxReplicas) }
        : { ...before, contextTokens: before.contextTokens === 512 ? 256 : 512 }
    const done = await this.#apply(wanted, wish)
    return `apply ${wanted.name} ${JSON.stringify(wish)}: ${done}`
  }

  /** What stands though it was never acknowledged last. */
  async findings(): Promise<readonly string[]> {
    const { items } = await this.#client.list({ kind: 'ModelDeployment' })
    const standing = new Map((items as readonly ModelDeployment[]).map((d) => [d.metadata.name, d.spec]))
    return [...this.#possible].flatMap(([name, possible]) => {
      const spec = standing.get(name)
      const holds = possible.some(
        (wish) => spec?.replicas === wish.replicas && spec.serving.contextTokens === wish.contextTokens,
      )
      return holds ? [] : [`${name} is ${JSON.stringify(spec)}, acknowledged was ${JSON.stringify(possible)}`]
    })
  }

  async #apply({ name, manifest }: Wanted, wish: Wish): Promise<string> {
    const before = this.#possible.get(name) ?? []
    try {
      const object = manifest(wish) as Parameters<Client['apply']>[0]['object']
      await this.#client.apply({ object, force: true, options: { fieldManager: 'chaos' } }, { timeoutMs: 10_000 })
      this.#possible.set(name, [wish])
      this.acknowledged += 1
      return 'acknowledged'
    } catch (error) {
      if (!isOpError(error)) throw error
      if (!isOpError(error, 'Conflict') && !isOpError(error, 'Invalid')) this.#possible.set(name, [...before, wish])
      this.unanswered += 1
      return error.code
    }
  }
}
