/** `mctl describe TYPE NAME`: one object told whole: what it is, why it stands as it does, and what happened to it. */
import type { KindName } from '../../api/kinds.ts'
import { kinds } from '../../api/kinds.ts'
import type { Condition, MctlObject } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { asBoolean, examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { describeDeployment, describeGroup, describeShard } from './groups.ts'
import { describeModel } from './model.ts'
import { describeNode } from './node.ts'
import { describeSync } from './sync.ts'
import type { Block, Entry } from './text.ts'
import { clauses, fields, listing, renderBlocks, section } from './text.ts'
import { Failures } from '../errors.ts'
import { eventTable } from '../get/events.ts'
import { byTime, listRows } from '../get/fetch.ts'
import { emptyText, selectionOf } from '../get/flags.ts'
import { planHint } from '../plan/hint.ts'
import { render } from '../printers/render.ts'
import type { Target } from '../targets.ts'
import { refOf, targetsFrom } from '../targets.ts'

export interface DescribeFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly selector?: string
  readonly showEvents?: boolean
}

export const defineDescribe: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE [NAME...] | TYPE/NAME... | -f FILE) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-l, --selector <labels>', 'only objects with these labels')
    .addOption(fileOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--show-events [true|false]', 'with the events', asBoolean, true)
    .option('--no-show-events', 'without the events')
    .addHelpText('after', examples('mctl describe node mini-1', 'mctl describe md/smollm2-pipeline'))
    .action(async (words: string[], flags: DescribeFlags) => done(await describe(cli, words, flags)))
}

export async function describe(cli: Cli, words: readonly string[], flags: DescribeFlags): Promise<number> {
  const targets = await targetsFrom(cli, words, 'describe', flags)
  if (flags.selector !== undefined && targets.some((target) => target.name !== undefined))
    throw new CliError('name cannot be provided when a selector is specified')
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    let told = 0
    for (const target of targets) {
      const objects = await failures.attempt(() => objectsOf(client, target, flags))
      for (const object of objects ?? []) {
        const text = await describeOne(client, object, flags)
        cli.terminal.out(`${told++ > 0 ? '\n\n' : ''}${text}`)
      }
    }
    if (told === 0 && failures.exitCode === 0)
      cli.terminal.err(
        emptyText(
          targets.map(({ kind }) => kind),
          flags,
        ),
      )
    return failures.exitCode
  })
}

/** The named object; else those whose names begin so, as kubectl does; without a name all. */
async function objectsOf(client: Client, target: Target, flags: DescribeFlags): Promise<readonly MctlObject[]> {
  const { kind, name } = target
  const { namespace = flags.namespace } = target
  const list = async () =>
    (await client.list(selectionOf(kind, { ...flags, ...(namespace === undefined ? {} : { namespace }) }))).items
  if (name === undefined) return list()
  try {
    return [(await client.get({ ref: refOf(kind, name, namespace) })).object]
  } catch (error) {
    if (!isOpError(error, 'NotFound')) throw error
    const byPrefix = (await list()).filter((item) => item.metadata.name.startsWith(name))
    if (byPrefix.length === 0) throw error
    return byPrefix
  }
}

async function describeOne(client: Client, object: MctlObject, flags: DescribeFlags): Promise<string> {
  const next = planHint(object)
  const blocks = [
    fields(headOf(object)),
    ...(await bodyOf(client, object)),
    ...whyNot(object),
    ...(next === undefined ? [] : [fields([['What to do', next]])]),
    conditionsOf(object),
  ]
  if (flags.showEvents !== false && object.kind !== 'Event') blocks.push(await eventsOf(client, object))
  return renderBlocks(blocks)
}

function headOf(object: MctlObject): readonly Entry[] {
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

async function bodyOf(client: Client, object: MctlObject): Promise<readonly Block[]> {
  switch (object.kind as KindName) {
    case 'Node':
      return describeNode(client, object)
    case 'Model':
      return describeModel(client, object)
    case 'ModelDeployment':
      return describeDeployment(client, object)
    case 'ShardGroup':
      return describeGroup(client, object)
    case 'Shard':
      return describeShard(object)
    case 'Sync':
      return describeSync(object)
    case 'Revision':
    case 'User':
    case 'ApiKey':
    case 'JoinToken':
    case 'Authority':
    case 'ApplySet':
    case 'Event': {
      const { apiVersion: _v, kind: _k, metadata: _m, ...rest } = object as MctlObject & Record<string, unknown>
      return Object.entries(rest).map(([key, value]) => entryOf(titled(key), value))
    }
  }
}

const titled = (key: string) => key.slice(0, 1).toUpperCase() + key.slice(1)

const entryOf = (title: string, value: unknown): Block =>
  typeof value === 'object' && value !== null
    ? listing(title, render(value, 'yaml').trimEnd().split('\n'))
    : fields([[title, String(value)]])

const conditionsIn = (object: MctlObject): readonly Condition[] =>
  (object.status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? []

/** A message that is longer is told clause by clause before the table. */
const CELL_CHARACTERS = 160

/** Conditions that say more than a table's cell can hold; what one has said, no other repeats. */
function whyNot(object: MctlObject): readonly Block[] {
  const told: string[] = []
  return conditionsIn(object).flatMap(({ type, message }) => {
    const lines = clauses(message)
    if (message.length <= CELL_CHARACTERS || lines.length === 1 || told.some((earlier) => message.includes(earlier)))
      return []
    told.push(message)
    return [listing(`What ${type} says`, lines)]
  })
}

/** Ready stands last, as in kubectl. */
function conditionsOf(object: MctlObject): Block {
  const conditions = conditionsIn(object)
  const isReady = ({ type }: Condition) => type === 'Ready'
  return section(
    'Conditions',
    ['TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'],
    [...conditions.filter((c) => !isReady(c)), ...conditions.filter(isReady)].map((c) => [
      c.type,
      c.status,
      c.lastTransitionTime,
      c.reason,
      shortened(c.message),
    ]),
  )
}

function shortened(message: string): string {
  const [first = '', ...others] = clauses(message)
  return message.length <= CELL_CHARACTERS || others.length === 0 ? clauses(message).join('; ') : `${first}; …`
}

async function eventsOf(client: Client, object: MctlObject): Promise<Block> {
  const rows = await listRows(client, { kind: 'Event', fieldSelector: `involvedObject.uid=${object.metadata.uid}` })
  const table = rows.items.length === 0 ? '' : eventTable(byTime(rows), {})
  return { shape: 'Table', title: 'Events', table, none: true }
}
