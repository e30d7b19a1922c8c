/** The objects that `mctl get` is about, with the rows that the server made of them. */
import type { KindName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { Event } from '../../api/records.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, ListReply, ListRequest, TableColumn, TableRow } from '../../rpc/messages.ts'
import { CliError } from '../context.ts'
import type { Failure } from '../errors.ts'
import { failureOf } from '../errors.ts'
import type { Target } from '../targets.ts'
import { refOf } from '../targets.ts'
import type { GetFlags } from './flags.ts'
import { selectionOf } from './flags.ts'

/** Objects of one kind, and one row of cells for each. */
export interface Rows {
  readonly items: readonly MctlObject[]
  readonly rows: readonly TableRow[]
  readonly columns: readonly TableColumn[]
}

export interface Fetched extends Rows {
  readonly kind: KindName
  /** Names that were not found. */
  readonly failures: readonly Failure[]
}

/** One group a kind, in the order in which the kinds were named; with a name, only the named ones. */
export async function fetchAll(
  client: Client,
  targets: readonly Target[],
  flags: GetFlags,
): Promise<readonly Fetched[]> {
  const groups = new Map<KindName, Target[]>()
  for (const target of targets) groups.set(target.kind, [...(groups.get(target.kind) ?? []), target])
  return Promise.all(
    [...groups].map(([kind, group]) =>
      group.some(({ name }) => name === undefined)
        ? fetchKind(client, kind, flags)
        : fetchNamed(client, kind, group, flags),
    ),
  )
}

async function fetchKind(client: Client, kind: KindName, flags: GetFlags): Promise<Fetched> {
  const limit = chunkSizeOf(flags.chunkSize)
  const rows = await listRows(client, { ...selectionOf(kind, flags), ...(limit === 0 ? {} : { limit }) })
  return { ...(kind === 'Event' ? byTime(rows) : rows), kind, failures: [] }
}

function chunkSizeOf(text = '500'): number {
  const size = Number(text)
  if (text.trim() === '' || !Number.isInteger(size) || size < 0)
    throw new CliError(`--chunk-size must be an integer greater than or equal to 0, not "${text}"`)
  return size
}

/** A list with its rows, page by page until there is no more. */
export async function listRows(client: Client, request: ListRequest): Promise<Rows> {
  const pages: ListReply[] = []
  let continueToken: string | undefined
  do {
    const page = await client.list({
      ...request,
      table: true,
      ...(continueToken === undefined ? {} : { continueToken }),
    })
    pages.push(page)
    continueToken = page.continueToken
  } while (continueToken !== undefined)
  return {
    items: pages.flatMap(({ items }) => items),
    rows: pages.flatMap(({ rows = [] }) => rows),
    columns: pages[0]?.columns ?? [],
  }
}

async function fetchNamed(
  client: Client,
  kind: KindName,
  targets: readonly Target[],
  flags: GetFlags,
): Promise<Fetched> {
  const items: MctlObject[] = []
  const rows: TableRow[] = []
  const failures: Failure[] = []
  let columns: readonly TableColumn[] = []
  for (const { name = '', namespace = flags.namespace } of targets) {
    try {
      const reply = await client.get({ ref: refOf(kind, name, namespace), table: true })
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

/** In another order; each row stays with its object. */
export const reordered = <T extends Rows>(rows: T, order: readonly number[]): T => ({
  ...rows,
  items: order.flatMap((i) => rows.items[i] ?? []),
  rows: order.flatMap((i) => rows.rows[i] ?? []),
})

/** Events are read as a story: the last one is the newest. */
export function byTime<T extends Rows>(rows: T): T {
  const order = (rows.items as readonly Event[])
    .map((event, index) => ({ event, index }))
    .sort((a, b) => compare(a.event.lastTimestamp, b.event.lastTimestamp) || compareByStart(a.event, b.event))
    .map(({ index }) => index)
  return reordered(rows, order)
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Timestamps are whole seconds; within one the order of writing decides. */
const compareByStart = (a: Event, b: Event): number =>
  Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion)
