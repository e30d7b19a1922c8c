/** `mctl describe TYPE NAME`: one object told whole: what it is, why it stands as it does, and what happened to it. */
import { stringify } from 'yaml'
import type { KindName } from '../api/kinds.ts'
import { kinds } from '../api/kinds.ts'
import type { Condition, MctlObject } from '../api/meta.ts'
import type { Client } from '../rpc/messages.ts'
import type { Cli, Target } from './context.ts'
import { CliError, refOf, targetsOf, withClient } from './context.ts'
import { describeDeployment, describeGroup, describeNode, describeShard } from './describekinds.ts'
import { eventTable } from './events.ts'
import { fields, section } from './describetext.ts'

export interface DescribeFlags {
  readonly server?: string
  readonly namespace?: string
  readonly showEvents?: boolean
}

export async function describe(cli: Cli, words: readonly string[], flags: DescribeFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    const texts: string[] = []
    for (const target of targetsOf(words)) {
      for (const object of await objectsOf(client, target, flags)) texts.push(await describeOne(client, object, flags))
    }
    if (texts.length === 0) throw new CliError('no matching resources found')
    cli.terminal.out(texts.join('\n\n'))
    return 0
  })
}

/** The named object; else those whose names begin so, as kubectl does; without a name all. */
async function objectsOf(client: Client, target: Target, flags: DescribeFlags): Promise<readonly MctlObject[]> {
  const ref = refOf(target.kind, target.name ?? '', flags.namespace)
  const { items } = await client.list({
    kind: target.kind,
    ...(ref.namespace === '' ? {} : { namespace: ref.namespace }),
  })
  const exact = items.filter((item) => item.metadata.name === target.name)
  if (target.name === undefined) return items
  if (exact.length > 0) return exact
  const byPrefix = items.filter((item) => item.metadata.name.startsWith(target.name as string))
  // Asks for the very name so that the server's own NotFound is what the user reads.
  return byPrefix.length > 0 ? byPrefix : [(await client.get({ ref })).object]
}

async function describeOne(client: Client, object: MctlObject, flags: DescribeFlags): Promise<string> {
  const sections = [fields(headOf(object)), await bodyOf(client, object), conditionsOf(object)]
  if (flags.showEvents !== false) sections.push(await eventsOf(client, object))
  return sections.filter((text) => text !== '').join('')
}

function headOf(object: MctlObject): readonly (readonly [string, string])[] {
  const { name, namespace, labels, annotations, creationTimestamp, deletionTimestamp, generation } = object.metadata
  return [
    ['Name', name],
    ...(kinds[object.kind as KindName].namespaced ? [['Namespace', namespace ?? ''] as const] : []),
    ['Labels', pairs(labels)],
    ['Annotations', pairs(annotations)],
    ['Created', creationTimestamp],
    ...(deletionTimestamp === undefined ? [] : [['Terminating', `since ${deletionTimestamp}`] as const]),
    ['Generation', String(generation)],
  ]
}

const pairs = (map: Readonly<Record<string, string>> | undefined) =>
  Object.entries(map ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(', ') || '<none>'

async function bodyOf(client: Client, object: MctlObject): Promise<string> {
  switch (object.kind as KindName) {
    case 'Node':
      return describeNode(client, object)
    case 'ModelDeployment':
      return describeDeployment(client, object)
    case 'ShardGroup':
      return describeGroup(object)
    case 'Shard':
      return describeShard(object)
    default: {
      const { apiVersion: _v, kind: _k, metadata: _m, ...rest } = object as MctlObject & Record<string, unknown>
      return stringify(rest, { lineWidth: 0 })
    }
  }
}

function conditionsOf(object: MctlObject): string {
  const conditions = (object.status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? []
  return section(
    'Conditions',
    ['TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'],
    conditions.map((c) => [c.type, c.status, c.lastTransitionTime, c.reason, c.message]),
  )
}

async function eventsOf(client: Client, object: MctlObject): Promise<string> {
  const reply = await client.list({
    kind: 'Event',
    table: true,
    fieldSelector: `involvedObject.uid=${object.metadata.uid}`,
  })
  if (reply.items.length === 0) return 'Events:   <none>\n'
  const rows = reply.rows?.map((row) => row.cells) ?? []
  return `Events:\n${eventTable(reply.columns ?? [], rows, true).replace(/^(?=.)/gm, '  ')}`
}
