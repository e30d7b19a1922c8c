/**
 * The ports of this machine that have a signal: what the server finds links by. Looked at again when addresses change
 * and once a minute, for a cable may come without any.
 */
import { networkInterfaces } from 'node:os'
import { isDeepStrictEqual } from 'node:util'
import type { NodeNetwork, NodePort } from '../../src/api/node.ts'
import { isLinkLocal } from '../../src/lib/ipv4.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { darwinPorts } from './darwin/ports.ts'
import type { MachineDoors } from './facts.ts'
import { linuxPorts } from './linux/ports.ts'

/** The part of `os.networkInterfaces()` that is looked at. */
export type Interfaces = Readonly<
  Record<
    string,
    readonly {
      readonly address: string
      readonly family: string
      readonly internal: boolean
      readonly cidr: string | null
    }[]
  >
>

export interface PortDoors extends Pick<MachineDoors, 'readText' | 'runText'> {
  readonly interfaces: () => Interfaces
}

export const systemInterfaces = (): Interfaces => networkInterfaces() as Interfaces

/** IPv4 networks of all interfaces, those of tunnels and virtual machines too; not those that machines give themselves. */
export const networksOf = (interfaces: Interfaces): readonly NodeNetwork[] =>
  Object.entries(interfaces)
    .flatMap(([name, found]) =>
      found
        .filter(({ family, internal, address }) => family === 'IPv4' && !internal && !isLinkLocal(address))
        .flatMap(({ cidr }) => (cidr === null ? [] : [{ interface: name, address: cidr }])),
    )
    .sort((a, b) => (`${a.interface} ${a.address}` < `${b.interface} ${b.address}` ? -1 : 1))

/** undefined: nothing could be read yet. */
export type ObservePorts = () => Promise<readonly NodePort[] | undefined>

const PERIOD_MS = 60_000

export interface PortObserverOptions {
  readonly platform: NodeJS.Platform
  readonly doors: PortDoors
  readonly clock: Clock
}

/** A reading that fails keeps the last one: a command that hung for once takes no link away. */
export function portObserver({ platform, doors, clock }: PortObserverOptions): ObservePorts {
  let known: { readonly atMs: number; readonly seen: Interfaces; readonly ports: readonly NodePort[] } | undefined
  return async () => {
    const seen = doors.interfaces()
    const atMs = clock.monotonicMs()
    if (known !== undefined && atMs - known.atMs < PERIOD_MS && isDeepStrictEqual(seen, known.seen)) return known.ports
    const ports = platform === 'darwin' ? await darwinPorts(doors) : await linuxPorts(doors)
    if (ports !== undefined)
      known = { atMs, seen, ports: [...ports].sort((a, b) => (a.interface < b.interface ? -1 : 1)) }
    return known?.ports
  }
}

/** All that a node without identities can be reached by: from its own machine. */
export const loopbackPorts: ObservePorts = () =>
  Promise.resolve([{ interface: 'lo', type: 'Loopback', addresses: ['127.0.0.1/8'] }])
