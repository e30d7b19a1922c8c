/**
 * What must hold at every moment, whatever fails: looked at after each commit, at each start of a process and at each
 * new routing table. A finding is a bug.
 */
import type { Shard } from '../../src/api/shard.ts'
import { worldOf } from '../../src/controllers/world.ts'
import { checkWorld } from '../../src/planner/check.ts'
import type { Change, Snapshot, Store } from '../../src/store/store.ts'
import type { SimCluster } from '../support/simcluster.ts'
import { losesWrites } from '../support/simdisk.ts'
import type { Acknowledged } from './acknowledged.ts'
import { Bindings, machineFindings } from './machines.ts'
import { Rollouts } from './rollouts.ts'
import { routeFindings, tableFindings } from './routed.ts'
import type { Witness } from './witness.ts'

/** Several times what the longest stories take. Loops that undo each other's work write for ever. */
const COMMITS_MAX = 10_000

/** Looks from now on; the list that it returns grows. */
export function watchSafety(cluster: SimCluster, acknowledged: Acknowledged, witness: Witness): readonly string[] {
  const findings: string[] = []
  const found = (more: readonly string[]) => {
    // One broken promise breaks others: the first ones tell the most.
    if (findings.length < 10) findings.push(...more)
  }
  const history = new History()
  const bindings = new Bindings()
  const rollouts = new Rollouts()
  let commits = 0
  let hasLostWrites = false
  const follow = (store: Store) => {
    witness.follow(store)
    store.onCommit((changes) => {
      // The commits of a server that was killed at this very one are looked at when the next one starts.
      if (!cluster.serverRuns || cluster.store !== store) return
      if (++commits > COMMITS_MAX) cluster.clock.fail(new Error(`Restless: ${COMMITS_MAX} commits, and no end of them`))
      const snapshot = store.snapshot()
      found([
        ...worldFindings(snapshot, hasLostWrites),
        ...bindings.findings(snapshot, cluster),
        ...routeFindings(snapshot),
        ...rollouts.findings(snapshot),
        ...history.findings(changes),
        ...witness.findings,
      ])
    })
  }
  cluster.onServerStart = (remains) => {
    const { store } = cluster
    if (losesWrites(remains)) {
      hasLostWrites = true
      acknowledged.forget()
      history.forget()
      rollouts.forget()
    }
    found([
      ...worldFindings(store.snapshot(), hasLostWrites),
      ...history.findingsAtStart(store.snapshot()),
      ...rollouts.findings(store.snapshot()),
      ...acknowledged.findings(),
    ])
    follow(store)
  }
  if (cluster.serverRuns) follow(cluster.store)
  cluster.ring.onStart = (machine, shard) => found(machineFindings(machine, shard))
  cluster.onRoutes = (table) => found(tableFindings(table))
  return findings
}

/** A person may delete the Node under a group at any time; what is bound there is planned anew in the next pass. */
const passing = ['UnknownNode']
/**
 * A store that lost its last writes says of an epoch that it runs until the agent has told otherwise, and that may be after
 * it told of the one that does run. What machines do is watched on machines, and what the store says at the end.
 */
const passingAfterLoss = [...passing, 'TwoEpochsAlive']

/** The planner's own list, and: no rank without its group. */
function worldFindings(snapshot: Snapshot, hasLostWrites: boolean): readonly string[] {
  const passes = hasLostWrites ? passingAfterLoss : passing
  const broken = checkWorld(worldOf(snapshot, new Map()))
    .filter((f) => !passes.includes(f.rule))
    .map((f) => `${f.rule} ${f.object}: ${f.message}`)
  const ownerless = snapshot
    .list('Shard')
    .filter((shard) => shard.metadata.deletionTimestamp === undefined && groupOf(snapshot, shard) === undefined)
  return [...broken, ...ownerless.map((shard) => `RankWithoutGroup: ${shard.metadata.name}`)]
}

const groupOf = (snapshot: Snapshot, shard: Shard) =>
  (shard.metadata.ownerReferences ?? []).map((owner) => snapshot.getByUid(owner.uid)).find((o) => o !== undefined)

/** What no single state shows: revisions and epochs only grow, and an epoch's rank is one Shard for ever. */
class History {
  #revision = 0
  readonly #epochs = new Map<string, number>()
  readonly #ranks = new Map<string, string>()

  /** The disk lost its past: epochs may come again, under other uids; revisions never do. */
  forget(): void {
    this.#epochs.clear()
    this.#ranks.clear()
  }

  findingsAtStart(snapshot: Snapshot): readonly string[] {
    const known = this.#revision
    this.#revision = Math.max(known, snapshot.revision)
    return snapshot.revision < known ? [`RevisionReused: a server starts at ${snapshot.revision}, after ${known}`] : []
  }

  findings(changes: readonly Change[]): readonly string[] {
    return changes.flatMap((change) => [...this.#ofRevision(change), ...this.#ofEpoch(change), ...this.#ofRank(change)])
  }

  #ofRevision({ revision }: Change): readonly string[] {
    const known = this.#revision
    this.#revision = revision
    return revision <= known ? [`RevisionReused: ${revision} after ${known}`] : []
  }

  #ofEpoch({ object }: Change): readonly string[] {
    if (object.kind !== 'ShardGroup') return []
    const { epoch } = object.spec as { epoch: number }
    const known = this.#epochs.get(object.metadata.uid) ?? 0
    this.#epochs.set(object.metadata.uid, epoch)
    return epoch < known ? [`EpochBackwards: ${object.metadata.name} from ${known} to ${epoch}`] : []
  }

  /** A rank is one Shard from its rendezvous on; a successor that was given up before may be prepared anew. */
  #ofRank({ object }: Change): readonly string[] {
    if (object.kind !== 'Shard' || (object as Shard).spec.rendezvous === null) return []
    const owner = object.metadata.ownerReferences?.[0]?.uid ?? ''
    const rank = `${owner} ${object.metadata.name}`
    const known = this.#ranks.get(rank)
    this.#ranks.set(rank, object.metadata.uid)
    return known === undefined || known === object.metadata.uid
      ? []
      : [`EpochReused: ${object.metadata.name} met its ranks twice`]
  }
}
