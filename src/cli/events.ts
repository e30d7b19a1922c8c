/** `mctl events`: what happened, oldest first, of all or of one object. */
import type { Event } from '../api/records.ts'
import type { Cli } from './context.ts'
import { CliError, targetsOf, withClient } from './context.ts'
import { get } from './get.ts'
import { formatTable } from './table.ts'

export interface EventsFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly for?: string
  readonly types?: string
  readonly watch?: boolean
  readonly headers?: boolean
}

export async function events(cli: Cli, flags: EventsFlags): Promise<number> {
  const selector = flags.for === undefined ? undefined : objectSelector(flags.for)
  if (flags.watch)
    return get(cli, ['events'], { ...flags, ...(selector === undefined ? {} : { fieldSelector: selector }) })
  return withClient(cli, flags.server, async (client) => {
    const types = flags.types?.split(',').map((type) => type.toLowerCase())
    const namespace = flags.namespace ?? 'default'
    const reply = await client.list({
      kind: 'Event',
      table: true,
      ...(flags.allNamespaces ? {} : { namespace }),
      ...(selector === undefined ? {} : { fieldSelector: selector }),
    })
    const shown = (reply.items as readonly Event[])
      .map((event, i) => ({ event, cells: reply.rows?.[i]?.cells ?? [] }))
      .filter(({ event }) => types === undefined || types.includes(event.type.toLowerCase()))
      .sort((a, b) =>
        a.event.lastTimestamp < b.event.lastTimestamp ? -1 : a.event.lastTimestamp > b.event.lastTimestamp ? 1 : 0,
      )
    if (shown.length === 0)
      cli.terminal.err(flags.allNamespaces ? 'No events found.\n' : `No events found in ${namespace} namespace.\n`)
    else
      cli.terminal.out(
        eventTable(
          reply.columns ?? [],
          shown.map(({ cells }) => cells),
          flags.headers !== false,
        ),
      )
    return 0
  })
}

/** Only the default columns: the message is last and may be as long as it likes. */
export function eventTable(
  columns: readonly { name: string; priority: number }[],
  rows: readonly (readonly string[])[],
  header: boolean,
): string {
  const shown = columns.flatMap((column, i) => (column.priority === 0 ? [i] : []))
  const pick = (cells: readonly string[]) => shown.map((i) => cells[i] ?? '')
  return formatTable(header ? pick(columns.map((c) => c.name)) : undefined, rows.map(pick))
}

function objectSelector(word: string): string {
  const [target] = targetsOf([word])
  if (target?.name === undefined) throw new CliError('--for must be in TYPE/NAME form')
  return `involvedObject.kind=${target.kind},involvedObject.name=${target.name}`
}
