/** What `mctl describe` says of each kind beyond its head: memory term by term, plans with their reasons, first causes. */
import { allocatableBytes, defaultGpuMemoryBytes, systemReserveBytes } from '../api/hardware.ts'
import type { MctlObject } from '../api/meta.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { Shard } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { formatBytes, parseBytes } from '../lib/quantity.ts'
import type { Client } from '../rpc/messages.ts'
import { fields, listing, section } from './describetext.ts'

export async function describeNode(client: Client, object: MctlObject): Promise<string> {
  const { spec, status } = object as Node
  const facts = status?.nodeInfo
  const { items } = await client.list({ kind: 'Shard', fieldSelector: `spec.nodeName=${object.metadata.name}` })
  const address = status?.addresses?.map((a) => a.address).join(', ') ?? '<none>'
  return (
    fields([
      ['Schedulable', spec.unschedulable ? 'no (cordoned)' : 'yes'],
      [
        'Taints',
        spec.taints.map((t) => `${t.key}${t.value === undefined ? '' : `=${t.value}`}:${t.effect}`).join(', ') ||
          '<none>',
      ],
      [
        'Chip',
        facts === undefined
          ? '<unknown>'
          : `${facts.chip}${facts.gpuCores === undefined ? '' : `, ${facts.gpuCores} GPU cores`}${facts.simulated ? ' (simulated figures)' : ''}`,
      ],
      ['Machine', [facts?.hardwareModel, facts?.osVersion].filter(Boolean).join(', ') || '<unknown>'],
      ['Address', address],
    ]) +
    memoryOf(object as Node) +
    section(
      'Engines',
      ['NAME', 'VERSION', 'BUILD', 'TRANSPORTS'],
      (status?.engines ?? []).map((e) => [e.name, e.version, e.build ?? '', e.transports.join(',')]),
    ) +
    section(
      'Models',
      ['SOURCE', 'STATE', 'SIZE', 'DIGEST'],
      (status?.models ?? []).map((m) => [
        m.source,
        m.state,
        m.sizeBytes === undefined ? '' : formatBytes(m.sizeBytes),
        m.digest?.slice(0, 19) ?? '',
      ]),
    ) +
    section(
      'Links',
      ['PEER', 'TYPE', 'TRANSPORT', 'ADDRESS'],
      (status?.links ?? []).map((l) => [l.peer, l.type, l.transport, l.peerAddress ?? '']),
    ) +
    shardTable(items as readonly Shard[])
  )
}

/** Every term of the sum that placement does with this node. */
function memoryOf({ spec, status }: Node): string {
  if (status?.capacity === undefined) return fields([['Memory', 'not reported yet']])
  const memory = parseBytes(status.capacity.memory)
  const reserve = systemReserveBytes(memory, spec.systemReserve)
  const reported = status.capacity.gpuMemory
  const gpu = reported === undefined ? defaultGpuMemoryBytes(memory, status.nodeInfo?.osVersion) : parseBytes(reported)
  const computed = allocatableBytes({ memoryBytes: memory, gpuMemoryBytes: gpu, systemReserveBytes: reserve })
  const allocatable = status.allocatable === undefined ? computed : parseBytes(status.allocatable.memory)
  const bound = status.bound === undefined ? 0 : parseBytes(status.bound.memory)
  return listing('Memory', [
    `capacity         ${formatBytes(memory)}`,
    `system reserve   ${formatBytes(reserve)}${spec.systemReserve === undefined ? '' : ' (from spec)'}`,
    `GPU limit        ${formatBytes(gpu)}${reported === undefined ? ' (assumed from the table: not reported)' : ''}`,
    `allocatable      ${formatBytes(allocatable)} = 0.95 × min(capacity − reserve, GPU limit)`,
    `bound            ${formatBytes(bound)}`,
    `free             ${formatBytes(allocatable - bound)}`,
  ])
}

export async function describeDeployment(client: Client, object: MctlObject): Promise<string> {
  const { spec, status, metadata } = object as ModelDeployment
  const namespace = metadata.namespace ?? ''
  const { items } = await client.list({
    kind: 'ShardGroup',
    namespace,
    fieldSelector: `spec.deployment=${metadata.name}`,
  })
  const groups = items as readonly ShardGroup[]
  const { parallelism: p, serving: s } = spec
  const plan = status?.plan
  return (
    fields([
      ['Model', spec.model.source ?? `model/${spec.model.name ?? ''}`],
      ['Served name', spec.servedName],
      [
        'Replicas',
        `${spec.replicas} wanted, ${status?.readyReplicas ?? 0} ready, ${status?.updatedReplicas ?? 0} updated`,
      ],
      [
        'Parallelism',
        `${p.strategy}${p.degree === undefined ? '' : `, degree ${p.degree}`}, objective ${p.objective}${p.split.length > 0 ? `, split [${p.split.join(', ')}]` : ''}`,
      ],
      ['Serving', `${s.contextTokens} context tokens × ${s.concurrency} at once, at most ${s.maxOutputTokens} out`],
      ['Endpoint', status?.endpoint ?? '<none>'],
    ]) +
    (plan === undefined ? '' : listing('Plan', planLines(plan))) +
    section(
      'Replicas',
      ['GROUP', 'PHASE', 'EPOCH', 'RESTARTS', 'RANK', 'NODE', 'LAYERS', 'MEMORY'],
      groups.flatMap(groupRows),
    ) +
    groups.map(firstCauseOf).join('')
  )
}

function planLines(plan: NonNullable<NonNullable<ModelDeployment['status']>['plan']>): string[] {
  const speed =
    plan.predicted === undefined ? '' : `, predicted ${plan.predicted.decodeTokensPerSecond.toFixed(1)} tokens/s`
  return [
    `${plan.strategy} over ${plan.degree} ${plan.degree === 1 ? 'node' : 'nodes'}${speed}`,
    ...plan.why.map((text) => `why: ${text}`),
    ...plan.rejected.map((text) => `not chosen: ${text}`),
  ]
}

function groupRows(group: ShardGroup): string[][] {
  const { spec, status } = group
  const head = [group.metadata.name, status?.phase ?? 'Pending', String(spec.epoch), String(status?.restarts ?? 0)]
  if (spec.members.length === 0) return [[...head, '', '<none>', '', '']]
  return spec.members.map((m, i) => [
    ...(i === 0 ? head : ['', '', '', '']),
    String(m.rank),
    m.node,
    `[${m.stage[0]}, ${m.stage[1]})`,
    formatBytes(m.memoryBytes),
  ])
}

function firstCauseOf(group: ShardGroup): string {
  const cause = group.status?.firstCause
  if (cause === undefined) return ''
  const how =
    cause.signal !== undefined
      ? ` (signal ${cause.signal})`
      : cause.code !== undefined
        ? ` (exit code ${cause.code})`
        : ''
  return listing(`First cause of the last failure of ${group.metadata.name}`, [
    `rank ${cause.rank} on ${cause.node}, epoch ${cause.epoch}: ${cause.reason}${how}: ${cause.message}`,
    ...(cause.lastLogLines ?? []).slice(-5).map((line) => `| ${line}`),
  ])
}

export function describeGroup(object: MctlObject): string {
  const group = object as ShardGroup
  const { spec, status } = group
  return (
    fields([
      ['Deployment', `${spec.deployment}, replica ${spec.replica}, revision ${spec.revision}`],
      ['Phase', status?.phase ?? 'Pending'],
      ['Epoch', String(spec.epoch)],
      ['Restarts', String(status?.restarts ?? 0)],
      ['Strategy', `${spec.strategy} over ${spec.transport}, engine ${spec.engine}, plan ${spec.planHash || '<none>'}`],
    ]) +
    section(
      'Members',
      ['RANK', 'NODE', 'LAYERS', 'MEMORY', 'WEIGHTS', 'KV', 'RUNTIME'],
      spec.members.map((m) => [
        String(m.rank),
        m.node,
        `[${m.stage[0]}, ${m.stage[1]})`,
        formatBytes(m.memoryBytes),
        formatBytes(m.parts.weights),
        formatBytes(m.parts.kv),
        formatBytes(m.parts.runtime),
      ]),
    ) +
    firstCauseOf(group)
  )
}

export function describeShard(object: MctlObject): string {
  const { spec, status } = object as Shard
  const exit = status?.exit
  return (
    fields([
      ['Node', spec.nodeName],
      ['Group', `${spec.group}, epoch ${spec.epoch}, rank ${spec.rank} of ${spec.worldSize}`],
      ['Engine', spec.engine.name],
      ['Layers', `[${spec.stage[0]}, ${spec.stage[1]})`],
      [
        'Memory',
        `${formatBytes(spec.memoryBytes)} (weights ${formatBytes(spec.parts.weights)}, kv ${formatBytes(spec.parts.kv)}, runtime ${formatBytes(spec.parts.runtime)})`,
      ],
      ['Phase', status?.phase ?? 'Pending'],
      ['Pid', String(status?.pid ?? '<none>')],
      ['Door', status?.port === undefined ? '<none>' : `${status.address ?? ''}:${status.port}`],
    ]) +
    (exit === undefined ? '' : listing('Exit', [`${exit.reason}: ${exit.message}`])) +
    listing('Last log lines', (status?.lastLogLines ?? []).slice(-10))
  )
}

const shardTable = (shards: readonly Shard[]): string =>
  section(
    'Shards',
    ['NAME', 'PHASE', 'RANK', 'LAYERS', 'MEMORY'],
    shards.map((s) => [
      s.metadata.name,
      s.status?.phase ?? 'Pending',
      `${s.spec.rank}/${s.spec.worldSize}`,
      `[${s.spec.stage[0]}, ${s.spec.stage[1]})`,
      formatBytes(s.spec.memoryBytes),
    ]),
  )
