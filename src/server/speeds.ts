/**
 * Observe: how fast groups answer, as gateways saw it, kept in Model.status.observed. A Model is written at most every
 * ten seconds, and only for news; what is not written yet is in memory alone, and its loss costs a few samples.
 */
import type { Model } from '../api/model.ts'
import { revisionName } from '../api/records.ts'
import type { Shard } from '../api/shard.ts'
import type { ObservedSpeed } from '../api/speed.ts'
import { GATEWAY_USER } from '../api/trust.ts'
import { OpError } from '../lib/errors.ts'
import type { Observation } from '../planner/observed.ts'
import { isNews, withObservation } from '../planner/observed.ts'
import { observationOf } from '../planner/observation.ts'
import type { Handlers, Identity } from '../rpc/messages.ts'
import { setStatus } from '../store/objects.ts'
import type { Snapshot, Tx } from '../store/store.ts'
import { audited } from './audit.ts'
import type { ServerDoors } from './handlers.ts'
import type { GatewayTraffic } from './live.ts'

const WRITE_EVERY_MS = 10_000
/** Of one model, not written yet; older ones give way. */
const PENDING_MAX = 100

interface Pending {
  readonly modelUid: string
  readonly seen: readonly Observation[]
}

export function speedCalls(
  doors: Pick<ServerDoors, 'store' | 'clock' | 'log'>,
  traffic: GatewayTraffic,
): Pick<Handlers, 'observe'> {
  const keeper = new SpeedKeeper(doors)
  return {
    async observe({ speeds, traffic: now }, { identity }) {
      if (identity.user !== GATEWAY_USER)
        throw new OpError('Forbidden', `"${identity.user}" may not report speeds: gateways see answers`)
      if (now !== undefined) traffic.take(now)
      keeper.take(speeds)
      await keeper.write(identity)
      return {}
    },
  }
}

class SpeedKeeper {
  readonly #doors: Pick<ServerDoors, 'store' | 'clock' | 'log'>
  /** By name of the model. */
  readonly #pending = new Map<string, Pending>()
  readonly #writtenMs = new Map<string, number>()

  constructor(doors: Pick<ServerDoors, 'store' | 'clock' | 'log'>) {
    this.#doors = doors
  }

  take(speeds: readonly ObservedSpeed[]): void {
    const snapshot = this.#doors.store.snapshot()
    for (const speed of speeds) {
      const found = isSound(speed) ? observed(snapshot, speed) : undefined
      if (found === undefined) continue
      const { name, uid } = found.model.metadata
      const old = this.#pending.get(name)
      const before = old?.modelUid === uid ? old.seen : []
      this.#pending.set(name, { modelUid: uid, seen: [...before, found.observation].slice(-PENDING_MAX) })
    }
  }

  async write(identity: Identity): Promise<void> {
    const { store, clock } = this.#doors
    const nowMs = clock.monotonicMs()
    for (const [name, pending] of [...this.#pending]) {
      if (nowMs - (this.#writtenMs.get(name) ?? -Infinity) < WRITE_EVERY_MS) continue
      const model = store.snapshot().get('Model', '', name)
      if (model?.metadata.uid !== pending.modelUid) this.#forget(name)
      else if (isNews(model.status?.observed ?? [], withAll(model, pending)))
        await this.#writeOne(identity, name, pending)
    }
  }

  async #writeOne(identity: Identity, name: string, pending: Pending): Promise<void> {
    const { store, clock, log } = this.#doors
    // Taken out first: what comes while it is written waits for the next time.
    this.#pending.delete(name)
    this.#writtenMs.set(name, clock.monotonicMs())
    await audited(log, { identity, verb: 'observe', target: { kind: 'Model', name } }, () =>
      store.transact((tx) => ({ object: writeTo(tx, name, pending) })),
    )
  }

  #forget(name: string): void {
    this.#pending.delete(name)
    this.#writtenMs.delete(name)
  }
}

const isSound = ({ answers, tokens, seconds, contextTokens }: ObservedSpeed): boolean =>
  Number.isSafeInteger(answers) && answers >= 1 && tokens >= 1 && seconds > 0 && contextTokens >= 0

/** undefined: the shard is gone, or another epoch of its group runs. */
function observed(snapshot: Snapshot, speed: ObservedSpeed): ReturnType<typeof observationOf> {
  const shard = snapshot.getByUid(speed.shardUid)
  if (shard?.kind !== 'Shard') return undefined
  const { metadata, spec } = shard as Shard
  const namespace = metadata.namespace ?? ''
  const group = snapshot.get('ShardGroup', namespace, spec.group)
  if (group?.spec.epoch !== spec.epoch) return undefined
  const revision = snapshot.get('Revision', namespace, revisionName(spec.deployment, group.spec.revision))
  const nodes = group.spec.members.flatMap((m) => snapshot.get('Node', '', m.node) ?? [])
  const world = { nodes, models: snapshot.list('Model'), revisions: revision === undefined ? [] : [revision] }
  return observationOf(world, group, speed)
}

const withAll = ({ status }: Model, { seen }: Pending) => seen.reduce(withObservation, status?.observed ?? [])

function writeTo(tx: Tx, name: string, pending: Pending): Model {
  const model = tx.get('Model', '', name)
  if (model?.metadata.uid !== pending.modelUid) throw new OpError('NotFound', `model "${name}" is gone`)
  return setStatus(tx, model, { ...model.status, observed: withAll(model, pending) })
}
