/** Linux: addresses from the system, what a port is from /sys/class/net. */
import type { NodePort } from '../../../src/api/node.ts'
import type { Interfaces, PortDoors } from '../ports.ts'

/** What containers, virtual machines and tunnels bring along: their networks have the same numbers everywhere. */
const VIRTUAL = /^(docker|br-|virbr|veth|vmnet|tun|tap|wg|tailscale|zt|cni|flannel|cali|podman|lxc|ifb|dummy)/

export async function linuxPorts(doors: PortDoors): Promise<readonly NodePort[]> {
  const names = Object.entries(doors.interfaces()).filter(([name]) => !VIRTUAL.test(name))
  const ports = await Promise.all(names.map(([name, addresses]) => portOf(doors, name, addresses)))
  return ports.filter((port) => port !== undefined)
}

async function portOf({ readText }: PortDoors, name: string, found: Interfaces[string]): Promise<NodePort | undefined> {
  const of = (file: string) => readText(`/sys/class/net/${name}/${file}`)
  const [kind, carrier, speed, bridge, tunnel, radio] = await Promise.all(
    ['type', 'carrier', 'speed', 'bridge/bridge_id', 'tun_flags', 'phy80211/index'].map(of),
  )
  // 1: Ethernet, as Wi-Fi says, too. A machine may be a bridge's port on a cable of its own: then the bridge has the addresses.
  if (kind?.trim() !== '1' || carrier?.trim() !== '1' || bridge !== undefined || tunnel !== undefined) return undefined
  const addresses = found
    .filter(({ internal }) => !internal)
    .flatMap(({ cidr, address }) => cidrOf(name, address, cidr))
  if (addresses.length === 0) return undefined
  const megabits = Number(speed ?? NaN)
  return {
    interface: name,
    type: radio === undefined ? 'Ethernet' : 'WiFi',
    addresses,
    ...(megabits > 0 ? { speedGbps: megabits / 1000 } : {}),
  }
}

/** IPv4, and the link-local one of IPv6 with its interface: others come and go by the day, and no engine takes them. */
function cidrOf(name: string, address: string, cidr: string | null): readonly string[] {
  if (cidr === null) return []
  if (!address.includes(':')) return [cidr]
  return address.toLowerCase().startsWith('fe80:') ? [cidr.replace(address, `${address}%${name}`)] : []
}
