/** `mctl api-resources`: the kinds that there are, their short names and scope. No server is asked: the table is the program's. */
import type { KindFacts } from '../../api/kinds.ts'
import { kinds } from '../../api/kinds.ts'
import { API_GROUP, API_VERSION } from '../../api/meta.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import { unknownForm } from '../printers/output.ts'
import { formatTable } from '../printers/table.ts'

interface ResourcesFlags {
  readonly output?: string
  readonly headers?: boolean
  readonly namespaced?: string
  readonly sortBy?: string
}

export const defineApiResources: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .option('-o, --output <format>', 'wide or name')
    .option('--no-headers', 'without the header line')
    .option('--namespaced [true|false]', 'only those that live in a namespace, or only those that do not')
    .option('--sort-by <name|kind>', 'in this order')
    .addHelpText('after', examples('mctl api-resources', 'mctl api-resources --namespaced=false -o name'))
    .action((flags: ResourcesFlags) => done(resources(cli, flags)))
}

function resources(cli: Cli, flags: ResourcesFlags): number {
  const { output, sortBy } = flags
  if (output !== undefined && output !== 'wide' && output !== 'name') throw unknownForm(output, ['wide', 'name'])
  if (sortBy !== undefined && sortBy !== 'name' && sortBy !== 'kind')
    throw new CliError('--sort-by accepts only name or kind')
  const shown = Object.values(kinds).filter(
    ({ namespaced }) => flags.namespaced === undefined || namespaced === (String(flags.namespaced) !== 'false'),
  )
  const keyOf = (kind: KindFacts) => (sortBy === 'kind' ? kind.kind : kind.plural)
  const sorted = sortBy === undefined ? shown : [...shown].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  if (output === 'name') cli.terminal.out(sorted.map(({ plural }) => `${plural}.${API_GROUP}\n`).join(''))
  else {
    const wide = output === 'wide'
    const header = ['NAME', 'SHORTNAMES', 'APIVERSION', 'NAMESPACED', 'KIND', ...(wide ? ['VERBS'] : [])]
    cli.terminal.out(
      formatTable(
        flags.headers === false ? undefined : header,
        sorted.map((kind) => [
          kind.plural,
          kind.shortNames.join(','),
          API_VERSION,
          String(kind.namespaced),
          kind.kind,
          ...(wide ? [VERBS] : []),
        ]),
      ),
    )
  }
  return 0
}

const VERBS = 'create,delete,get,list,patch,update,watch'
