/**
 * Which links there are, from the ports that nodes report: two ends of one Thunderbolt cable name each other, two ports
 * in one subnet can talk, and where there is neither, nodes that reach the same server reach each other by a router.
 * Engines speak IPv4: of IPv6 there are a cable without anything else, which carries nothing, and ways over routers. Pure.
 */
import type { LinkType, Node, NodeLink, NodePort } from '../../api/node.ts'
import { isLoopbackHost } from '../../lib/hostport.ts'
import { isLinkLocal, parseCidr, sameSubnet } from '../../lib/ipv4.ts'

/** Links by node, for the nodes that report ports. What was measured of a link stays with it while its ends stay. */
export function matchLinks(nodes: readonly Node[]): ReadonlyMap<string, readonly NodeLink[]> {
  const telling = nodes.filter(({ status }) => status?.ports !== undefined)
  const found = new Map(telling.map(({ metadata }) => [metadata.name, [] as NodeLink[]]))
  for (const [i, a] of telling.entries())
    for (const b of telling.slice(i + 1))
      for (const { ends, ...link } of pairLinks(a, b)) {
        const [own, peer] = ends
        found.get(a.metadata.name)?.push(linkTo(a, b, { ...link, address: own, peerAddress: seenFrom(own, peer) }))
        found.get(b.metadata.name)?.push(linkTo(b, a, { ...link, address: peer, peerAddress: seenFrom(peer, own) }))
      }
  const silent = new Set(nodes.filter((node) => !telling.includes(node)).map(({ metadata }) => metadata.name))
  return new Map(
    telling.map((node) => {
      const { name } = node.metadata
      // Of a peer that says nothing of its ports, somebody else has said it.
      const told = (node.status?.links ?? []).filter(({ peer }) => silent.has(peer))
      return [name, [...told, ...(found.get(name) ?? [])].sort(byPeer)]
    }),
  )
}

interface PairLink {
  readonly type: LinkType
  readonly transport: NodeLink['transport']
  /** Addresses of both ends. */
  readonly ends: readonly [string, string]
  readonly failure?: string
}

function pairLinks(a: Node, b: Node): readonly PairLink[] {
  const [own, other] = [a.status?.ports ?? [], b.status?.ports ?? []]
  const shared = sharedAddress(own, other)
  if (shared !== undefined) return [{ type: 'Loopback', transport: 'TCP', ends: [shared, shared] }]
  const cables = own.flatMap((port) => other.flatMap((end) => (isCable(port, end) ? cableLinks(port, end) : [])))
  // Two cables into one bridge are one link.
  const kindOf = ({ transport, ends }: PairLink) => `${transport} ${ends.join(' ')}`
  const bundled = [...new Map(cables.map((link) => [kindOf(link), link])).values()]
  const found = [...bundled, ...subnetLinks(own, other)]
  return found.some(({ failure }) => failure === undefined) ? found : [...found, ...routedLink(a, b)]
}

/** An address that both have on an interface of the same name: both are on one machine. */
const sharedAddress = (own: readonly NodePort[], other: readonly NodePort[]): string | undefined =>
  own
    .flatMap((port) => other.filter((end) => end.interface === port.interface).map((end) => [port, end] as const))
    .flatMap(([port, end]) => ipv4Of(port).filter((cidr) => end.addresses.includes(cidr)))
    .map((cidr) => parseCidr(cidr)?.address)[0]

/** Both ends of a cable see it; one of them may have looked before it was plugged in. */
export const isCable = (a: NodePort, b: NodePort): boolean =>
  (a.domainUuid !== undefined && a.domainUuid === b.peerDomainUuid) ||
  (b.domainUuid !== undefined && b.domainUuid === a.peerDomainUuid)

function cableLinks(a: NodePort, b: NodePort): readonly PairLink[] {
  const type = slower(typeOf(a), typeOf(b))
  const ends = sharedSubnet(a, b)
  if (ends === undefined) return linkLocalCable(a, b, type)
  const tcp = { type, transport: 'TCP', ends } as const
  return a.rdma === true && b.rdma === true ? [tcp, { ...tcp, transport: 'RDMA' }] : [tcp]
}

const ONLY_IPV6 =
  'its ports have IPv6 addresses alone, and engines speak IPv4: give both ends IPv4 addresses in one subnet (`mctl agent --configure-thunderbolt`)'

/** A cable whose ports have no IPv4 address in one subnet is shown, says why nothing runs over it, and is not measured. */
function linkLocalCable(a: NodePort, b: NodePort, type: LinkType): readonly PairLink[] {
  const [own, other] = [a, b].map(({ addresses }) => addresses.find(isIpv6LinkLocal)?.split('/')[0])
  if (own === undefined || other === undefined) return []
  return [{ type, transport: 'TCP', ends: [own, other], failure: ONLY_IPV6 }]
}

const isIpv6LinkLocal = (cidr: string): boolean => cidr.startsWith('fe80:') && cidr.includes('%')

/** A link-local address of IPv6 names the interface of who uses it: fe80::2%en5 is the peer's, over our en5. */
const seenFrom = (own: string, other: string): string =>
  other.includes('%') ? `${other.split('%')[0]}%${own.split('%')[1] ?? ''}` : other

/**
 * Ports that no cable joins, by subnet; each port serves one link to the peer, the fastest pairs first. A bridge of
 * Thunderbolt reaches further than its cables, over Macs in between: that is no link.
 */
function subnetLinks(own: readonly NodePort[], other: readonly NodePort[]): readonly PairLink[] {
  const candidates = own.flatMap((a) =>
    other.flatMap((b) => {
      const ends = a.type === 'Thunderbolt' || b.type === 'Thunderbolt' ? undefined : sharedSubnet(a, b)
      return ends === undefined ? [] : [{ a, b, ends, type: slower(typeOf(a), typeOf(b)) }]
    }),
  )
  candidates.sort(
    (x, y) =>
      // An address that a machine gave itself reaches only who is on the same wire.
      Number(isLinkLocal(x.ends[0])) - Number(isLinkLocal(y.ends[0])) ||
      rank(y.type) - rank(x.type) ||
      best(y) - best(x) ||
      // The same from both sides.
      compare([...x.ends].sort().join(' '), [...y.ends].sort().join(' ')),
  )
  const taken = new Set<NodePort>()
  const proper = candidates.some(({ ends }) => !isLinkLocal(ends[0]))
  return candidates.flatMap(({ a, b, ends, type }) => {
    if (taken.has(a) || taken.has(b) || (proper && isLinkLocal(ends[0]))) return []
    taken.add(a).add(b)
    return [{ type, transport: 'TCP', ends } as const]
  })
}

const best = ({ a, b }: { readonly a: NodePort; readonly b: NodePort }) => Math.max(rank(typeOf(a)), rank(typeOf(b)))

/** Over routers, at the addresses under which both are known to the server. What it carries only measuring tells. */
function routedLink(a: Node, b: Node): readonly PairLink[] {
  const [own, other] = [internalAddress(a), internalAddress(b)]
  if (own === undefined || other === undefined || isLoopbackHost(own) || isLoopbackHost(other)) return []
  return [{ type: 'Ethernet1G', transport: 'TCP', ends: [own, other] }]
}

export const internalAddress = ({ status }: Node): string | undefined =>
  status?.addresses?.find(({ type }) => type === 'Internal')?.address

/** A pair of IPv4 addresses in one subnet; those that people gave before those that machines gave themselves. */
function sharedSubnet(a: NodePort, b: NodePort): readonly [string, string] | undefined {
  const pairs = ipv4Of(a).flatMap((x) =>
    ipv4Of(b).flatMap((y) => (x !== y && sameSubnet(x, y) ? [[x, y] as const] : [])),
  )
  const [first] = pairs.sort(([x], [y]) => Number(isLinkLocal(x)) - Number(isLinkLocal(y)))
  const ends = first?.map((cidr) => parseCidr(cidr)?.address ?? '')
  return ends === undefined ? undefined : [ends[0] ?? '', ends[1] ?? '']
}

export const ipv4Of = ({ addresses }: NodePort): readonly string[] =>
  addresses.filter((cidr) => parseCidr(cidr) !== undefined)

const ranks: readonly LinkType[] = [
  'WiFi',
  'Ethernet1G',
  'Ethernet2.5G',
  'Ethernet10G',
  'Thunderbolt3',
  'Thunderbolt4',
  'Thunderbolt5',
  'Loopback',
]
/** Thunderbolt before Ethernet before Wi-Fi. */
export const rank = (type: LinkType): number => ranks.indexOf(type)
const slower = (a: LinkType, b: LinkType): LinkType => (rank(a) <= rank(b) ? a : b)

/** What the port can carry; a speed that is not told is the least of its kind. */
function typeOf({ type, speedGbps = 0 }: NodePort): LinkType {
  switch (type) {
    case 'Thunderbolt':
      return speedGbps >= 80 ? 'Thunderbolt5' : speedGbps >= 40 ? 'Thunderbolt4' : 'Thunderbolt3'
    case 'Ethernet':
      return speedGbps >= 10 ? 'Ethernet10G' : speedGbps >= 2.5 ? 'Ethernet2.5G' : 'Ethernet1G'
    default:
      return type
  }
}

type Ends = Pick<NodeLink, 'type' | 'transport' | 'failure'> & Required<Pick<NodeLink, 'address' | 'peerAddress'>>

/** The link as `from` has it, with what is known of it: figures are of two addresses and what is between them. */
function linkTo(from: Node, to: Node, ends: Ends): NodeLink {
  const peer = to.metadata.name
  const known = from.status?.links?.find((link) => isSameLink(link, { peer, ...ends }))
  return { ...known, peer, ...ends }
}

export const isSameLink = (a: NodeLink, b: NodeLink): boolean =>
  a.peer === b.peer &&
  a.type === b.type &&
  a.transport === b.transport &&
  a.address === b.address &&
  a.peerAddress === b.peerAddress

const byPeer = (a: NodeLink, b: NodeLink): number =>
  compare(a.peer, b.peer) ||
  rank(b.type) - rank(a.type) ||
  compare(a.transport, b.transport) ||
  compare(a.address ?? '', b.address ?? '')

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
