/**
 * What addressing of Thunderbolt links looks at: every Thunderbolt port of this Mac, the bridges, and the networks that
 * it is in otherwise. Pure, from what three commands of macOS print. Not verified on hardware.
 */
import type { NodeNetwork } from '../../src/api/node.ts'
import { isLinkLocal, parseCidr } from '../../src/lib/ipv4.ts'
import type { Interface } from '../observe/darwin/parsenetwork.ts'
import type { NetworkTexts } from '../observe/darwin/ports.ts'
import { hardwarePorts, interfaces, receptacleOf, thunderboltPorts } from '../observe/darwin/parsenetwork.ts'

export interface LinkPort {
  readonly interface: string
  /** "Thunderbolt 2" */
  readonly name: string
  /** Absent: the system told none for this receptacle. */
  readonly domainUuid?: string
  /** Of the Mac at the other end; absent: none. */
  readonly peerDomainUuid?: string
  readonly up: boolean
  /** IPv4, with the length of the prefix. */
  readonly addresses: readonly string[]
  readonly bridge?: string
}

export interface Bridge {
  readonly name: string
  readonly up: boolean
  readonly addresses: readonly string[]
  readonly members: readonly string[]
}

export interface LinkScene {
  readonly ports: readonly LinkPort[]
  readonly bridges: readonly Bridge[]
  /** Of every interface; those that machines gave themselves are left out. */
  readonly networks: readonly NodeNetwork[]
}

/** undefined: the texts are not what they should be. */
export function sceneOf({ setup, ifconfig, profile }: NetworkTexts): LinkScene | undefined {
  const found = interfaces(ifconfig)
  const cables = thunderboltPorts(profile)
  if (cables === undefined || found.length === 0) return undefined
  const bridges = found.filter(({ name }) => name.startsWith('bridge')).map(bridgeOf)
  const known = new Map(found.map((each) => [each.name, each]))
  const ports = hardwarePorts(setup).flatMap((port): readonly LinkPort[] => {
    const { name, device } = port
    const receptacle = receptacleOf(port)
    const own = known.get(device)
    if (own === undefined || receptacle === undefined) return []
    const { domainUuid, peerDomainUuid } = cables.find((cable) => cable.receptacle === receptacle) ?? {}
    const bridge = bridges.find(({ members }) => members.includes(device))
    return [
      {
        interface: device,
        name,
        up: own.up,
        addresses: ipv4Of(own),
        ...(domainUuid === undefined ? {} : { domainUuid }),
        ...(peerDomainUuid === undefined ? {} : { peerDomainUuid }),
        ...(bridge === undefined ? {} : { bridge: bridge.name }),
      },
    ]
  })
  return { ports, bridges, networks: found.flatMap(networksOf) }
}

const ipv4Of = ({ addresses }: Interface): readonly string[] =>
  addresses.filter((cidr) => parseCidr(cidr) !== undefined)

const bridgeOf = (found: Interface): Bridge => ({
  name: found.name,
  up: found.up,
  addresses: ipv4Of(found),
  members: found.members,
})

const networksOf = (found: Interface): readonly NodeNetwork[] =>
  ipv4Of(found)
    .filter((cidr) => !isLinkLocal(cidr) && !cidr.startsWith('127.'))
    .map((address) => ({ interface: found.name, address }))
