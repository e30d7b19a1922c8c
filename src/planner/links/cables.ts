/**
 * Which addresses a Thunderbolt cable's two ports are to have: a subnet of four for each cable. Both ends have to set
 * the same one without speaking to each other, so the server gives them out, for it knows every cable and every network
 * of the nodes. What was given stays while it may, and follows the pair of nodes when a cable moves or a Mac reboots. Pure.
 */
import { createHash } from 'node:crypto'
import type { Node, NodeCable, NodeNetwork, NodePort } from '../../api/node.ts'
import { ipv4Text, isLinkLocal, overlap, parseCidr, sameSubnet } from '../../lib/ipv4.ts'
import { internalAddress, ipv4Of, isCable } from './match.ts'

/** Where subnets are taken from; the next pool is for those whose own network is the first one. */
export const pools = ['10.217.0.0/16', '172.29.0.0/16', '192.168.217.0/24'] as const
const LENGTH = 30
const SIZE = 2 ** (32 - LENGTH)

/** A port, and whose it is. */
interface End {
  readonly node: Node
  readonly port: NodePort
}
/** `low` has the smaller name of the two and the smaller address. */
interface Cable {
  readonly low: End
  readonly high: End
  /** Of several between the same two nodes. */
  readonly index: number
}

/**
 * By node, for the nodes that report ports: each cable between two nodes, unless people gave its ports addresses, with a
 * subnet that no other cable and no network of a node has. Without one only where all pools are taken.
 */
export function assignCables(nodes: readonly Node[]): ReadonlyMap<string, readonly NodeCable[]> {
  const telling = nodes.filter(({ status }) => status?.ports !== undefined).sort(byName)
  const networks = telling.flatMap(networksOf)
  const cables = cablesOf(telling)
    .filter((cable) => !isSetByPeople(cable) && ![cable.low, cable.high].some(isWayToServer))
    .map((cable) => ({ ...cable, blocked: networks.filter((known) => !isItsOwn(cable, known)) }))
  const subnets = new Map<Cable, number>()
  const taken = new Set<number>()
  const take = (cable: Cable, network: number | undefined) => {
    if (network === undefined) return
    subnets.set(cable, network)
    taken.add(network)
  }
  // What is in force comes first: a new cable never moves one that carries something.
  for (const cable of cables) {
    const network = standing(cable)
    if (network !== undefined && isFree(network, cable.blocked, taken)) take(cable, network)
  }
  for (const cable of cables) if (!subnets.has(cable)) take(cable, firstFree(cable, cable.blocked, taken))
  return givenOut(telling, subnets)
}

function givenOut(nodes: readonly Node[], subnets: ReadonlyMap<Cable, number>) {
  const given = new Map(nodes.map(({ metadata }) => [metadata.name, [] as NodeCable[]]))
  for (const [{ low, high }, network] of subnets) {
    const [first, second] = [hostOf(network, 1), hostOf(network, 2)]
    given.get(nameOf(low))?.push(seenFrom(low, high, first, second))
    given.get(nameOf(high))?.push(seenFrom(high, low, second, first))
  }
  for (const list of given.values()) list.sort((a, b) => (a.domainUuid < b.domainUuid ? -1 : 1))
  return given
}

const hostOf = (network: number, host: number): string => `${ipv4Text(network + host)}/${LENGTH}`
const nameOf = ({ node }: End): string => node.metadata.name
const byName = (a: Node, b: Node): number => (a.metadata.name < b.metadata.name ? -1 : 1)

const seenFrom = (own: End, other: End, address: string, peerAddress: string): NodeCable => ({
  peer: nameOf(other),
  domainUuid: own.port.domainUuid ?? '',
  peerDomainUuid: other.port.domainUuid ?? '',
  address,
  peerAddress,
})

/** Each port serves one cable, however many claim to be its other end. */
function cablesOf(nodes: readonly Node[]): readonly Cable[] {
  const ends = nodes.map((node) => thunderboltOf(node).map((port): End => ({ node, port })))
  const used = new Set<NodePort>()
  return ends.flatMap((lows, i) =>
    ends.slice(i + 1).flatMap((highs) => {
      let index = 0
      return lows.flatMap((low) => {
        const high = highs.find(({ port }) => !used.has(port) && isCable(low.port, port))
        if (high === undefined || used.has(low.port)) return []
        used.add(low.port).add(high.port)
        return [{ low, high, index: index++ }]
      })
    }),
  )
}

const thunderboltOf = ({ status }: Node): readonly NodePort[] =>
  (status?.ports ?? []).filter(({ domainUuid }) => domainUuid !== undefined)

/** An agent that reaches the server over the bridge would cut itself off: it leaves the bridge alone, and so does the other end. */
const isWayToServer = ({ node, port }: End): boolean =>
  port.bridge !== undefined && ipv4Of(port).some((cidr) => parseCidr(cidr)?.address === internalAddress(node))

/** Two ports out of bridges that share a subnet of somebody's choice: there is nothing to give. */
function isSetByPeople(cable: Cable): boolean {
  const { low, high } = cable
  if (low.port.bridge !== undefined || high.port.bridge !== undefined || setAlready(cable) !== undefined) return false
  return ipv4Of(low.port).some(
    (own) => !isLinkLocal(own) && ipv4Of(high.port).some((other) => own !== other && sameSubnet(own, other)),
  )
}

/** The subnet of ours that both ports have as it would be given: a server that forgot takes it as its own word. */
const setAlready = ({ low, high }: Cable): number | undefined =>
  ipv4Of(low.port)
    .flatMap((own) => networkOfOurs(own) ?? [])
    .find((network) => [low, high].every(({ port }, end) => port.addresses.includes(hostOf(network, end + 1))))

/** Number of the subnet where the address is one that we may have given. */
function networkOfOurs(cidr: string): number | undefined {
  const parsed = parseCidr(cidr)
  return parsed?.length === LENGTH && pools.some((pool) => overlap(pool, cidr)) ? parsed.network : undefined
}

/** The subnet that this very cable was given, as either node has it. */
function standing(cable: Cable): number | undefined {
  const { low, high } = cable
  const given = [standingAt(low, high), standingAt(high, low)]
  return given.flatMap((cidr) => (cidr === undefined ? [] : (networkOfOurs(cidr) ?? [])))[0] ?? setAlready(cable)
}

const standingAt = (own: End, other: End): string | undefined =>
  own.node.status?.cables?.find(
    (cable) => cable.domainUuid === own.port.domainUuid && cable.peerDomainUuid === other.port.domainUuid,
  )?.address

/** From a place of the pair's own on: the same two nodes have the same addresses after a reboot, too. */
function firstFree({ low, high, index }: Cable, blocked: readonly Known[], taken: ReadonlySet<number>) {
  const name = `${nameOf(low)} ${nameOf(high)} ${index}`
  const place = createHash('sha256').update(name).digest().readUInt32BE()
  for (const pool of pools) {
    const { network: first, length } = parseCidr(pool) ?? { network: 0, length: LENGTH }
    const count = 2 ** (LENGTH - length)
    for (let step = 0; step < count; step++) {
      const network = first + ((place + step) % count) * SIZE
      if (isFree(network, blocked, taken)) return network
    }
  }
  return undefined
}

const isFree = (network: number, blocked: readonly Known[], taken: ReadonlySet<number>): boolean =>
  !taken.has(network) && !blocked.some(({ from, to }) => from < network + SIZE && network < to)

interface Known extends NodeNetwork {
  readonly node: Node
  /** Of its addresses, as numbers; `to` is the first that is not in it. */
  readonly from: number
  readonly to: number
}

/** A node of the version before tells of its ports alone. */
function networksOf(node: Node): readonly Known[] {
  const { networks, ports = [] } = node.status ?? {}
  const told = networks ?? ports.flatMap((port) => port.addresses.map((address) => ({ ...networkOf(port), address })))
  return told.flatMap((network) => {
    const cidr = parseCidr(network.address)
    return cidr === undefined
      ? []
      : [{ ...network, node, from: cidr.network, to: cidr.network + 2 ** (32 - cidr.length) }]
  })
}

const networkOf = ({ bridge, interface: name }: NodePort) => ({ interface: bridge ?? name })

/** What a node has of an earlier cable is given up there; what a cable's own port has of ours is its own. */
function isItsOwn({ low, high }: Cable, { node, interface: name, address }: Known): boolean {
  if (node.status?.cables?.some((cable) => cable.address === address)) return true
  return (
    networkOfOurs(address) !== undefined &&
    [low, high].some(({ node: own, port }) => own === node && port.interface === name)
  )
}
