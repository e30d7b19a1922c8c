/** Outputs of macOS about its network → ports. Pure; recordings of real Macs are in test/fixtures/macos. */

export interface HardwarePort {
  /** Wi-Fi, Thunderbolt 2, Ethernet */
  readonly name: string
  /** en6 */
  readonly device: string
}

/** `networksetup -listallhardwareports` */
export const hardwarePorts = (text: string): readonly HardwarePort[] =>
  [...text.matchAll(/^Hardware Port: (.+)\nDevice: (\S+)$/gm)].map(([, name = '', device = '']) => ({ name, device }))

/** Of the case: receptacle 2 is "Thunderbolt 2", whatever its device is called. undefined: it is no Thunderbolt port. */
export const receptacleOf = ({ name }: HardwarePort): number | undefined => {
  const number = /^Thunderbolt (\d+)$/.exec(name)?.[1]
  return number === undefined ? undefined : Number(number)
}

export interface ThunderboltPort {
  /** As receptacleOf. */
  readonly receptacle: number
  readonly domainUuid: string
  /** Of the Mac at the other end; absent: none, or something that is no Mac. */
  readonly peerDomainUuid?: string
  /** As negotiated; absent: nothing is plugged in. */
  readonly speedGbps?: number
}

/** `system_profiler SPThunderboltDataType -json`; undefined: it is not that. */
export function thunderboltPorts(text: string): readonly ThunderboltPort[] | undefined {
  const buses = parsed(text)
  return buses?.flatMap((bus) => {
    const receptacle = record(bus['receptacle_1_tag'])
    const [id, domainUuid] = [Number(receptacle['receptacle_id_key']), bus['domain_uuid_key']]
    if (!Number.isInteger(id) || typeof domainUuid !== 'string') return []
    const items = list(bus['_items']).map(record)
    const peer = items.map((item) => item['domain_uuid_key']).find((uuid) => typeof uuid === 'string')
    const speed = /^(\d+(?:\.\d+)?) Gb\/s$/.exec(String(receptacle['current_speed_key']))?.[1]
    const connected = receptacle['receptacle_status_key'] === 'receptacle_connected'
    return [
      {
        receptacle: id,
        domainUuid,
        ...(peer === undefined ? {} : { peerDomainUuid: peer }),
        ...(connected && speed !== undefined ? { speedGbps: Number(speed) } : {}),
      },
    ]
  })
}

function parsed(text: string): readonly Readonly<Record<string, unknown>>[] | undefined {
  try {
    const buses = record(JSON.parse(text))['SPThunderboltDataType']
    return Array.isArray(buses) ? buses.map(record) : undefined
  } catch {
    return undefined
  }
}

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? (value as readonly unknown[]) : [])

export interface Interface {
  readonly name: string
  /** Switched on; whether anything is at the other end is `active`. */
  readonly up: boolean
  readonly active: boolean
  /** 192.168.1.5/24, fe80::1%en0/64 */
  readonly addresses: readonly string[]
  /** Of a bridge. */
  readonly members: readonly string[]
  /** From the medium: 1000baseT is 1. */
  readonly speedGbps?: number
}

/** `ifconfig -a`. Of IPv6 only link-local addresses: others come and go by the day, and no engine takes them. */
export const interfaces = (text: string): readonly Interface[] =>
  text
    .split(/^(?=[a-z]+\d+: flags=)/m)
    .filter((block) => /^[a-z]+\d+: flags=/.test(block))
    .map((block) => {
      const speedGbps = mediumGbps(/^\s+media: (.*)$/m.exec(block)?.[1] ?? '')
      return {
        name: /^[a-z]+\d+/.exec(block)?.[0] ?? '',
        up: /^[a-z]+\d+: flags=[0-9a-f]+<(?:[A-Z0-9]+,)*UP[,>]/.test(block),
        active: /^\s+status: active$/m.test(block),
        addresses: [...ipv4Of(block), ...linkLocalOf(block)],
        members: [...block.matchAll(/^\s+member: (\S+)/gm)].map(([, member = '']) => member),
        ...(speedGbps === undefined ? {} : { speedGbps }),
      }
    })

const ipv4Of = (block: string): readonly string[] =>
  // A tunnel says `inet A --> B netmask …`.
  [...block.matchAll(/^\s+inet (\d+\.\d+\.\d+\.\d+)(?: --> \S+)? netmask (0x[0-9a-f]{8})/gm)].map(
    ([, address = '', mask = '']) => `${address}/${prefixOf(Number(mask))}`,
  )
const linkLocalOf = (block: string): readonly string[] =>
  [...block.matchAll(/^\s+inet6 (fe80:\S+%\S+) prefixlen (\d+)/gm)].map(([, address, length]) => `${address}/${length}`)

const prefixOf = (mask: number): number => [...mask.toString(2)].filter((bit) => bit === '1').length

function mediumGbps(medium: string): number | undefined {
  const [, number, giga] = /\b(\d+(?:\.\d+)?)(G)?base/i.exec(medium) ?? []
  return number === undefined ? undefined : giga === undefined ? Number(number) / 1000 : Number(number)
}

/** `ibv_devices`: names of interfaces that offer RDMA. With RDMA switched off it prints its header only. */
export const rdmaInterfaces = (text: string): readonly string[] =>
  [...text.matchAll(/^\s+rdma_(\S+)\s+[0-9a-f]{16}\s*$/gm)].map(([, device = '']) => device)

/** `rdma_ctl status` */
export const rdmaEnabled = (text: string): boolean => text.trim() === 'enabled'

export interface RdmaPort {
  readonly interface: string
  readonly active: boolean
  /** Width × speed of a lane; absent: not told, as without `-v`. */
  readonly speedGbps?: number
}

/** `ibv_devinfo -v`. A port of Thunderbolt 4 may show itself as well: only the speed tells. */
export const rdmaPorts = (text: string): readonly RdmaPort[] =>
  text.split(/^(?=hca_id:)/m).flatMap((block) => {
    const name = /^hca_id:\s+rdma_(\S+)/.exec(block)?.[1]
    if (name === undefined) return []
    const width = /^\s+active_width:\s+(\d+)X/m.exec(block)?.[1]
    const lane = /^\s+active_speed:\s+(\d+(?:\.\d+)?) Gbps/m.exec(block)?.[1]
    const speed = width === undefined || lane === undefined ? {} : { speedGbps: Number(width) * Number(lane) }
    return [{ interface: name, active: /^\s+state:\s+PORT_ACTIVE/m.test(block), ...speed }]
  })
