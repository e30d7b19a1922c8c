/** `mctl events`: what happened, oldest first, of all or of one object. */
import type { MctlObject } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { Event } from '../../api/records.ts'
import type { ListReply } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { byTime, selectionOf, viewOf } from './get.ts'
import { formatTable } from '../printers/table.ts'
import { targetsOf } from '../targets.ts'
import { watch } from './watch.ts'

export interface EventsFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly for?: string
  readonly types?: string
  readonly watch?: boolean
  readonly headers?: boolean
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
    .addHelpText('after', examples('mctl events --for md/smollm2-pipeline', 'mctl events --types Warning'))
    .action(async (flags: EventsFlags) => done(await events(cli, flags)))
}

export async function events(cli: Cli, flags: EventsFlags): Promise<number> {
  const shows = typeFilter(flags.types)
  const selected = { ...flags, ...(flags.for === undefined ? {} : { fieldSelector: objectSelector(flags.for) }) }
  return withClient(cli, flags.server, async (client) => {
    if (flags.watch) return watch(cli, client, [{ kind: 'Event', name: undefined }], selected, shows)
    const reply = await client.list({ ...selectionOf('Event', selected), table: true })
    const shown = {
      ...reply,
      items: reply.items.filter(shows),
      rows: (reply.rows ?? []).filter((_, i) => shows(reply.items[i] as MctlObject)),
    }
    if (shown.items.length === 0) cli.terminal.err(noneText(flags))
    else cli.terminal.out(eventTable(shown, flags))
    return 0
  })
}

const noneText = (flags: EventsFlags) =>
  flags.allNamespaces ? 'No events found.\n' : `No events found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.\n`

/** Oldest first. Only the default columns: the message is last and may be as long as it likes. */
export function eventTable(
  reply: Pick<ListReply, 'items' | 'rows' | 'columns'>,
  flags: Pick<EventsFlags, 'allNamespaces' | 'headers'>,
): string {
  const sorted = byTime(reply)
  const view = viewOf('Event', reply.columns ?? [], flags)
  const rows = sorted.items.map((item, i) => view.cells(item, sorted.rows?.[i]))
  return formatTable(flags.headers === false ? undefined : view.header, rows)
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
