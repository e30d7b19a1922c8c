/** `mctl top nodes|models`: what is used and done at this moment. From memory of the server alone: nothing of it is stored. */
import { findKind } from '../../api/kinds.ts'
import type { KindName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import { API_VERSION } from '../../api/meta.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Node } from '../../api/node.ts'
import { ageOf } from '../../api/age.ts'
import { formatBytes } from '../../lib/quantity.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { emptyText, selectionOf } from '../get/flags.ts'
import { unknownForm } from '../printers/output.ts'
import { render } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'
import { refOf } from '../targets.ts'
import type { ModelNumbers, NodeNumbers } from './topnumbers.ts'
import { NO_GATEWAY, modelNumbers, nodeNumbers, remarksOn } from './topnumbers.ts'

interface TopFlags {
  readonly server?: string
  readonly namespace?: string
  readonly allNamespaces?: boolean
  readonly selector?: string
  readonly sortBy?: string
  readonly headers?: boolean
  readonly showCapacity?: boolean
  readonly output?: string
}

interface TopColumn<T> {
  readonly name: string
  readonly text: (row: T) => string
  /** What --sort-by sorts by; absent: the text. */
  readonly value?: (row: T) => number | undefined
}

export const defineTop: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(nodes | models) [NAME...] [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'models of every namespace')
    .option('-l, --selector <labels>', 'only nodes or deployments with these labels')
    .option('--sort-by <column>', 'the largest of a column first, e.g. used, tokens/s')
    .option('--no-headers', 'without the header line')
    .option('--show-capacity', 'what the nodes have, instead of what may be bound')
    .option('-o, --output <format>', 'json or yaml')
    .addHelpText('after', examples('mctl top nodes', 'mctl top nodes --sort-by=used', 'mctl top models'))
    .action(async (words: string[], flags: TopFlags) => done(await top(cli, words, flags)))
}

async function top(cli: Cli, [word, ...names]: readonly string[], flags: TopFlags): Promise<number> {
  const kind = topKind(word)
  if (flags.output !== undefined && flags.output !== 'json' && flags.output !== 'yaml')
    throw unknownForm(flags.output, ['json', 'yaml'])
  if (names.length > 0 && flags.selector !== undefined)
    throw new CliError('name cannot be provided when a selector is specified')
  return withClient(cli, flags.server, async (client) => {
    const objects = await objectsOf(client, kind, names, flags)
    if (objects.length === 0 && flags.output === undefined) {
      cli.terminal.err(emptyText([kind], flags))
      return 0
    }
    const live = await client.live({})
    if (kind === 'Node') {
      const rows = (objects as readonly Node[]).map((node) => nodeNumbers(node, live))
      print(cli, 'NodeMetrics', rows, nodeColumns(flags), flags)
      for (const remark of remarksOn(rows, live)) cli.terminal.err(`${remark}\n`)
    } else {
      const rows = (objects as readonly ModelDeployment[]).map((deployment) => modelNumbers(deployment, live))
      print(cli, 'ModelMetrics', rows, modelColumns(flags), flags)
    }
    if (live.gateways === 0) cli.terminal.err(`${NO_GATEWAY}\n`)
    return 0
  })
}

function topKind(word: string | undefined): 'Node' | 'ModelDeployment' {
  const kind = word === undefined ? undefined : findKind(word)?.kind
  if (kind === 'Node') return kind
  // Traffic is a deployment's: people say the model that it serves.
  if (kind === 'Model' || kind === 'ModelDeployment') return 'ModelDeployment'
  throw new CliError(
    `${word === undefined ? 'there is nothing to show' : `there are no live figures of "${word}"`}: use \`mctl top nodes\` or \`mctl top models\``,
  )
}

async function objectsOf(
  client: Client,
  kind: KindName,
  names: readonly string[],
  flags: TopFlags,
): Promise<readonly MctlObject[]> {
  if (names.length === 0) return (await client.list(selectionOf(kind, flags))).items
  const replies = names.map((name) => client.get({ ref: refOf(kind, name, flags.namespace) }))
  return (await Promise.all(replies)).map(({ object }) => object)
}

const UNKNOWN = '<unknown>'
const bytes = <T>(name: string, value: (row: T) => number | undefined): TopColumn<T> => ({
  name,
  value,
  text: (row) => textOf(value(row), formatBytes),
})
const count = <T>(name: string, value: (row: T) => number | undefined): TopColumn<T> => ({
  name,
  value,
  text: (row) => textOf(value(row), String),
})
const textOf = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? UNKNOWN : format(value)
const perSecond = (row: { readonly tokensPerSecond: number | undefined }) => row.tokensPerSecond
const tokens = <T extends { readonly tokensPerSecond: number | undefined }>(): TopColumn<T> => ({
  name: 'TOKENS/S',
  value: perSecond,
  text: (row) => textOf(row.tokensPerSecond, (value) => value.toFixed(1)),
})

const nodeColumns = ({ showCapacity }: TopFlags): readonly TopColumn<NodeNumbers>[] => [
  { name: 'NAME', text: ({ name }) => name },
  {
    name: 'GPU(%)',
    value: ({ gpuBusyShare }) => gpuBusyShare,
    text: ({ gpuBusyShare }) => textOf(gpuBusyShare, (share) => `${Math.round(100 * share)}%`),
  },
  bytes('WIRED', ({ wiredBytes }) => wiredBytes),
  bytes('USED', ({ usedBytes }) => usedBytes),
  bytes('FREE', ({ freeBytes }) => freeBytes),
  bytes('BOUND', ({ boundBytes }) => boundBytes),
  showCapacity === true
    ? bytes('CAPACITY', ({ capacityBytes }) => capacityBytes)
    : bytes('ALLOCATABLE', ({ allocatableBytes }) => allocatableBytes),
  tokens(),
  count('IN-FLIGHT', ({ requestsInFlight }) => requestsInFlight),
  {
    name: 'HEARTBEAT',
    value: ({ heartbeatAgeSeconds }) => heartbeatAgeSeconds,
    text: ({ heartbeatAgeSeconds }) => textOf(heartbeatAgeSeconds, (seconds) => ageOf(1000 * seconds)),
  },
]

const modelColumns = ({ allNamespaces }: TopFlags): readonly TopColumn<ModelNumbers>[] => [
  ...(allNamespaces === true ? [{ name: 'NAMESPACE', text: ({ namespace }: ModelNumbers) => namespace }] : []),
  { name: 'NAME', text: ({ name }) => name },
  {
    name: 'READY',
    value: ({ readyReplicas }) => readyReplicas,
    text: ({ readyReplicas, replicas }) => `${readyReplicas}/${replicas}`,
  },
  tokens(),
  count('IN-FLIGHT', ({ requestsInFlight }) => requestsInFlight),
  count('PLACES', ({ places }) => places),
  count('QUEUE', ({ requestsWaiting }) => requestsWaiting),
]

function print<T extends object>(
  cli: Cli,
  kind: string,
  rows: readonly T[],
  columns: readonly TopColumn<T>[],
  flags: TopFlags,
): void {
  const sorted = flags.sortBy === undefined ? rows : sortedBy(flags.sortBy, rows, columns)
  if (flags.output !== undefined)
    return cli.terminal.out(
      render({ apiVersion: API_VERSION, kind: `${kind}List`, metadata: {}, items: sorted }, flags.output),
    )
  const header = flags.headers === false ? undefined : columns.map(({ name }) => name)
  cli.terminal.out(
    formatTable(
      header,
      sorted.map((row) => columns.map(({ text }) => text(row))),
    ),
  )
}

/** The largest first, names from a on; what is unknown stands last. */
function sortedBy<T>(name: string, rows: readonly T[], columns: readonly TopColumn<T>[]): readonly T[] {
  const bare = (text: string) => text.toLowerCase().replace(/\(%\)$/, '')
  const column = columns.find((c) => bare(c.name) === bare(name))
  if (column === undefined)
    throw new CliError(`--sort-by accepts ${columns.map((c) => bare(c.name)).join(', ')}, not "${name}"`)
  const { value, text } = column
  if (value === undefined) return [...rows].sort((a, b) => (text(a) < text(b) ? -1 : 1))
  return [...rows].sort((a, b) => (value(b) ?? -Infinity) - (value(a) ?? -Infinity) || 0)
}
