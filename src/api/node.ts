/** Node: one Mac. capacity − systemReserve (and the GPU limit) = allocatable; − bound = free. */
import type { NodeTrust } from './authority.ts'
import type { Condition, ObjectMeta } from './meta.ts'
import type { Engine, Transport } from './words.ts'

export interface Taint {
  readonly key: string
  readonly value?: string
  readonly effect: 'NoSchedule'
}

export interface Drain {
  /** Groups that fit nowhere else stop, and update.maxUnavailable does not hold. */
  readonly force: boolean
}

export interface NodeSpec {
  readonly unschedulable: boolean
  readonly taints: readonly Taint[]
  /** Set: every group leaves, and nothing new comes (`mctl drain`); it ends with `mctl uncordon`. */
  readonly drain?: Drain
  /** Quantity; absent: clamp(2 GiB + RAM/8, 4 GiB, 16 GiB). */
  readonly systemReserve?: string
}

export interface NodeInfo {
  readonly chip: string
  readonly gpuCores?: number
  readonly osVersion?: string
  readonly hardwareModel?: string
  readonly agentVersion?: string
  /** Changes at each boot of the machine: handles of another boot are void. */
  readonly bootId?: string
  /** Laboratory figures were reported with `--simulate`; engines are real all the same. */
  readonly simulated?: boolean
}

export interface EngineInfo {
  readonly name: Engine
  readonly version: string
  readonly lmVersion?: string
  /** One group, one engine build: ranks of different builds are never mixed. */
  readonly build?: string
  readonly transports: readonly Transport[]
  /** Architectures that it can cut; absent: the built-in table; `*`: all. */
  readonly pipeline?: readonly string[]
  readonly tensor?: readonly string[]
}

export type LinkType =
  'Thunderbolt3' | 'Thunderbolt4' | 'Thunderbolt5' | 'Ethernet1G' | 'Ethernet2.5G' | 'Ethernet10G' | 'WiFi' | 'Loopback'

export type PortType = 'Thunderbolt' | 'Ethernet' | 'WiFi' | 'Loopback'

/** Where a cable or a network meets the node, as its agent sees it. Only those with a signal are reported. */
export interface NodePort {
  /** en2, eth0 */
  readonly interface: string
  readonly type: PortType
  /** With the length of the prefix: 10.0.0.1/30; of link-local IPv6 with the interface: fe80::1%en2/64. */
  readonly addresses: readonly string[]
  /** As negotiated, in 1e9 bits per second. */
  readonly speedGbps?: number
  /** Thunderbolt: of this port, and of the port at the other end of its cable. */
  readonly domainUuid?: string
  readonly peerDomainUuid?: string
  /** The bridge that holds the port: the addresses are the bridge's. */
  readonly bridge?: string
  /** true: RDMA is switched on and offered by this port at a speed that the engines can use. */
  readonly rdma?: boolean
}

/** An IPv4 network that the node is in, on any interface: addresses of cables keep out of it. */
export interface NodeNetwork {
  readonly interface: string
  /** Own address with the length of the prefix: 10.0.0.5/24. */
  readonly address: string
}

/**
 * The addresses that a Thunderbolt cable's two ports are to have, a subnet of its own. Given out by the server, for
 * both ends have to agree; set by the agents that were asked to (`mctl agent --configure-thunderbolt`).
 */
export interface NodeCable {
  readonly peer: string
  /** Of the own port, and of the peer's: names of interfaces change from boot to boot. */
  readonly domainUuid: string
  readonly peerDomainUuid: string
  /** With the length of the prefix: 10.217.0.1/30. */
  readonly address: string
  readonly peerAddress: string
}

export interface NodeLink {
  readonly peer: string
  readonly type: LinkType
  readonly transport: 'TCP' | 'RDMA'
  readonly address?: string
  readonly peerAddress?: string
  readonly bandwidthGBps?: number
  /** Of a small message there and back. */
  readonly latencyMicros?: number
  /** Through the engine, beyond what the bytes take; absent: planned with what its type is known for (placement/links.ts). */
  readonly allReduceMicros?: number
  readonly hopMicros?: number
  /** Why these two are not measured. */
  readonly notMeasured?: string
  /** When the figures were measured; absent: they are those of its type. */
  readonly measuredAt?: string
  /** Why the peer was not reached over this link when it was last tried: such a link carries nothing. */
  readonly failure?: string
}

export interface NodeModel {
  readonly source: string
  readonly digest?: string
  /** Partial: some files of an hf:// model are here, as a pipeline rank needs them. */
  readonly state: 'Present' | 'Partial' | 'Fetching' | 'Corrupt'
  readonly sizeBytes?: number
  /** Of a fetched one: the commit, as Shards name it. */
  readonly revision?: string
  /** Fetched, and needed by no shard of the machine: it goes when room is needed. */
  readonly prunable?: boolean
}

export interface NodeAddress {
  /** Models: the door at which other nodes get files of models. Links: the one at which they measure links. */
  readonly type: 'Internal' | 'Models' | 'Links'
  readonly address: string
  readonly port?: number
}

export interface NodeStatus {
  readonly nodeInfo?: NodeInfo
  /** Quantities. gpuMemory = the GPU working-set limit, queried; absent: the table by RAM and macOS version. */
  readonly capacity?: { readonly memory: string; readonly gpuMemory?: string }
  /** Written by the server alone. */
  readonly allocatable?: { readonly memory: string }
  readonly bound?: { readonly memory: string }
  readonly models?: readonly NodeModel[]
  readonly engines?: readonly EngineInfo[]
  readonly ports?: readonly NodePort[]
  /** Absent: those of the ports are all that is known. */
  readonly networks?: readonly NodeNetwork[]
  /** Written by the server alone. */
  readonly cables?: readonly NodeCable[]
  /** The server finds them by the ports of both ends; those of a node that reports no ports are left as they are. */
  readonly links?: readonly NodeLink[]
  readonly addresses?: readonly NodeAddress[]
  /** Written by the server alone, in clusters with identities. */
  readonly trust?: NodeTrust
  /** Ready (server), MemoryPressure, DiskPressure, ThermalPressure and what else its machine lacks (agent), Overcommitted, Drained while spec.drain is set (server). */
  readonly conditions?: readonly Condition[]
}

export interface Node {
  readonly apiVersion: string
  readonly kind: 'Node'
  readonly metadata: ObjectMeta
  readonly spec: NodeSpec
  readonly status?: NodeStatus
}
