/** macOS: which port is what, from a handful of its commands. Not verified on hardware. */
import type { NodePort, PortType } from '../../../src/api/node.ts'
import type { PortDoors } from '../ports.ts'
import type { HardwarePort, Interface, RdmaPort, ThunderboltPort } from './parsenetwork.ts'
import {
  hardwarePorts,
  interfaces,
  rdmaEnabled,
  rdmaInterfaces,
  rdmaPorts,
  receptacleOf,
  thunderboltPorts,
} from './parsenetwork.ts'

/** RDMA is of Thunderbolt 5. */
const RDMA_GBPS = 80

export interface NetworkTexts {
  /** `networksetup -listallhardwareports` */
  readonly setup: string
  /** `ifconfig -a` */
  readonly ifconfig: string
  /** `system_profiler SPThunderboltDataType -json` */
  readonly profile: string
}

/** undefined: one of the commands failed. */
export async function readNetwork({ runText }: Pick<PortDoors, 'runText'>): Promise<NetworkTexts | undefined> {
  const [setup, ifconfig, profile] = await Promise.all([
    runText('networksetup', ['-listallhardwareports']),
    runText('ifconfig', ['-a']),
    runText('system_profiler', ['SPThunderboltDataType', '-json']),
  ])
  return setup === undefined || ifconfig === undefined || profile === undefined
    ? undefined
    : { setup, ifconfig, profile }
}

/** Ports with a signal; undefined: one of the commands failed. */
export async function darwinPorts(doors: Pick<PortDoors, 'runText'>): Promise<readonly NodePort[] | undefined> {
  const texts = await readNetwork(doors)
  const cables = texts && thunderboltPorts(texts.profile)
  if (texts === undefined || cables === undefined) return undefined
  const { setup, ifconfig } = texts
  const fast = cables.some((cable) => cable.peerDomainUuid !== undefined && (cable.speedGbps ?? 0) >= RDMA_GBPS)
  return joinPorts({ setup, ifconfig, cables, rdma: fast ? await readRdma(doors) : [] })
}

export interface PortTexts {
  readonly setup: string
  readonly ifconfig: string
  readonly cables: readonly ThunderboltPort[]
  readonly rdma: readonly string[]
}

/** What the commands say, put together: a cable is of a receptacle, a receptacle of an interface, its addresses may be of a bridge. Pure. */
export function joinPorts({ setup, ifconfig, cables, rdma }: PortTexts): readonly NodePort[] {
  const known = new Map(interfaces(ifconfig).map((found) => [found.name, found]))
  const bridges = [...known.values()].filter(({ members }) => members.length > 0)
  return hardwarePorts(setup).flatMap((port): readonly NodePort[] => {
    const found = known.get(port.device)
    const type = typeOf(port)
    if (found === undefined || type === undefined) return []
    if (type !== 'Thunderbolt') return found.active && found.addresses.length > 0 ? [plainPort(found, type)] : []
    const cable = cables.find((c) => c.receptacle === receptacleOf(port))
    if (cable?.peerDomainUuid === undefined) return []
    const bridge = bridges.find(({ members }) => members.includes(port.device))
    return [cabledPort(found, bridge, cable, rdma)]
  })
}

const plainPort = ({ name, addresses, speedGbps }: Interface, type: PortType): NodePort => ({
  interface: name,
  type,
  addresses,
  ...(speedGbps === undefined ? {} : { speedGbps }),
})

const cabledPort = (
  found: Interface,
  bridge: Interface | undefined,
  { domainUuid, peerDomainUuid, speedGbps }: ThunderboltPort,
  rdma: readonly string[],
): NodePort => ({
  interface: found.name,
  type: 'Thunderbolt',
  addresses: bridge === undefined ? found.addresses : bridge.addresses,
  ...(speedGbps === undefined ? {} : { speedGbps }),
  domainUuid,
  ...(peerDomainUuid === undefined ? {} : { peerDomainUuid }),
  ...(bridge === undefined ? {} : { bridge: bridge.name }),
  ...(rdma.includes(found.name) && (speedGbps ?? 0) >= RDMA_GBPS ? { rdma: true } : {}),
})

/** The bridge is not a port, its members are. */
function typeOf(port: HardwarePort): PortType | undefined {
  if (receptacleOf(port) !== undefined) return 'Thunderbolt'
  const { name } = port
  if (name === 'Thunderbolt Bridge' || /bluetooth|iphone|ipad/i.test(name)) return undefined
  return name === 'Wi-Fi' ? 'WiFi' : 'Ethernet'
}

/** Interfaces whose RDMA can be used now. `rdma_ctl` says "enabled" on Macs without any, too. */
async function readRdma({ runText }: Pick<PortDoors, 'runText'>): Promise<readonly string[]> {
  if (!rdmaEnabled((await runText('rdma_ctl', ['status'])) ?? '')) return []
  const offered = rdmaInterfaces((await runText('ibv_devices', [])) ?? '')
  // A hanging one is the sign of resources that an engine left behind: then there is no RDMA until a reboot.
  const told = offered.length === 0 ? [] : rdmaPorts((await runText('ibv_devinfo', ['-v'])) ?? '')
  return offered.filter((name) => isUsable(told.find((port) => port.interface === name)))
}

const isUsable = (port: RdmaPort | undefined): boolean =>
  port?.active === true && (port.speedGbps === undefined || port.speedGbps >= RDMA_GBPS)
