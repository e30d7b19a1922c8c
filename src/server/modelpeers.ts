/** Which nodes an agent may ask for files of a model: those that hold some, and those that are to fetch them, too. Pure. */
import { isTrue } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { Peer } from '../api/peers.ts'
import type { Snapshot } from '../store/store.ts'
import { isLoopbackHost } from '../lib/hostport.ts'

/** Each look of an agent asks them all. */
const MAX_PEERS = 32

export interface WantedFiles {
  readonly source: string
  readonly commit: string
}

/** Ready nodes with a models door, the asking one left out: first the fastest linked. */
export function modelPeers(snapshot: Snapshot, own: string, wanted: WantedFiles): readonly Peer[] {
  const fetching = new Set(
    snapshot
      .list('Shard')
      .filter(({ spec }) => spec.model.source === wanted.source && spec.model.revision === wanted.commit)
      .map(({ spec }) => spec.nodeName),
  )
  const asking = snapshot.get('Node', '', own)
  return snapshot
    .list('Node')
    .filter((node) => node.metadata.name !== own && isTrue(node.status?.conditions, 'Ready'))
    .filter((node) => fetching.has(node.metadata.name) || holds(node, wanted.source))
    .flatMap((node) => peerOf(node, asking) ?? [])
    .sort((a, b) => (b.bytesPerSecond ?? 0) - (a.bytesPerSecond ?? 0) || (a.node < b.node ? -1 : 1))
    .slice(0, MAX_PEERS)
}

const holds = ({ status }: Node, source: string): boolean =>
  status?.models?.some((model) => model.source === source && model.state !== 'Corrupt') === true

/** At the address of the fastest measured link, unless its door is open on loopback only. */
function peerOf({ metadata, status }: Node, asking: Node | undefined): Peer | undefined {
  const door = status?.addresses?.find(({ type, port }) => type === 'Models' && port !== undefined)
  if (door?.port === undefined) return undefined
  const [link] = (asking?.status?.links ?? [])
    .filter(({ peer }) => peer === metadata.name)
    .sort((a, b) => (b.bandwidthGBps ?? 0) - (a.bandwidthGBps ?? 0))
  const address = isLoopbackHost(door.address) ? door.address : (link?.peerAddress ?? door.address)
  const rate = link?.bandwidthGBps
  const bytesPerSecond = rate === undefined ? {} : { bytesPerSecond: rate * 1e9 }
  return { node: metadata.name, address, port: door.port, ...bytesPerSecond }
}
