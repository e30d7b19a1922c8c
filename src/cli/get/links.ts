/** `mctl get links`: a view of the links in the Nodes, one line each, with what they carry and how that is known. */
import { ageSince } from '../../api/age.ts'
import { findLinkClass } from '../../api/hardware.ts'
import type { Node, NodeLink } from '../../api/node.ts'
import { linkSpeed } from '../../planner/placement/links.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import type { Output } from '../printers/output.ts'
import { formatTable } from '../printers/table.ts'
import type { GetFlags } from './flags.ts'

/** One link as the node at one end has it. */
export interface LinkRow extends NodeLink {
  readonly from: string
  /** measured: by the agents of both ends; assumed: what its type is known for; failed: the peer was not reached. */
  readonly source: 'measured' | 'assumed' | 'failed'
}

export const linkRows = (nodes: readonly Node[]): readonly LinkRow[] =>
  nodes.flatMap(({ metadata, status }) =>
    (status?.links ?? []).map((link) => ({ from: metadata.name, ...link, source: sourceOf(link) })),
  )

const sourceOf = ({ failure, measuredAt, bandwidthGBps }: NodeLink): LinkRow['source'] =>
  failure !== undefined ? 'failed' : measuredAt !== undefined || bandwidthGBps !== undefined ? 'measured' : 'assumed'

const HEADER = ['FROM', 'TO', 'TYPE', 'ADDRESS', 'BANDWIDTH', 'LATENCY', 'AGE', 'SOURCE']
const WIDE = ['TRANSPORT', 'OWN ADDRESS', 'ALL-REDUCE', 'HOP', 'FAILURE', 'NOT MEASURED']

/** The lines of the table, a cell for each column. */
export function linkCells(row: LinkRow, nowMs: number, wide: boolean): readonly string[] {
  const { from, peer, type, transport, address = '<none>', peerAddress = '<none>', source } = row
  const { bandwidthGBps, latencyMicros, measuredAt, failure = '', notMeasured = '' } = row
  const known = findLinkClass(type, transport)
  const cells = [
    ...[from, peer, type, peerAddress],
    source === 'failed' ? '<none>' : `${bandwidthGBps ?? known.bandwidthGBps} GB/s`,
    latencyMicros === undefined ? '<none>' : micros(latencyMicros),
    measuredAt === undefined ? '<none>' : ageSince(measuredAt, nowMs),
    source,
  ]
  if (!wide) return cells
  return [...cells, transport, address, ...engineCells(row), failure, notMeasured]
}

/** What plans take for ranks of mlx: `~` before a figure that no engine was measured with. */
function engineCells(link: LinkRow): readonly string[] {
  const speed = linkSpeed(link, link.transport === 'RDMA' ? 'Jaccl' : 'Ring')
  if (speed === undefined) return ['<none>', '<none>']
  const cell = (measured: number | undefined, seconds: number) =>
    measured === undefined ? `~${micros(Math.round(seconds * 1e6))}` : micros(measured)
  return [cell(link.allReduceMicros, speed.allReduceSeconds), cell(link.hopMicros, speed.hopSeconds)]
}

const micros = (value: number): string => `${value} µs`

export async function getLinks(cli: Cli, names: readonly string[], flags: GetFlags, output: Output): Promise<number> {
  if (output.form === 'Name' || output.form === 'Columns' || flags.watch === true || flags.watchOnly === true)
    throw new CliError('get links is a view of nodes: it takes -o wide, json, yaml or jsonpath, and no --watch')
  return withClient(cli, flags.server, async (client) => {
    const rows = linkRows(await nodesOf(client, names, flags))
    if (output.form === 'Text') cli.terminal.out(output.print({ kind: 'List', items: rows }))
    else if (rows.length === 0) cli.terminal.err(NONE)
    else {
      const cells = rows.map((row) => linkCells(row, cli.clock.nowMs(), output.wide))
      cli.terminal.out(
        formatTable(flags.headers === false ? undefined : output.wide ? [...HEADER, ...WIDE] : HEADER, cells),
      )
    }
    return 0
  })
}

const NONE =
  'No links found: nodes whose agents report no ports (`--simulate`, or one machine alone) are taken to share 1 GbE.\n'

async function nodesOf(client: Client, names: readonly string[], { selector }: GetFlags): Promise<readonly Node[]> {
  if (names.length > 0) {
    if (selector !== undefined) throw new CliError('name cannot be provided when a selector is specified')
    const found = names.map((name) => client.get({ ref: { kind: 'Node', namespace: '', name } }))
    return (await Promise.all(found)).map(({ object }) => object as unknown as Node)
  }
  const { items } = await client.list({ kind: 'Node', ...(selector === undefined ? {} : { labelSelector: selector }) })
  return items as unknown as readonly Node[]
}
