/** What `mctl describe` says of deployments, groups and shards: plans with their reasons, ranks, and first causes. */
import { timestamp } from '../../api/meta.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { Model, ObservedRate } from '../../api/model.ts'
import type { ModelDeployment, PlanSummary } from '../../api/modeldeployment.ts'
import type { Shard } from '../../api/shard.ts'
import type { Binding, Member, ShardGroup } from '../../api/shardgroup.ts'
import { bindingOf } from '../../api/shardgroup.ts'
import type { Stage } from '../../api/words.ts'
import { counted } from '../../lib/counted.ts'
import { formatBytes } from '../../lib/quantity.ts'
import { resolveShape } from '../../planner/placement/view.ts'
import { describeCause } from '../../planner/rankfailure.ts'
import { remedyOf } from '../../planner/remedy.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Block } from './text.ts'
import { fields, listing, section } from './text.ts'
import { speedText } from '../plan/print.ts'

const LOG_LINES = 5

export async function describeDeployment(client: Client, object: MctlObject): Promise<readonly Block[]> {
  const { spec, status, metadata } = object as ModelDeployment
  const { items } = await client.list({
    kind: 'ShardGroup',
    namespace: metadata.namespace ?? '',
    fieldSelector: `spec.deployment=${metadata.name}`,
  })
  const groups = items as readonly ShardGroup[]
  const models = (await client.list({ kind: 'Model' })).items as readonly Model[]
  const observed = resolveShape({ models }, spec.model)?.observed ?? []
  const { parallelism: p, serving: s, model } = spec
  const { replicas = 0, readyReplicas = 0, updatedReplicas = 0, plan } = status ?? {}
  const degree = p.degree === undefined ? '' : `, degree ${p.degree}`
  const split = p.split.length === 0 ? '' : `, split [${p.split.join(', ')}]`
  return [
    fields([
      ['Model', model.source ?? `model/${model.name ?? ''}`],
      ['Served name', spec.servedName],
      ['Replicas', `${spec.replicas} wanted, ${replicas} there, ${readyReplicas} ready, ${updatedReplicas} updated`],
      ['Parallelism', `${p.strategy}${degree}, objective ${p.objective}${split}`],
      ['Serving', `${s.contextTokens} context tokens × ${s.concurrency} at once, at most ${s.maxOutputTokens} out`],
      ['Engine', spec.engine.name],
      ['Endpoint', status?.endpoint ?? '<none>'],
    ]),
    listing('Plan', plan === undefined ? [] : planLines(plan, observed)),
    section(
      'Groups',
      ['GROUP', 'PHASE', 'EPOCH', 'RESTARTS', 'RANK', 'NODE', 'LAYERS', 'MEMORY'],
      groups.flatMap(groupRows),
    ),
    ...groups.map(firstCauseOf),
  ]
}

function planLines(plan: PlanSummary, observed: readonly ObservedRate[]): string[] {
  const seen = observed.filter((rate) => rate.strategy === plan.strategy && rate.degree === plan.degree)
  return [
    `${plan.strategy} over ${plan.degree} ${plan.degree === 1 ? 'node' : 'nodes'}, ` +
      `predicted ${speedText(plan.predicted?.decodeTokensPerSecond)}`,
    ...seen.map(observedText),
    ...plan.why.map((text) => `why: ${text}`),
    ...plan.rejected.map((text) => `not chosen: ${text}`),
  ]
}

/** What it was measured against: answers are rarely as long as the context that a plan predicts for. */
const observedText = ({ tokensPerSecond, linkClass, samples, predictedTokensPerSecond }: ObservedRate): string =>
  `observed ${speedText(tokensPerSecond)} over link ${linkClass}, ${counted(samples, 'answer')}` +
  (predictedTokensPerSecond === undefined ? '' : ` (predicted for them: ${speedText(predictedTokensPerSecond)})`)

const layers = ([start, end]: Stage): string => `[${start}, ${end})`

function groupRows({ metadata, spec, status }: ShardGroup): string[][] {
  const head = [metadata.name, status?.phase ?? 'Pending', String(spec.epoch), String(status?.restarts ?? 0)]
  if (spec.members.length === 0) return [[...head, '<none>', '<none>', '<none>', '<none>']]
  return spec.members.map((m, i) => [
    ...(i === 0 ? head : ['', '', '', '']),
    String(m.rank),
    m.node,
    layers(m.stage),
    formatBytes(m.memoryBytes),
  ])
}

function firstCauseOf(group: ShardGroup): Block {
  const cause = group.status?.firstCause
  if (cause === undefined) return listing('', [])
  return listing(`Last failure of ${group.metadata.name}`, [
    `${timestamp(cause.atMs)}: ${describeCause(cause)}`,
    ...logLines(cause.lastLogLines),
    ...(group.status?.phase === 'Ready' ? [] : [`what to do: ${remedyOf(cause)}`]),
    ...retryLine(group),
  ])
}

/** Only while the group waits for it. */
function retryLine({ status }: ShardGroup): readonly string[] {
  const { phase, backoffUntilMs, loadFailures = 0 } = status ?? {}
  if (backoffUntilMs === undefined || (phase !== 'Backoff' && phase !== 'Failed')) return []
  const same = phase === 'Failed' ? ` (failed to load ${loadFailures} times in a row for the same cause)` : ''
  return [`next try: after ${timestamp(backoffUntilMs)}${same}`]
}

const logLines = (lines: readonly string[] = []) => lines.slice(-LOG_LINES).map((line) => `| ${line}`)

export async function describeGroup(client: Client, object: MctlObject): Promise<readonly Block[]> {
  const group = object as ShardGroup
  const { spec, status, metadata } = group
  const binding = bindingOf(spec)
  const { items } = await client.list({
    kind: 'Shard',
    namespace: metadata.namespace ?? '',
    fieldSelector: `spec.group=${metadata.name}`,
  })
  return [
    fields([
      ['Deployment', `${spec.deployment}, replica ${spec.replica}, revision ${spec.revision}`],
      ['Phase', status?.phase ?? 'Pending'],
      ['Epoch', String(spec.epoch)],
      ['Restarts', String(status?.restarts ?? 0)],
      ['Strategy', binding === undefined ? '<none>' : cutText(binding)],
      ['Plan hash', binding?.planHash ?? '<none>'],
    ]),
    members('Members', spec.members),
    members(`Members of the next epoch, ${spec.next?.epoch ?? ''}`, spec.next?.members ?? []),
    section(
      'Shards',
      ['NAME', 'STATUS', 'NODE', 'PID'],
      (items as readonly Shard[]).map((s) => [
        s.metadata.name,
        s.status?.phase ?? 'Pending',
        s.spec.nodeName,
        String(s.status?.pid ?? '<none>'),
      ]),
    ),
    firstCauseOf(group),
  ]
}

const cutText = ({ strategy, transport, engine, members: list }: Binding): string =>
  list.length === 1 ? `${strategy}, engine ${engine}` : `${strategy} over ${transport}, engine ${engine}`

const members = (title: string, list: readonly Member[]): Block =>
  section(
    title,
    ['RANK', 'NODE', 'LAYERS', 'MEMORY', 'WEIGHTS', 'KV', 'RUNTIME'],
    list.map((m) => [
      String(m.rank),
      m.node,
      layers(m.stage),
      formatBytes(m.memoryBytes),
      formatBytes(m.parts.weights),
      formatBytes(m.parts.kv),
      formatBytes(m.parts.runtime),
    ]),
  )

export function describeShard(object: MctlObject): readonly Block[] {
  const { spec, status } = object as Shard
  const exit = status?.exit
  const { weights, kv, runtime } = spec.parts
  const progress = status?.progress
  return [
    fields([
      ['Node', spec.nodeName],
      ['Group', `${spec.group}, epoch ${spec.epoch}, rank ${spec.rank} of ${spec.worldSize}`],
      ['Engine', [spec.engine.name, ...spec.engine.args].join(' ')],
      ['Model', spec.model.source ?? `model/${spec.model.name ?? ''}`],
      ['Layers', layers(spec.stage)],
      [
        'Memory',
        `${formatBytes(spec.memoryBytes)} (weights ${formatBytes(weights)}, kv ${formatBytes(kv)}, runtime ${formatBytes(runtime)})`,
      ],
      ['Phase', status?.phase ?? 'Pending'],
      ...(progress === undefined || progress.doneBytes >= progress.totalBytes
        ? []
        : [['Fetched', `${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}`] as const]),
      ['Pid', String(status?.pid ?? '<none>')],
      ['Door', status?.port === undefined ? '<none>' : `${status.address ?? ''}:${status.port}`],
    ]),
    listing('Exit', exit === undefined ? [] : [`${timestamp(exit.atMs)}: ${exit.reason}: ${exit.message}`]),
    listing('Last log lines', logLines(status?.lastLogLines)),
  ]
}
