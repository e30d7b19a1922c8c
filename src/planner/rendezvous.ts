/** When the ranks of an epoch may meet, and what is written into their Shards then. */
import type { StoreAction } from './actions.ts'
import { setSpec } from './actions.ts'
import type { GroupScene } from './groupscene.ts'
import { holdingRendezvous } from './groupscene.ts'
import { comingFrom, meetingHosts } from './links/ring.ts'
import { recreateHold } from './rollout.ts'

/** Time that agents have, from the rendezvous on, to read it and start their rank; the ring itself waits 15 s. */
export const RENDEZVOUS_WINDOW_MS = 12_000

/**
 * Once every rank is Prepared: who meets whom, into every Shard in one transaction. Each rank's entry has the port that
 * it took at Prepared, at its address on the best link towards who connects to it; nothing of an older epoch may still
 * be alive where it could answer.
 */
export function rendezvousActions(scene: GroupScene): readonly StoreAction[] {
  const { current, nowMs } = scene
  if (current.some((s) => s.spec.rendezvous !== null || s.status?.phase !== 'Prepared')) return []
  if (holdingRendezvous(scene).length > 0 || recreateHold(scene) !== undefined) return []
  const ranks = current.flatMap((s) => {
    const ringAddress = s.status?.ringAddress
    return ringAddress === undefined ? [] : [{ node: scene.nodeOf(s.spec.nodeName), ringAddress }]
  })
  const [first] = current
  if (first === undefined || ranks.length < current.length) return []
  const hosts = meetingHosts(ranks, first.spec.transport)
  const startByMs = nowMs + RENDEZVOUS_WINDOW_MS
  const addresses = comingFrom(ranks)
  const members = current.map(({ spec, metadata }, rank) => ({
    node: spec.nodeName,
    shardUid: metadata.uid,
    addresses: addresses[rank] ?? [],
  }))
  return current.map((s) => setSpec(s, { ...s.spec, rendezvous: { startByMs, hosts, members } }))
}
