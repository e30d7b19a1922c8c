/**
 * Nothing acknowledged is lost: what a person asked for and what the server answered, and what must therefore stand. A
 * call that ended without an answer may have been done or not; a disk that loses what it has flushed ends the promise.
 */
import { isDeepStrictEqual } from 'node:util'
import type { MctlObject } from '../../src/api/meta.ts'
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import { isOpError } from '../../src/lib/errors.ts'
import type { SimCluster } from '../support/simcluster.ts'
import type { UpdateWish, Wish } from './commands.ts'

/** What may stand under a name: a wish, or nothing (any more). */
type Standing = (Wish & { readonly paused?: boolean }) | undefined

/** Codes by which the server says no; all others leave open whether it was done. */
const refusals = ['NotFound', 'Invalid', 'Conflict', 'Forbidden', 'AlreadyExists'] as const

export class Acknowledged {
  readonly #cluster: SimCluster
  /** Absent: nothing is known of the name. */
  readonly #possible = new Map<string, readonly Standing[]>()

  constructor(cluster: SimCluster, names: readonly string[]) {
    this.#cluster = cluster
    for (const name of names) this.#possible.set(name, [undefined])
  }

  apply(name: string, wish: Wish): Promise<void> {
    const spec = {
      model: { name: wish.model },
      engine: { name: 'fake' },
      replicas: wish.replicas,
      parallelism: wish.parallelism,
      serving: { contextTokens: wish.contextTokens, concurrency: 1, maxOutputTokens: 64 },
      recovery: { nodeLossSeconds: wish.nodeLossSeconds },
      ...(wish.update === undefined ? {} : { update: wish.update }),
    }
    return this.#ask(
      name,
      () => this.#cluster.apply('ModelDeployment', name, spec),
      // Whoever paused it did so apart from the manifest.
      (standing) => ({ ...wish, ...(standing?.paused === true ? { paused: true } : {}) }),
    )
  }

  scale(name: string, replicas: number): Promise<void> {
    return this.#patch(name, { replicas })
  }

  pause(name: string, paused: boolean): Promise<void> {
    return this.#patch(name, { paused })
  }

  #patch(name: string, part: { readonly replicas?: number; readonly paused?: boolean }): Promise<void> {
    return this.#ask(
      name,
      () => this.#cluster.patchDeployment(name, part),
      (standing) => standing && { ...standing, ...part },
    )
  }

  remove(name: string): Promise<void> {
    return this.#ask(
      name,
      () => this.#cluster.delete('ModelDeployment', name),
      () => undefined,
    )
  }

  async #ask(name: string, call: () => Promise<MctlObject | void>, done: (standing: Standing) => Standing) {
    const before = this.#possible.get(name)
    // While the call is under way both may be seen.
    if (before !== undefined) this.#possible.set(name, [...before, ...before.map(done)])
    try {
      const object = await call()
      // What is being deleted goes, whatever is still written into it.
      const goes = object?.metadata.deletionTimestamp !== undefined
      const after = (before ?? []).map(done)
      if (this.#possible.has(name)) this.#possible.set(name, goes ? [...after, undefined] : after)
    } catch (error) {
      const refused = refusals.some((code) => isOpError(error, code))
      if (refused && before !== undefined && this.#possible.has(name)) this.#possible.set(name, before)
    }
  }

  /** The disk lost what it had flushed: whatever stands now is what counts. */
  forget(): void {
    this.#possible.clear()
  }

  /** What stands though it should not, or does not though it should. */
  findings(): readonly string[] {
    const standing = new Map(
      this.#cluster.store
        .snapshot()
        .list('ModelDeployment')
        .map((d) => [d.metadata.name, d]),
    )
    return [...this.#possible].flatMap(([name, possible]) =>
      possible.some((wish) => isStanding(standing.get(name), wish))
        ? []
        : [
            `lost: ${name} is ${text(standing.get(name))}; acknowledged was ${possible.map((w) => JSON.stringify(w)).join(' or ')}`,
          ],
    )
  }
}

function isStanding(deployment: ModelDeployment | undefined, wish: Standing): boolean {
  if (deployment === undefined || deployment.metadata.deletionTimestamp !== undefined) return wish === undefined
  if (wish === undefined) return false
  const { model, replicas, parallelism, serving, recovery, paused, update } = deployment.spec
  return (
    model.name === wish.model &&
    replicas === wish.replicas &&
    parallelism.strategy === wish.parallelism.strategy &&
    parallelism.degree === wish.parallelism.degree &&
    serving.contextTokens === wish.contextTokens &&
    recovery.nodeLossSeconds === wish.nodeLossSeconds &&
    paused === (wish.paused ?? false) &&
    isDeepStrictEqual(update, { ...defaultUpdate, ...wish.update })
  )
}

const defaultUpdate: UpdateWish = { strategy: 'RollingUpdate', maxUnavailable: 1, maxSurge: 0 }

const text = (deployment: ModelDeployment | undefined): string =>
  deployment === undefined
    ? 'not there'
    : `${deployment.metadata.deletionTimestamp === undefined ? '' : 'being deleted, '}${JSON.stringify(deployment.spec)}`
