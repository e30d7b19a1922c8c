/**
 * What is live: the last reading of each node, from its session, and what gateways do at this moment, from their own
 * telling. All of it is in memory alone; a restarted server knows it again a few seconds later.
 */
import type { LiveGroup, LiveNode, LiveQueue, LiveReading, Traffic } from '../api/live.ts'
import type { Shard } from '../api/shard.ts'
import type { Clock } from '../lib/clock.ts'
import type { Handlers } from '../rpc/messages.ts'
import type { Snapshot } from '../store/store.ts'
import type { ServerDoors } from './handlers.ts'
import type { Sessions } from './sessions.ts'
import { checkPerson } from './trust/access.ts'

/** A gateway tells every two seconds; what it said is old after so long. */
const TRAFFIC_KEPT_MS = 7_000
const GATEWAYS_MAX = 100

/** The last word of each gateway. */
export class GatewayTraffic {
  readonly #clock: Clock
  readonly #told = new Map<string, { readonly traffic: Traffic; readonly atMs: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  take(traffic: Traffic): void {
    this.#forgetOld()
    if (this.#told.size < GATEWAYS_MAX || this.#told.has(traffic.gateway))
      this.#told.set(traffic.gateway, { traffic, atMs: this.#clock.monotonicMs() })
  }

  now(): readonly Traffic[] {
    this.#forgetOld()
    return [...this.#told.values()].map(({ traffic }) => traffic)
  }

  #forgetOld(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const [gateway, { atMs }] of this.#told) if (nowMs - atMs > TRAFFIC_KEPT_MS) this.#told.delete(gateway)
  }
}

export function liveCalls(
  { store, clock, sessions }: Pick<ServerDoors, 'store' | 'clock' | 'sessions'>,
  traffic: GatewayTraffic,
): Pick<Handlers, 'live'> {
  return {
    live(_, { identity }) {
      checkPerson(identity, 'read what is live')
      const snapshot = store.snapshot()
      const told = traffic.now()
      return Promise.resolve({
        nodes: snapshot.list('Node').map(({ metadata }) => liveNode(sessions, metadata.name, clock.monotonicMs())),
        groups: groupsOf(snapshot, told),
        queues: queuesOf(snapshot, told),
        gateways: told.length,
      })
    },
  }
}

/** What is known of the node now, contact or not. */
export function liveNode(sessions: Sessions, name: string, nowMs: number): LiveNode {
  const seenMs = sessions.lastSeenMs(name)
  const reading = sessions.reading(name)
  return {
    name,
    connected: sessions.isConnected(name),
    ...(seenMs === undefined ? {} : { heardAgoMs: Math.max(0, nowMs - seenMs) }),
    ...(reading === undefined ? {} : { reading }),
  }
}

/** Every group that gateways route to, whether it has traffic or not. Shards that are gone are left out. */
function groupsOf(snapshot: Snapshot, told: readonly Traffic[]): readonly LiveGroup[] {
  const groups = new Map<string, LiveGroup>()
  for (const { shardUid, inFlight, tokensPerSecond } of told.flatMap(({ replicas }) => replicas)) {
    const shard = snapshot.getByUid(shardUid)
    if (shard?.kind !== 'Shard') continue
    const { metadata, spec } = shard as Shard
    const namespace = metadata.namespace ?? ''
    const old = groups.get(shardUid)
    const members = snapshot.get('ShardGroup', namespace, spec.group)?.spec.members ?? []
    groups.set(shardUid, {
      namespace,
      name: spec.group,
      deployment: spec.deployment,
      nodes: [...new Set(members.map((member) => member.node))],
      inFlight: (old?.inFlight ?? 0) + amount(inFlight),
      tokensPerSecond: (old?.tokensPerSecond ?? 0) + amount(tokensPerSecond),
    })
  }
  return [...groups.values()]
}

function queuesOf(snapshot: Snapshot, told: readonly Traffic[]): readonly LiveQueue[] {
  const waiting = new Map<string, number>()
  for (const queue of told.flatMap(({ queues }) => queues))
    waiting.set(queue.servedName, (waiting.get(queue.servedName) ?? 0) + amount(queue.waiting))
  return snapshot.list('ModelDeployment').flatMap(({ metadata, spec, status }) => {
    const count = waiting.get(spec.servedName)
    // The younger one of two with the same name serves nobody.
    if (count === undefined || status?.conditions?.some((c) => c.type === 'Valid' && c.status === 'False')) return []
    return [{ namespace: metadata.namespace ?? '', deployment: metadata.name, waiting: count }]
  })
}

/** What came over the wire may be anything. */
const amount = (value: number): number => (Number.isFinite(value) && value > 0 ? value : 0)

/** What came over the wire may be anything: figures that make no sense are left out. */
export function soundReading({ pressure, simulated, ...figures }: LiveReading): LiveReading {
  const { freeBytes, wiredBytes, usedBytes, gpuBusy } = figures
  const sound = Object.entries({ freeBytes, wiredBytes, usedBytes, gpuBusy }).filter(
    ([, value]) => value !== undefined && Number.isFinite(value) && value >= 0,
  )
  return {
    ...(Object.fromEntries(sound) as LiveReading),
    ...(pressure === undefined ? {} : { pressure }),
    ...(simulated === true ? { simulated } : {}),
  }
}
