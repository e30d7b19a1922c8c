/** `mctl describe node`: what the Mac is, its memory term by term, and who has bound which part of it. */
import type { NodeTrust } from '../../api/authority.ts'
import { ageOf } from '../../api/age.ts'
import { allocatableBytes, defaultGpuMemoryBytes, systemReserveBytes } from '../../api/hardware.ts'
import type { LiveNode, LiveReading } from '../../api/live.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { Drain, Node, NodeAddress, NodeCable, NodePort } from '../../api/node.ts'
import type { Shard } from '../../api/shard.ts'
import type { ShardGroup } from '../../api/shardgroup.ts'
import { formatBytes, parseBytes } from '../../lib/quantity.ts'
import { claims } from '../../planner/ledger.ts'
import type { Client } from '../../rpc/messages.ts'
import { whatIsWrong } from './nodehealth.ts'
import type { Block } from './text.ts'
import { fields, listing, section } from './text.ts'
import { formatTable } from '../printers/table.ts'

export async function describeNode(client: Client, object: MctlObject): Promise<readonly Block[]> {
  const node = object as Node
  const { status } = node
  const [groups, shards, live] = await Promise.all([
    client.list({ kind: 'ShardGroup' }),
    client.list({ kind: 'Shard' }),
    client.live({}),
  ])
  const now = live.nodes.find(({ name }) => name === node.metadata.name)
  const wrong = whatIsWrong(node)
  return [
    machineOf(node),
    wrong.length === 0 ? fields([['Health', 'nothing is wrong']]) : listing('What is wrong', wrong),
    fields([['Last heartbeat', heartbeatText(now)]]),
    memoryOf(node, now?.reading),
    boundBy(node, groups.items as readonly ShardGroup[], shards.items as readonly Shard[]),
    section(
      'Engines',
      ['NAME', 'VERSION', 'BUILD', 'TRANSPORTS'],
      (status?.engines ?? []).map((e) => [e.name, e.version, e.build ?? '<none>', e.transports.join(',')]),
    ),
    section(
      'Models',
      ['SOURCE', 'STATE', 'SIZE', 'DIGEST'],
      (status?.models ?? []).map((m) => [
        m.source,
        m.state,
        m.sizeBytes === undefined ? '<unknown>' : formatBytes(m.sizeBytes),
        m.digest?.slice(0, 19) ?? '<unknown>',
      ]),
    ),
    section(
      'Links',
      ['PEER', 'TYPE', 'TRANSPORT', 'ADDRESS', 'BANDWIDTH', 'LATENCY', 'ALL-REDUCE', 'HOP', 'REMARK'],
      (status?.links ?? []).map((l) => [
        l.peer,
        l.type,
        l.transport,
        l.peerAddress ?? '<none>',
        measured(l.bandwidthGBps, 'GB/s'),
        measured(l.latencyMicros, 'µs'),
        measured(l.allReduceMicros, 'µs'),
        measured(l.hopMicros, 'µs'),
        l.failure ?? l.notMeasured ?? '',
      ]),
    ),
    section(
      'Ports',
      ['INTERFACE', 'TYPE', 'SPEED', 'ADDRESSES', 'CABLE'],
      (status?.ports ?? []).map((p) => [
        p.interface,
        p.type,
        p.speedGbps === undefined ? '<unknown>' : `${p.speedGbps} Gb/s`,
        p.addresses.join(',') || '<none>',
        cableText(p, status?.cables),
      ]),
    ),
  ]
}

/** A link that nobody has measured is planned with what its type is known for. */
const measured = (value: number | undefined, unit: string): string =>
  value === undefined ? 'not measured' : `${value} ${unit}`

/** `to mini-2, in bridge0, is to have 10.217.3.1/30`; what leads to no node is known by its UUID. */
export function cableText(port: NodePort, cables: readonly NodeCable[] = []): string {
  const { domainUuid, peerDomainUuid, bridge, rdma, addresses } = port
  if (domainUuid === undefined) return ''
  const cable = cables.find((each) => each.domainUuid === domainUuid && each.peerDomainUuid === peerDomainUuid)
  const marks = [
    ...(bridge === undefined ? [] : [`in ${bridge}`]),
    ...(rdma === true ? ['RDMA'] : []),
    ...(cable === undefined || addresses.includes(cable.address) ? [] : [`is to have ${cable.address}`]),
  ]
  return [`to ${cable?.peer ?? peerDomainUuid ?? 'nothing'}`, ...marks].join(', ')
}

function machineOf({ spec, status }: Node): Block {
  const facts = status?.nodeInfo
  const cores = facts?.gpuCores === undefined ? '' : `, ${facts.gpuCores} GPU cores`
  const taints = spec.taints.map((t) => `${t.key}${t.value === undefined ? '' : `=${t.value}`}:${t.effect}`)
  const os = facts?.osVersion === undefined ? undefined : `OS ${facts.osVersion}`
  return fields([
    ['Schedulable', spec.drain !== undefined ? drainText(spec.drain) : spec.unschedulable ? 'no (cordoned)' : 'yes'],
    ['Taints', taints.join(', ') || '<none>'],
    [
      'Chip',
      facts === undefined ? '<unknown>' : `${facts.chip}${cores}${facts.simulated ? ' (simulated figures)' : ''}`,
    ],
    ['Machine', [facts?.hardwareModel, os].filter(Boolean).join(', ') || '<unknown>'],
    ['Agent', facts?.agentVersion ?? '<unknown>'],
    ...(status?.trust === undefined ? [] : [['Certificate', certificateText(status.trust)] as const]),
    ['Address', status?.addresses?.map(addressOf).join(', ') || '<none>'],
  ])
}

const certificateText = ({ authority, expiresAt }: NodeTrust): string =>
  `of authority ${authority}, good until ${expiresAt}`

const drainText = ({ force }: Drain): string => `no (being drained${force ? ' by force' : ''})`

/** Every term of the sum that placement does with this node. */
function memoryOf({ spec, status }: Node, now: LiveReading | undefined): Block {
  if (status?.capacity === undefined) return fields([['Memory', 'not reported yet']])
  const memory = parseBytes(status.capacity.memory)
  const reserve = systemReserveBytes(memory, spec.systemReserve)
  const reported = status.capacity.gpuMemory
  const gpu = reported === undefined ? defaultGpuMemoryBytes(memory, status.nodeInfo?.osVersion) : parseBytes(reported)
  const computed = allocatableBytes({ memoryBytes: memory, gpuMemoryBytes: gpu, systemReserveBytes: reserve })
  const allocatable = status.allocatable === undefined ? computed : parseBytes(status.allocatable.memory)
  const bound = status.bound === undefined ? 0 : parseBytes(status.bound.memory)
  const rows = [
    ['capacity', formatBytes(memory), ''],
    ['system reserve', formatBytes(reserve), spec.systemReserve === undefined ? 'default for this size' : 'from spec'],
    ['GPU limit', formatBytes(gpu), reported === undefined ? 'assumed for this size: not reported' : 'reported'],
    ['allocatable', formatBytes(allocatable), '0.95 × min(capacity − system reserve, GPU limit)'],
    ['bound', formatBytes(bound), shareOf(bound, allocatable)],
    ['free', allocatable < bound ? `-${formatBytes(bound - allocatable)}` : formatBytes(allocatable - bound), ''],
    ...liveRows(now),
  ]
  return listing('Memory', formatTable(undefined, rows).trimEnd().split('\n'))
}

/** What the machine itself says now, which no object holds. */
function liveRows(now: LiveReading | undefined): readonly (readonly string[])[] {
  if (now === undefined) return [['live', '<unknown>', 'no heartbeat in this session']]
  if (now.simulated === true) return [['live', '<unknown>', 'a simulated node does not tell']]
  const row = (name: string, bytes: number | undefined, remark: string) => [
    name,
    bytes === undefined ? '<unknown>' : formatBytes(bytes),
    remark,
  ]
  return [
    row('wired now', now.wiredBytes, 'what the system cannot take back'),
    row('used now', now.usedBytes, now.pressure === undefined ? '' : `pressure ${now.pressure}`),
    row('headroom now', now.freeBytes, 'what could still be had: nothing larger is placed here'),
  ]
}

function heartbeatText(now: LiveNode | undefined): string {
  if (now?.heardAgoMs === undefined) return 'none since the server started'
  return `${ageOf(now.heardAgoMs)} ago${now.connected ? '' : ', its agent is not in contact now'}`
}

const shareOf = (part: number, whole: number): string =>
  whole > 0 ? `${Math.round((100 * part) / whole)}% of allocatable` : ''

/** The ledger's claims on this node: their sum is `bound`. A group may claim before and after its shards live. */
function boundBy(node: Node, groups: readonly ShardGroup[], shards: readonly Shard[]): Block {
  const { name } = node.metadata
  const rows = [...claims({ groups, shards })].flatMap(([group, byNode]) => {
    const bytes = byNode.get(name)
    if (bytes === undefined) return []
    const here = shards.filter((s) => s.spec.nodeName === name && `${s.metadata.namespace}/${s.spec.group}` === group)
    return [[group, formatBytes(bytes), here.map(shardText).join('; ') || '<none>']]
  })
  rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
  return section('Bound by', ['GROUP', 'MEMORY', 'SHARDS'], rows)
}

const shardText = ({ metadata, spec, status }: Shard): string =>
  `${metadata.name}: rank ${spec.rank} of ${spec.worldSize}, layers [${spec.stage[0]}, ${spec.stage[1]}), ` +
  (metadata.deletionTimestamp === undefined || status?.phase === 'Stopped'
    ? (status?.phase ?? 'Pending')
    : 'Terminating')

const addressOf = ({ type, address, port }: NodeAddress): string =>
  `${address}${port === undefined ? '' : `:${port}`}${type === 'Internal' ? '' : ` (${type})`}`
