/**
 * A watcher as any client may be, on a line that breaks every few seconds: it must be told of each change of each object,
 * once, whatever it resumes from, and know in the end what the store knows.
 */
import type { KindName } from '../../src/api/kinds.ts'
import type { MctlObject } from '../../src/api/meta.ts'
import { sleep } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { mirror } from '../../src/rpc/mirror.ts'
import type { Snapshot, Store } from '../../src/store/store.ts'
import type { SimCluster } from '../support/simcluster.ts'
import { SeededRandom } from '../support/virtualclock.ts'

const kinds = ['ModelDeployment', 'ShardGroup', 'Shard', 'Node'] as const satisfies readonly KindName[]
const LINK = 'witness'
const RESET_MS_MAX = 20_000

type Copy = ReadonlyMap<string, MctlObject>

/** What a mirror holds: another map after each list. */
interface Held {
  readonly objects: Copy
  /** The last version of each object that was told, since that list. */
  readonly told: Map<string, string>
}

export class Witness {
  readonly findings: string[] = []
  readonly #over = new AbortController()
  /** What the store has written of each object since its server started, oldest first. */
  readonly #written = new Map<string, string[]>()
  readonly #held = new Map<KindName, Held>()

  /**
   * Begins, with chance of its own: stories run as they did without it. Not before the first write: a watch that goes on
   * from revision 0 is a list.
   */
  watch(cluster: SimCluster, seed: number): void {
    const { clock } = cluster
    const { signal } = this.#over
    const random = new SeededRandom(seed + 1)
    const client = cluster.person('witness', LINK)
    for (const kind of kinds) {
      const onChange = (objects: Copy) => this.#take(kind, objects)
      void mirror({ client, kind, clock, random, log: silentLogger, signal, onChange })
    }
    const cut = async () => {
      while (!signal.aborted) {
        await sleep(clock, random.below(RESET_MS_MAX), signal)
        cluster.network.reset(LINK)
      }
    }
    void cut()
  }

  /** Each server has its own: what an earlier one wrote is listed anew. */
  follow(store: Store): void {
    this.#written.clear()
    store.onCommit((changes) => {
      for (const { object, revision } of changes) {
        const { uid } = object.metadata
        this.#written.set(uid, [...(this.#written.get(uid) ?? []), String(revision)])
      }
    })
  }

  stop(): void {
    this.#over.abort()
  }

  #take(kind: KindName, objects: Copy): void {
    const held = this.#held.get(kind)
    const isList = held?.objects !== objects
    const told = isList ? new Map<string, string>() : held.told
    this.#held.set(kind, { objects, told })
    for (const [uid, { metadata }] of objects) {
      const [last, version] = [told.get(uid), metadata.resourceVersion]
      if (last === version) continue
      told.set(uid, version)
      const written = this.#written.get(uid) ?? []
      const before = written[written.indexOf(version) - 1]
      if (!isList && before !== undefined && before !== last && this.findings.length < 3)
        this.findings.push(
          `NotTold: a watch of ${kind} skipped ${metadata.name} at ${before}: told ${last ?? 'nothing'}, then ${version}`,
        )
    }
  }

  /** undefined: it knows what the store holds. */
  behind(snapshot: Snapshot): string | undefined {
    for (const kind of kinds) {
      const copy = this.#held.get(kind)?.objects
      const stored = new Map(snapshot.list(kind).map(({ metadata }) => [metadata.uid, metadata]))
      const missing = [...stored.values()].find((m) => copy?.get(m.uid)?.metadata.resourceVersion !== m.resourceVersion)
      if (missing !== undefined)
        return `a watch of ${kind} was not told of ${missing.name} at ${missing.resourceVersion}`
      const gone = [...(copy?.values() ?? [])].find(({ metadata }) => !stored.has(metadata.uid))
      if (gone !== undefined) return `a watch of ${kind} was not told that ${gone.metadata.name} is gone`
    }
    return undefined
  }
}
