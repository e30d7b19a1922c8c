/** `mctl get`: tables that the server renders, or the objects themselves; `-w` goes on with each change. */
import type { KindName } from '../../api/kinds.ts'
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { Event } from '../../api/records.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, ListReply, Selection, TableColumn, TableRow } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import type { Failure } from '../errors.ts'
import { failureOf, tell } from '../errors.ts'
import { render, withoutManagers } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'
import type { Target } from '../targets.ts'
import { refOf, targetsOf } from '../targets.ts'
import { watch } from './watch.ts'

export interface GetFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly output?: string
  readonly watch?: boolean
  readonly selector?: string
  readonly fieldSelector?: string
  readonly headers?: boolean
  readonly ignoreNotFound?: boolean
  readonly showManagedFields?: boolean
}

const formats = ['wide', 'yaml', 'json', 'name']

export const defineGet: Define = (command, cli, done) => {
  command
    .argument('[types...]')
    .usage('(TYPE[,TYPE] [NAME...] | TYPE/NAME...) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-o, --output <format>', 'wide, yaml, json or name')
    .option('-w, --watch', 'go on with each change')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. chip=m4')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. spec.nodeName=mini-1')
    .option('--no-headers', 'without the header line')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--show-managed-fields', 'also who owns which field, with -o yaml or json')
    .addHelpText(
      'after',
      examples('mctl get nodes', 'mctl get md,sg,shards -o wide', 'mctl get md/smollm2-pipeline -o yaml'),
    )
    .action(async (words: string[], flags: GetFlags) => done(await get(cli, words, flags)))
}

export async function get(cli: Cli, words: readonly string[], flags: GetFlags): Promise<number> {
  if (flags.output !== undefined && !formats.includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: ${formats.join(',')}`,
    )
  const targets = targetsOf(words, 'get')
  if (targets.some((target) => target.name !== undefined)) checkNamed(flags)
  return withClient(cli, flags.server, async (client) => {
    if (flags.watch) return watch(cli, client, targets, flags)
    const fetched = await Promise.all(groupByKind(targets).map((group) => fetchGroup(client, group, flags)))
    const failures = fetched.flatMap((group) => group.failures)
    if (isTable(flags)) printTables(cli, fetched, flags)
    else printObjects(cli, fetched, targets, flags)
    for (const failure of failures) tell(cli, failure)
    return failures.length > 0 ? 1 : 0
  })
}

function checkNamed(flags: GetFlags): void {
  if (flags.selector !== undefined || flags.fieldSelector !== undefined)
    throw new CliError('name cannot be provided when a selector is specified')
  if (flags.allNamespaces) throw new CliError('a resource cannot be retrieved by name across all namespaces')
}

export const isTable = (flags: GetFlags): boolean => flags.output === undefined || flags.output === 'wide'

interface Group {
  readonly kind: KindName
  readonly names: readonly string[] | undefined
}
interface Fetched extends Pick<ListReply, 'items' | 'rows' | 'columns'> {
  readonly kind: KindName
  /** Names that were not found. */
  readonly failures: readonly Failure[]
}

function groupByKind(targets: readonly Target[]): readonly Group[] {
  const groups = new Map<KindName, string[] | undefined>()
  for (const { kind, name } of targets) {
    const names = groups.get(kind) ?? []
    if (name !== undefined) names.push(name)
    groups.set(kind, name === undefined ? undefined : names)
  }
  return [...groups].map(([kind, names]) => ({ kind, names }))
}

export const selectionOf = (kind: KindName, flags: GetFlags): Selection => ({
  kind,
  ...(kinds[kind].namespaced && !flags.allNamespaces ? { namespace: flags.namespace ?? DEFAULT_NAMESPACE } : {}),
  ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
  ...(flags.fieldSelector === undefined ? {} : { fieldSelector: flags.fieldSelector }),
})

async function fetchGroup(client: Client, { kind, names }: Group, flags: GetFlags): Promise<Fetched> {
  if (names === undefined) {
    const reply = await client.list({ ...selectionOf(kind, flags), table: true })
    return { ...(kind === 'Event' ? byTime(reply) : reply), kind, failures: [] }
  }
  const items: MctlObject[] = []
  const rows: TableRow[] = []
  const failures: Failure[] = []
  let columns: readonly TableColumn[] = []
  for (const name of names) {
    try {
      const reply = await client.get({ ref: refOf(kind, name, flags.namespace), table: true })
      items.push(reply.object)
      rows.push(reply.row ?? { cells: [] })
      columns = reply.columns ?? columns
    } catch (error) {
      if (!isOpError(error, 'NotFound')) throw error
      if (!flags.ignoreNotFound) failures.push(failureOf(error))
    }
  }
  return { kind, items, rows, columns, failures }
}

/** Events are read as a story: the last one is the newest. */
export function byTime<Reply extends Pick<ListReply, 'items' | 'rows'>>(reply: Reply): Reply {
  const order = (reply.items as readonly Event[])
    .map((event, index) => ({ event, index }))
    .sort((a, b) => compare(a.event.lastTimestamp, b.event.lastTimestamp) || compareByStart(a.event, b.event))
    .map(({ index }) => index)
  return {
    ...reply,
    items: order.flatMap((i) => reply.items[i] ?? []),
    ...(reply.rows === undefined ? {} : { rows: order.flatMap((i) => reply.rows?.[i] ?? []) }),
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Timestamps are whole seconds; within one the order of writing decides. */
const compareByStart = (a: Event, b: Event): number =>
  Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion)

function printObjects(cli: Cli, fetched: readonly Fetched[], targets: readonly Target[], flags: GetFlags): void {
  const output = flags.output ?? ''
  const items = fetched.flatMap((group) => group.items)
  if (output === 'name') {
    for (const item of items) cli.terminal.out(`${nameOf(item)}\n`)
    return
  }
  const shown = flags.showManagedFields ? items : items.map(withoutManagers)
  const single = targets.length === 1 && targets[0]?.name !== undefined
  const value = single ? shown[0] : { apiVersion: 'v1', kind: 'List', metadata: {}, items: shown }
  if (value !== undefined) cli.terminal.out(render(value, output))
}

export const nameOf = (object: MctlObject) => qualifiedName(object.kind as KindName, object.metadata.name)

function printTables(cli: Cli, fetched: readonly Fetched[], flags: GetFlags): void {
  const filled = fetched.filter((group) => group.items.length > 0)
  const missing = fetched.some((group) => group.failures.length > 0)
  if (filled.length === 0 && !missing && !flags.ignoreNotFound) return cli.terminal.err(emptyText(fetched, flags))
  filled.forEach((group, i) => {
    const view = viewOf(group.kind, group.columns ?? [], flags, filled.length > 1)
    const rows = group.items.map((item, r) => view.cells(item, group.rows?.[r]))
    cli.terminal.out((i > 0 ? '\n' : '') + formatTable(flags.headers === false ? undefined : view.header, rows))
  })
}

function emptyText(fetched: readonly Fetched[], flags: GetFlags): string {
  const inNamespace = fetched.some(({ kind }) => kinds[kind].namespaced) && !flags.allNamespaces
  return inNamespace
    ? `No resources found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.\n`
    : 'No resources found\n'
}

export interface TableView {
  readonly header: readonly string[]
  cells(item: MctlObject, row: TableRow | undefined): readonly string[]
}

/** The columns that are shown, NAMESPACE first with -A; `showKind` writes TYPE/NAME where several types are shown. */
export function viewOf(kind: KindName, columns: readonly TableColumn[], flags: GetFlags, showKind = false): TableView {
  const shown = columns
    .map((column, index) => ({ ...column, index }))
    .filter(({ priority }) => priority === 0 || flags.output === 'wide')
  const withNamespace = flags.allNamespaces === true && kinds[kind].namespaced
  const cellOf = (row: TableRow | undefined, { name, index }: { name: string; index: number }) => {
    const cell = row?.cells[index] ?? ''
    return showKind && name === 'NAME' ? qualifiedName(kind, cell) : cell
  }
  return {
    header: [...(withNamespace ? ['NAMESPACE'] : []), ...shown.map(({ name }) => name)],
    cells: (item, row) => [
      ...(withNamespace ? [item.metadata.namespace ?? ''] : []),
      ...shown.map((column) => cellOf(row, column)),
    ],
  }
}
