/**
 * Where ranks meet: each listens at its own address on the best link towards the rank that connects to it, so that one
 * list serves all of them and never names 0.0.0.0. In a ring that is the rank before; over Rpc it is the leader. Pure.
 */
import { isLoopbackHost, joinHostPort, splitHostPort } from '../../lib/hostport.ts'
import type { Node, NodeLink } from '../../api/node.ts'
import type { Transport } from '../../api/words.ts'
import { linkSpeed, slowness } from '../placement/links.ts'

export interface MeetingRank {
  readonly node: Node | undefined
  /** `ip:port` that the rank took: the port is what counts, the address is used where no link is known. */
  readonly ringAddress: string
}

/** Per rank, in the order of ranks, where it listens and is connected to. */
export function meetingHosts(ranks: readonly MeetingRank[], transport: Transport): readonly (readonly string[])[] {
  return ranks.map((rank, i) => {
    const from = transport === 'Rpc' ? ranks[0] : ranks.at(i - 1)
    const address = from === undefined ? undefined : linkAddress(from, rank)
    if (address === undefined) return [rank.ringAddress]
    return [joinHostPort(address, splitHostPort(rank.ringAddress).port)]
  })
}

/** Per rank, every address from which it may come to the others: which of its links it takes, the system chooses. */
export function comingFrom(ranks: readonly MeetingRank[]): readonly (readonly string[])[] {
  const nodes = ranks.flatMap(({ node }) => node ?? [])
  return ranks.map(({ node, ringAddress }) => {
    const own = splitHostPort(ringAddress).host
    if (node === undefined || isLoopbackHost(own)) return [own]
    const linked = nodes.flatMap((other) => linksBetween(node, other)).flatMap(({ address }) => address ?? [])
    return [...new Set([own, ...linked.filter(isIpv4)])].sort()
  })
}

/** Address of `to` on the best link from the other rank's node. A node that listens on loopback only listens nowhere else. */
function linkAddress(from: MeetingRank, to: MeetingRank): string | undefined {
  if (from.node === undefined || to.node === undefined || isLoopbackHost(splitHostPort(to.ringAddress).host))
    return undefined
  return bestLink(from.node, to.node)?.peerAddress
}

/** The best link that a socket can take, as either end reported it; undefined: none is known with both addresses. */
export function bestLink(from: Node, to: Node): NodeLink | undefined {
  const usable = linksBetween(from, to).flatMap((link) => {
    const speed = isIpv4(link.address) && isIpv4(link.peerAddress) ? linkSpeed(link, 'Ring') : undefined
    return link.transport === 'TCP' && speed !== undefined ? [{ link, cost: slowness(speed) }] : []
  })
  usable.sort((a, b) => a.cost - b.cost || (nameOf(a.link) < nameOf(b.link) ? -1 : 1))
  return usable[0]?.link
}

/** As `from` has them, whichever end reported them. */
const linksBetween = (from: Node, to: Node): readonly NodeLink[] => [
  ...linksTo(from, to),
  ...linksTo(to, from).map((link) => turned(link, to.metadata.name)),
]

const linksTo = (from: Node, to: Node): readonly NodeLink[] =>
  (from.status?.links ?? []).filter(({ peer }) => peer === to.metadata.name)

/** As the other end sees it. */
function turned({ address, peerAddress, ...link }: NodeLink, peer: string): NodeLink {
  return {
    ...link,
    peer,
    ...(peerAddress === undefined ? {} : { address: peerAddress }),
    ...(address === undefined ? {} : { peerAddress: address }),
  }
}

/** The same from both ends, so that both choose the same of two equal links. */
const nameOf = ({ address = '', peerAddress = '' }: NodeLink): string => [address, peerAddress].sort().join(' ')

const isIpv4 = (address: string | undefined): boolean => /^\d+\.\d+\.\d+\.\d+$/.test(address ?? '')
