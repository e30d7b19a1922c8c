/** `mctl get`: tables that the server renders, or the objects themselves; `-w` goes on with each change. */
import type { MctlObject } from '../../api/meta.ts'
import type { KindName } from '../../api/kinds.ts'
import { qualifiedName } from '../../api/kinds.ts'
import type { Define } from '../commandform.ts'
import { collect, examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { tell } from '../errors.ts'
import type { Output } from '../printers/output.ts'
import { outputOf } from '../printers/output.ts'
import { withoutManagers } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'
import type { Target } from '../targets.ts'
import { targetsFrom } from '../targets.ts'
import type { Fetched } from './fetch.ts'
import { fetchAll, reordered } from './fetch.ts'
import type { GetFlags } from './flags.ts'
import { emptyText } from './flags.ts'
import { viewOf } from './view.ts'
import { watch } from './watch.ts'

export const defineGet: Define = (command, cli, done) => {
  command
    .argument('[types...]')
    .usage('(TYPE[,TYPE] [NAME...] | TYPE/NAME... | -f FILE) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-o, --output <format>', 'wide, yaml, json, name, jsonpath=…, custom-columns=… (…-file=FILE)')
    .option('-w, --watch', 'go on with each change')
    .option('--watch-only', 'only the changes, not what there is now')
    .option('--output-watch-events', 'say of each change whether it is ADDED, MODIFIED or DELETED')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. chip=m4')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. spec.nodeName=mini-1')
    .option('--sort-by <path>', 'in the order of a field, e.g. .metadata.creationTimestamp')
    .option('--show-labels', 'all labels as the last column')
    .option('-L, --label-columns <keys>', 'these labels as columns', collectCommas)
    .option('--show-kind', 'TYPE/NAME instead of NAME')
    .option('--no-headers', 'without the header line')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--show-managed-fields', 'also who owns which field, with -o yaml or json')
    .option('--chunk-size <n>', 'objects that one call may bring; 0: all at once', '500')
    .addOption(fileOption())
    .option('-R, --recursive', 'also the folders below')
    .addHelpText(
      'after',
      examples(
        'mctl get nodes',
        'mctl get md,sg,shards -o wide',
        'mctl get md/smollm2-pipeline -o yaml',
        'mctl get shards --sort-by=.spec.nodeName -L chip',
        'mctl get links',
        'mctl get nodes -o jsonpath=\'{range .items[*]}{.metadata.name}{" "}{.status.allocatable.memory}{"\\n"}{end}\'',
        'mctl get sg -o custom-columns=NAME:.metadata.name,NODES:.spec.members[*].node',
      ),
    )
    .action(async (words: string[], flags: GetFlags) => done(await get(cli, words, flags)))
}

/** A view, not a type: there is no object of that name. */
const isLinksView = (word: string | undefined): boolean => word === 'links' || word === 'link'

const collectCommas = (value: string, previous: readonly string[] | undefined) =>
  collect(value, previous).flatMap((keys) => keys.split(',').filter((key) => key !== ''))

export async function get(cli: Cli, words: readonly string[], flags: GetFlags): Promise<number> {
  const output = await outputOf(cli, flags.output)
  if (isLinksView(words[0])) {
    const { getLinks } = await import('./links.ts')
    return getLinks(cli, words.slice(1), flags, output)
  }
  const targets = await targetsFrom(cli, words, 'get', flags)
  if (targets.some((target) => target.name !== undefined)) checkNamed(flags)
  return withClient(cli, flags.server, async (client) => {
    if (flags.watch || flags.watchOnly) {
      if (flags.sortBy !== undefined)
        cli.terminal.err(
          'warning: --watch or --watch-only requested, --sort-by will be ignored for watch events received\n',
        )
      return watch(cli, client, targets, flags, output)
    }
    const fetched = await inOrder(await fetchAll(client, targets, flags), flags.sortBy)
    const failures = fetched.flatMap((group) => group.failures)
    print(cli, fetched, { targets, flags, output })
    for (const failure of failures) tell(cli, failure)
    return failures.length > 0 ? 1 : 0
  })
}

function checkNamed(flags: GetFlags): void {
  if (flags.selector !== undefined || flags.fieldSelector !== undefined)
    throw new CliError('name cannot be provided when a selector is specified')
  if (flags.allNamespaces) throw new CliError('a resource cannot be retrieved by name across all namespaces')
}

async function inOrder(fetched: readonly Fetched[], sortBy: string | undefined): Promise<readonly Fetched[]> {
  if (sortBy === undefined) return fetched
  const { orderBy } = await import('../printers/sort.ts')
  return fetched.map((group) => reordered(group, orderBy(sortBy, group.items)))
}

interface Asked {
  readonly targets: readonly Target[]
  readonly flags: GetFlags
  readonly output: Output
}

function print(cli: Cli, fetched: readonly Fetched[], asked: Asked): void {
  const { flags, output } = asked
  const items = fetched.flatMap((group) => group.items)
  switch (output.form) {
    case 'Table':
      return printTables(cli, fetched, flags, output.wide)
    case 'Name':
      return items.forEach((item) => cli.terminal.out(`${nameOf(item)}\n`))
    case 'Columns':
      return cli.terminal.out(
        formatTable(flags.headers === false ? undefined : output.columns.header, items.map(output.columns.cells)),
      )
    case 'Text': {
      const value = valueOf(items, asked)
      if (value !== undefined) cli.terminal.out(output.print(value))
    }
  }
}

/** The object itself where one was asked for by name, else a List; undefined when the one is missing. */
function valueOf(items: readonly MctlObject[], { targets, flags }: Asked): unknown {
  const shown = flags.showManagedFields ? items : items.map(withoutManagers)
  if (targets.length === 1 && targets[0]?.name !== undefined) return shown[0]
  return { apiVersion: 'v1', kind: 'List', metadata: {}, items: shown }
}

export const nameOf = (object: MctlObject) => qualifiedName(object.kind as KindName, object.metadata.name)

function printTables(cli: Cli, fetched: readonly Fetched[], flags: GetFlags, wide: boolean): void {
  const filled = fetched.filter((group) => group.items.length > 0)
  const missing = fetched.some((group) => group.failures.length > 0)
  if (filled.length === 0 && !missing && !flags.ignoreNotFound)
    return cli.terminal.err(
      emptyText(
        fetched.map(({ kind }) => kind),
        flags,
      ),
    )
  const showKind = flags.showKind === true || filled.length > 1
  filled.forEach((group, i) => {
    const view = viewOf(group.kind, group.columns, { ...flags, showKind, wide })
    const rows = group.items.map((item, r) => view.cells(item, group.rows[r]))
    cli.terminal.out((i > 0 ? '\n' : '') + formatTable(flags.headers === false ? undefined : view.header, rows))
  })
}
