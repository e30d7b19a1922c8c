/** `mctl get -w`: the list as a table, then a line for each change, until SIGINT. */
import type { MctlObject } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, TableColumn, TableRow, WatchEvent } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { Output } from '../printers/output.ts'
import { withoutManagers } from '../printers/render.ts'
import { GrowingTable } from '../printers/table.ts'
import type { Target } from '../targets.ts'
import { refOf } from '../targets.ts'
import { byTime } from './fetch.ts'
import type { GetFlags } from './flags.ts'
import { selectionOf } from './flags.ts'
import { nameOf } from './get.ts'
import { viewOf } from './view.ts'

type Change = Extract<WatchEvent, { object: MctlObject }>

/** `shows` picks further than selectors can. A watch that expired lists anew by itself. */
export async function watch(
  cli: Cli,
  client: Client,
  targets: readonly Target[],
  flags: GetFlags,
  output: Output,
  shows: (object: MctlObject) => boolean = () => true,
): Promise<number> {
  const kind = targets[0]?.kind
  if (kind === undefined || targets.some((t) => t.kind !== kind))
    throw new CliError('you may only specify a single resource type')
  const names = targets.flatMap((t) => t.name ?? [])
  for (const name of names) await client.get({ ref: refOf(kind, name, flags.namespace) })
  const printer = new WatchPrinter(cli, kind, flags, output)
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
  readonly #output: Output
  #columns: readonly TableColumn[] = []
  #initial: Change[] | undefined = []
  #table: GrowingTable | undefined

  constructor(cli: Cli, kind: Target['kind'], flags: GetFlags, output: Output) {
    this.#cli = cli
    this.#kind = kind
    this.#flags = flags
    this.#output = output
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
    if (this.#flags.watchOnly) return
    this.#print(this.#kind === 'Event' ? inOrder(initial) : initial)
  }

  #print(changes: readonly Change[]): void {
    const { out } = this.#cli.terminal
    const output = this.#output
    if (output.form === 'Name') return changes.forEach(({ object }) => out(`${nameOf(object)}\n`))
    if (output.form === 'Text') return changes.forEach((change) => out(this.#textOf(change, output)))
    if (changes.length === 0) return
    const view =
      output.form === 'Columns'
        ? output.columns
        : viewOf(this.#kind, this.#columns, { ...this.#flags, wide: output.wide })
    const withType = this.#flags.outputWatchEvents === true
    const header = withType ? ['EVENT', ...view.header] : view.header
    const rows = changes.map(({ type, object, row }) => [...(withType ? [type] : []), ...view.cells(object, row)])
    this.#table ??= new GrowingTable(this.#flags.headers === false ? undefined : header)
    out(this.#table.lines(rows))
  }

  #textOf({ type, object }: Change, { print }: Extract<Output, { form: 'Text' }>): string {
    const shown = this.#flags.showManagedFields ? object : withoutManagers(object)
    const text = print(this.#flags.outputWatchEvents ? { type, object: shown } : shown)
    return this.#flags.output === 'yaml' ? `---\n${text}` : text
  }
}

function inOrder(changes: readonly Change[]): readonly Change[] {
  const noRow: TableRow = { cells: [] }
  const { items, rows } = byTime({
    items: changes.map(({ object }) => object),
    rows: changes.map(({ row }) => row ?? noRow),
    columns: [],
  })
  return items.map((object, i) => ({
    type: 'ADDED',
    object,
    resourceVersion: object.metadata.resourceVersion,
    row: rows[i] ?? noRow,
  }))
}
