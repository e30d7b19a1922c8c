/** `mctl get`: tables that the server renders, or the objects themselves; `-w` goes on with each change. */
import { stringify } from 'yaml'
import type { KindName } from '../api/kinds.ts'
import { kinds, qualifiedName } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import { isOpError } from '../lib/errors.ts'
import type { Client, ListReply, TableColumn, TableRow, WatchEvent } from '../rpc/messages.ts'
import type { Cli, Target } from './context.ts'
import { CliError, refOf, targetsOf, withClient } from './context.ts'
import { formatLine, formatTable } from './table.ts'

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
}

const formats = ['wide', 'yaml', 'json', 'name']

export async function get(cli: Cli, words: readonly string[], flags: GetFlags): Promise<number> {
  if (flags.output !== undefined && !formats.includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: ${formats.join(',')}`,
    )
  const targets = targetsOf(words)
  return withClient(cli, flags.server, async (client) => {
    if (flags.watch) return watch(cli, client, targets, flags)
    const replies = await Promise.all(groupByKind(targets).map((group) => fetchGroup(client, group, flags)))
    if (flags.output !== undefined && flags.output !== 'wide') printObjects(cli, replies, targets, flags.output)
    else printTables(cli, replies, flags)
    return 0
  })
}

interface Group {
  readonly kind: KindName
  readonly names: readonly string[] | undefined
}
interface Fetched extends ListReply {
  readonly kind: KindName
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

const selectionOf = (kind: KindName, flags: GetFlags) => ({
  kind,
  ...(kinds[kind].namespaced && !flags.allNamespaces ? { namespace: flags.namespace ?? DEFAULT_NAMESPACE } : {}),
  ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
  ...(flags.fieldSelector === undefined ? {} : { fieldSelector: flags.fieldSelector }),
})

async function fetchGroup(client: Client, group: Group, flags: GetFlags): Promise<Fetched> {
  const { kind, names } = group
  if (names === undefined) return { ...(await client.list({ ...selectionOf(kind, flags), table: true })), kind }
  const items: MctlObject[] = []
  const rows: TableRow[] = []
  let columns: readonly TableColumn[] = []
  for (const name of names) {
    const reply = await client.get({ ref: refOf(kind, name, flags.namespace), table: true }).catch((error: unknown) => {
      if (flags.ignoreNotFound && isOpError(error, 'NotFound')) return undefined
      throw error
    })
    if (reply === undefined) continue
    items.push(reply.object)
    rows.push(reply.row ?? { cells: [] })
    columns = reply.columns ?? columns
  }
  return { kind, items, rows, columns, resourceVersion: '', incarnation: '' }
}

function printObjects(cli: Cli, replies: readonly Fetched[], targets: readonly Target[], output: string): void {
  const items = replies.flatMap((reply) => reply.items)
  if (output === 'name') {
    for (const item of items) cli.terminal.out(`${nameOf(item)}\n`)
    return
  }
  const single = targets.length === 1 && targets[0]?.name !== undefined
  const value = single ? items[0] : { apiVersion: 'v1', kind: 'List', metadata: {}, items }
  if (value !== undefined) cli.terminal.out(render(value, output))
}

const nameOf = (object: MctlObject) => qualifiedName(object.kind as KindName, object.metadata.name)

export const render = (value: unknown, output: string): string =>
  output === 'json'
    ? `${JSON.stringify(value, null, 2)}\n`
    : stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })

function printTables(cli: Cli, replies: readonly Fetched[], flags: GetFlags): void {
  const filled = replies.filter((reply) => reply.items.length > 0)
  if (filled.length === 0 && !flags.ignoreNotFound) return cli.terminal.err(emptyText(replies, flags))
  filled.forEach((reply, i) => {
    const table = tableOf(reply, flags, filled.length > 1)
    cli.terminal.out((i > 0 ? '\n' : '') + formatTable(flags.headers === false ? undefined : table.header, table.rows))
  })
}

function emptyText(replies: readonly Fetched[], flags: GetFlags): string {
  const inNamespace = replies.some((r) => kinds[r.kind].namespaced) && !flags.allNamespaces
  return inNamespace
    ? `No resources found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.\n`
    : 'No resources found\n'
}

function tableOf(reply: Fetched, flags: GetFlags, showKind: boolean) {
  const shown = visible(reply.columns ?? [], flags)
  const withNamespace = flags.allNamespaces && kinds[reply.kind].namespaced
  const rowOf = (item: MctlObject, row: TableRow | undefined) =>
    cellsOf(item, row, shown, withNamespace === true, showKind ? `${kinds[reply.kind].singular}.mctl.dev/` : '')
  return {
    header: [...(withNamespace ? ['NAMESPACE'] : []), ...shown.map(({ column }) => column.name)],
    rows: reply.items.map((item, i) => rowOf(item, reply.rows?.[i])),
  }
}

const visible = (columns: readonly TableColumn[], flags: GetFlags) =>
  columns
    .map((column, index) => ({ column, index }))
    .filter(({ column }) => column.priority === 0 || flags.output === 'wide')

function cellsOf(
  item: MctlObject,
  row: TableRow | undefined,
  shown: readonly { index: number }[],
  withNamespace: boolean,
  prefix: string,
): string[] {
  const cells = shown.map(({ index }) => row?.cells[index] ?? '')
  if (prefix !== '') cells[0] = prefix + (cells[0] ?? '')
  return withNamespace ? [item.metadata.namespace ?? '', ...cells] : cells
}

/** The list as a table, then a line for each change, until SIGINT. A watch that expired lists anew by itself. */
async function watch(cli: Cli, client: Client, targets: readonly Target[], flags: GetFlags): Promise<number> {
  const kind = targets[0]?.kind
  if (kind === undefined || targets.some((t) => t.kind !== kind))
    throw new CliError('you may only specify a single resource type with --watch')
  const names = targets.flatMap((t) => t.name ?? [])
  const printer = watchPrinter(cli, flags)
  let resume: { resourceVersion?: string; incarnation?: string } = {}
  while (!cli.signal.aborted) {
    try {
      for await (const event of client.watch(
        { ...selectionOf(kind, flags), table: true, ...resume },
        { signal: cli.signal },
      )) {
        if (event.type === 'HEADER') resume = { ...resume, incarnation: event.incarnation }
        else resume = { ...resume, resourceVersion: event.resourceVersion }
        if (!('object' in event) || names.length === 0 || names.includes(event.object.metadata.name)) printer(event)
      }
    } catch (error) {
      if (cli.signal.aborted) break
      if (!isOpError(error, 'Expired')) throw error
      resume = {}
    }
  }
  return 0
}

function watchPrinter(cli: Cli, flags: GetFlags): (event: WatchEvent) => void {
  let columns: readonly TableColumn[] = []
  let widths: number[] = []
  let initial: { item: MctlObject; row: TableRow | undefined }[] | undefined = []
  const lineCells = (item: MctlObject, row: TableRow | undefined) =>
    cellsOf(item, row, visible(columns, flags), flags.allNamespaces === true, '')
  const flush = () => {
    const header = [
      ...(flags.allNamespaces ? ['NAMESPACE'] : []),
      ...visible(columns, flags).map(({ column }) => column.name),
    ]
    const rows = (initial ?? []).map(({ item, row }) => lineCells(item, row))
    widths = header.map((title, i) => Math.max(title.length, ...rows.map((cells) => (cells[i] ?? '').length)))
    initial = undefined
    for (const cells of flags.headers === false ? rows : [header, ...rows]) cli.terminal.out(formatLine(cells, widths))
  }
  return (event) => {
    if (event.type === 'HEADER') columns = event.columns ?? columns
    else if (event.type === 'BOOKMARK') {
      if (event.initialEventsEnd && initial !== undefined && plain(flags)) flush()
    } else if (!plain(flags))
      cli.terminal.out(
        flags.output === 'name'
          ? `${nameOf(event.object)}\n`
          : separated(render(event.object, flags.output ?? ''), flags),
      )
    else if (initial === undefined) cli.terminal.out(formatLine(lineCells(event.object, event.row), widths))
    else initial.push({ item: event.object, row: event.row })
  }
}

const plain = (flags: GetFlags) => flags.output === undefined || flags.output === 'wide'
const separated = (text: string, flags: GetFlags) => (flags.output === 'yaml' ? `---\n${text}` : text)
