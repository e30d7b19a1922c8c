/** `mctl get -w`: the list as a table, then a line for each change, until SIGINT. */
import type { MctlObject } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, TableColumn, TableRow, WatchEvent } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { GetFlags } from './get.ts'
import { byTime, isTable, nameOf, selectionOf, viewOf } from './get.ts'
import { render, withoutManagers } from '../printers/render.ts'
import { GrowingTable } from '../printers/table.ts'
import type { Target } from '../targets.ts'
import { refOf } from '../targets.ts'

type Change = Extract<WatchEvent, { object: MctlObject }>

/** `shows` picks further than selectors can. A watch that expired lists anew by itself. */
export async function watch(
  cli: Cli,
  client: Client,
  targets: readonly Target[],
  flags: GetFlags,
  shows: (object: MctlObject) => boolean = () => true,
): Promise<number> {
  const kind = targets[0]?.kind
  if (kind === undefined || targets.some((t) => t.kind !== kind))
    throw new CliError('you may only specify a single resource type')
  const names = targets.flatMap((t) => t.name ?? [])
  for (const name of names) await client.get({ ref: refOf(kind, name, flags.namespace) })
  const printer = new WatchPrinter(cli, kind, flags)
  const isShown = (object: MctlObject) => (names.length === 0 || names.includes(object.metadata.name)) && shows(object)
  let resume: { resourceVersion?: string; incarnation?: string } = {}
  while (!cli.signal.aborted) {
    try {
      for await (const event of client.watch(
        { ...selectionOf(kind, flags), table: true, ...resume },
        { signal: cli.signal },
      )) {
        if (event.type === 'HEADER') resume = { ...resume, incarnation: event.incarnation }
        else resume = { ...resume, resourceVersion: event.resourceVersion }
        if (!('object' in event) || isShown(event.object)) printer.on(event)
      }
    } catch (error) {
      if (cli.signal.aborted) break
      if (!isOpError(error, 'Expired')) throw error
      resume = {}
    }
  }
  return 0
}

/** Holds the initial objects back until all are there: then the columns' widths are known. */
class WatchPrinter {
  readonly #cli: Cli
  readonly #kind: Target['kind']
  readonly #flags: GetFlags
  #columns: readonly TableColumn[] = []
  #initial: Change[] | undefined = []
  #table: GrowingTable | undefined

  constructor(cli: Cli, kind: Target['kind'], flags: GetFlags) {
    this.#cli = cli
    this.#kind = kind
    this.#flags = flags
  }

  on(event: WatchEvent): void {
    if (event.type === 'HEADER') this.#columns = event.columns ?? this.#columns
    else if (event.type === 'BOOKMARK') this.#onBookmark(event.initialEventsEnd)
    else if (this.#initial !== undefined) this.#initial.push(event)
    else this.#print([event])
  }

  #onBookmark(initialEventsEnd: boolean): void {
    if (!initialEventsEnd || this.#initial === undefined) return
    const initial = this.#initial
    this.#initial = undefined
    this.#print(this.#kind === 'Event' ? inOrder(initial) : initial)
  }

  #print(changes: readonly Change[]): void {
    const { out } = this.#cli.terminal
    if (!isTable(this.#flags)) return changes.forEach(({ object }) => out(this.#textOf(object)))
    if (changes.length === 0) return
    const view = viewOf(this.#kind, this.#columns, this.#flags)
    const rows = changes.map(({ object, row }) => view.cells(object, row))
    this.#table ??= new GrowingTable(this.#flags.headers === false ? undefined : view.header)
    out(this.#table.lines(rows))
  }

  #textOf(object: MctlObject): string {
    const { output, showManagedFields } = this.#flags
    if (output === 'name') return `${nameOf(object)}\n`
    const text = render(showManagedFields ? object : withoutManagers(object), output ?? '')
    return output === 'yaml' ? `---\n${text}` : text
  }
}

function inOrder(changes: readonly Change[]): readonly Change[] {
  const noRow: TableRow = { cells: [] }
  const { items, rows } = byTime({
    items: changes.map(({ object }) => object),
    rows: changes.map(({ row }) => row ?? noRow),
  })
  return items.map((object, i) => ({
    type: 'ADDED',
    object,
    resourceVersion: object.metadata.resourceVersion,
    row: rows[i] ?? noRow,
  }))
}
