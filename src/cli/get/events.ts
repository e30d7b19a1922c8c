/** `mctl events`: what happened, oldest first, of all or of one object. */
import type { MctlObject } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { Event } from '../../api/records.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { outputOf } from '../printers/output.ts'
import { withoutManagers } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'
import { targetsOf } from '../targets.ts'
import type { Rows } from './fetch.ts'
import { byTime, listRows, reordered } from './fetch.ts'
import { selectionOf } from './flags.ts'
import { nameOf } from './get.ts'
import type { ViewFlags } from './view.ts'
import { viewOf } from './view.ts'
import { watch } from './watch.ts'

export interface EventsFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly for?: string
  readonly types?: string
  readonly watch?: boolean
  readonly headers?: boolean
  readonly output?: string
}

export const defineEvents: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('--for <type/name>', 'only of this object')
    .option('--types <Normal,Warning>', 'only of these types')
    .option('-w, --watch', 'go on with each new event')
    .option('--no-headers', 'without the header line')
    .option('-o, --output <format>', 'wide, yaml, json, name, jsonpath=…, custom-columns=…')
    .addHelpText('after', examples('mctl events --for md/smollm2-pipeline', 'mctl events --types Warning'))
    .action(async (flags: EventsFlags) => done(await events(cli, flags)))
}

export async function events(cli: Cli, flags: EventsFlags): Promise<number> {
  const shows = typeFilter(flags.types)
  const output = await outputOf(cli, flags.output)
  const selected = { ...flags, ...(flags.for === undefined ? {} : { fieldSelector: objectSelector(flags.for) }) }
  return withClient(cli, flags.server, async (client) => {
    if (flags.watch) return watch(cli, client, [{ kind: 'Event', name: undefined }], selected, output, shows)
    const shown = byTime(chosen(await listRows(client, selectionOf('Event', selected)), shows))
    if (output.form === 'Text')
      cli.terminal.out(
        output.print({ apiVersion: 'v1', kind: 'List', metadata: {}, items: shown.items.map(withoutManagers) }),
      )
    else if (shown.items.length === 0) cli.terminal.err(noneText(flags))
    else if (output.form === 'Name') cli.terminal.out(shown.items.map((item) => `${nameOf(item)}\n`).join(''))
    else if (output.form === 'Columns')
      cli.terminal.out(formatTable(output.columns.header, shown.items.map(output.columns.cells)))
    else cli.terminal.out(eventTable(shown, { ...flags, wide: output.wide }))
    return 0
  })
}

/** Only the objects that are shown, with their rows. */
const chosen = (rows: Rows, shows: (object: MctlObject) => boolean): Rows =>
  reordered(
    rows,
    rows.items.flatMap((item, i) => (shows(item) ? [i] : [])),
  )

const noneText = (flags: EventsFlags) =>
  flags.allNamespaces ? 'No events found.\n' : `No events found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.\n`

/** Oldest first, if the rows are. The message is last, save with -o wide, and may be as long as it likes. */
export function eventTable(rows: Rows, flags: ViewFlags & Pick<EventsFlags, 'headers'>): string {
  const view = viewOf('Event', rows.columns, flags)
  const cells = rows.items.map((item, i) => view.cells(item, rows.rows[i]))
  return formatTable(flags.headers === false ? undefined : view.header, cells)
}

const eventTypes = ['normal', 'warning']

function typeFilter(text: string | undefined): (object: MctlObject) => boolean {
  if (text === undefined) return () => true
  const types = text.split(',').map((type) => type.trim().toLowerCase())
  if (types.some((type) => !eventTypes.includes(type)))
    throw new CliError(`valid --types are Normal and Warning, not "${text}"`)
  return (object) => types.includes((object as Event).type.toLowerCase())
}

function objectSelector(word: string): string {
  const [target] = word.includes('/') ? targetsOf([word], 'events') : []
  if (target?.name === undefined) throw new CliError('--for must be in resource/name form')
  return `involvedObject.kind=${target.kind},involvedObject.name=${target.name}`
}
