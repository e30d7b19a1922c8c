/** `mctl config`: contexts of the config file. kubectl's words; a context here holds its server itself. */
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import { render } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'
import type { Config, Context } from './file.ts'
import { CONFIG_VERSION, contextNamed, readConfig, requiredConfigPath, writeConfig } from './file.ts'

export const defineConfig: Define = (command, cli, done) => {
  command.addHelpText(
    'after',
    examples(
      'mctl config set-context home --server 127.0.0.1:6480',
      'mctl config use-context home',
      'mctl config get-contexts',
      'mctl config renew',
    ),
  )
  const below = (usage: string, summary: string) => subcommand(command, usage, summary)
  below('get-contexts [names...]', 'List the contexts; the current one has a star.')
    .option('-o, --output <format>', 'name')
    .option('--no-headers', 'without the header line')
    .action((names: string[], flags: GetFlags) => done(getContexts(cli, names, flags)))
  below('current-context', 'Name the current context.').action(() => done(currentContext(cli)))
  below('use-context <name>', 'Make a context the current one.').action((name: string) => done(useContext(cli, name)))
  below('set-context [name]', 'Make a context, or change one.')
    .option('--current', 'the current one')
    .option('--server <address>', 'address of the server, HOST:PORT')
    .option('--namespace <name>', 'the namespace that commands take when none is given')
    .action((name: string | undefined, flags: SetFlags) => done(setContext(cli, name, flags)))
  below('view', 'Show the config file; secrets are left out.')
    .option('--minify', 'only the current context')
    .option('--raw', 'secrets, too')
    .option('-o, --output <format>', 'yaml or json', 'yaml')
    .action((flags: ViewFlags) => done(view(cli, flags)))
  below('delete-context <name>', 'Remove a context.').action((name: string) => done(deleteContext(cli, name)))
  below('renew', 'A fresh certificate for the context, before the old one ends or its authority is retired.')
    .addOption(serverOption())
    .action(async (flags: { server?: string; context?: string }) => {
      const { renew } = await import('./renew.ts')
      done(await renew(cli, flags))
    })
  below('rename-context <old> <new>', 'Give a context another name.').action((old: string, fresh: string) =>
    done(renameContext(cli, old, fresh)),
  )
}

interface GetFlags {
  readonly output?: string
  readonly headers?: boolean
}
interface SetFlags {
  readonly current?: boolean
  readonly server?: string
  readonly namespace?: string
}
interface ViewFlags {
  readonly minify?: boolean
  readonly raw?: boolean
  readonly output: string
}

function load(cli: Cli): { readonly path: string; readonly config: Config } {
  const path = requiredConfigPath(cli.env)
  return { path, config: readConfig(path) }
}

function getContexts(cli: Cli, names: readonly string[], flags: GetFlags): number {
  if (flags.output !== undefined && flags.output !== 'name') throw new CliError("--output must be '' or 'name'")
  const { config } = load(cli)
  const missing = names.filter((name) => contextNamed(config, name) === undefined)
  const shown = config.contexts.filter(({ name }) => names.length === 0 || names.includes(name))
  if (flags.output === 'name') cli.terminal.out(shown.map(({ name }) => `${name}\n`).join(''))
  else {
    const header = flags.headers === false ? undefined : ['CURRENT', 'NAME', 'SERVER', 'NAMESPACE']
    const rows = shown.map((c) => [
      c.name === config.currentContext ? '*' : '',
      c.name,
      c.server ?? '',
      c.namespace ?? '',
    ])
    if (shown.length > 0 || missing.length === 0) cli.terminal.out(formatTable(header, rows))
  }
  for (const name of missing) cli.terminal.err(`error: context ${name} not found\n`)
  if (config.contexts.length === 0)
    cli.terminal.err('There is no context yet: `mctl config set-context NAME --server HOST:PORT` makes one.\n')
  return missing.length === 0 ? 0 : 1
}

function currentContext(cli: Cli): number {
  const { config } = load(cli)
  if (config.currentContext === undefined || config.currentContext === '')
    throw new CliError('current-context is not set\n`mctl config use-context NAME` sets it.')
  cli.terminal.out(`${config.currentContext}\n`)
  return 0
}

function useContext(cli: Cli, name: string): number {
  const { path, config } = load(cli)
  if (contextNamed(config, name) === undefined)
    throw new CliError(
      `no context exists with the name: "${name}"\n\`mctl config get-contexts\` lists those that do; \`mctl config set-context ${name} --server HOST:PORT\` makes it.`,
    )
  writeConfig(path, { ...config, currentContext: name })
  cli.terminal.out(`Switched to context "${name}".\n`)
  return 0
}

function setContext(cli: Cli, given: string | undefined, flags: SetFlags): number {
  const { path, config } = load(cli)
  if ((given === undefined) === (flags.current !== true))
    throw new CliError('you must give the name of a context, or --current, and not both')
  const name = given ?? config.currentContext
  if (name === undefined || name === '')
    throw new CliError('no current context is set\n`mctl config use-context NAME` sets it.')
  const old = contextNamed(config, name)
  const fresh: Context = {
    ...(old ?? { name }),
    ...(flags.server === undefined ? {} : { server: flags.server }),
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
  }
  const contexts = old === undefined ? [...config.contexts, fresh] : config.contexts.map((c) => (c === old ? fresh : c))
  writeConfig(path, { ...config, contexts })
  cli.terminal.out(`Context "${name}" ${old === undefined ? 'created' : 'modified'}.\n`)
  if (config.currentContext === undefined)
    cli.terminal.err(`\`mctl config use-context ${name}\` makes it the current one.\n`)
  return 0
}

/** Fields of a context that nobody should read over a shoulder. */
const isSecret = (key: string): boolean => /key|token|secret|password/i.test(key)

function view(cli: Cli, flags: ViewFlags): number {
  if (flags.output !== 'yaml' && flags.output !== 'json') throw new CliError("--output must be 'yaml' or 'json'")
  const { config } = load(cli)
  const shown = config.contexts.filter(({ name }) => !flags.minify || name === config.currentContext)
  const contexts = flags.raw ? shown : shown.map(withoutSecrets)
  const { currentContext = '' } = config
  cli.terminal.out(
    render({ apiVersion: CONFIG_VERSION, kind: 'Config', ...config, currentContext, contexts }, flags.output),
  )
  return 0
}

const withoutSecrets = (context: Context): Context => ({
  ...Object.fromEntries(Object.entries(context).map(([key, value]) => [key, isSecret(key) ? 'REDACTED' : value])),
  name: context.name,
})

function deleteContext(cli: Cli, name: string): number {
  const { path, config } = load(cli)
  if (contextNamed(config, name) === undefined) throw new CliError(`cannot delete context ${name}, not in ${path}`)
  const { currentContext, ...others } = config
  const isCurrent = currentContext === name
  const contexts = config.contexts.filter((context) => context.name !== name)
  writeConfig(path, { ...others, ...(isCurrent || currentContext === undefined ? {} : { currentContext }), contexts })
  if (isCurrent)
    cli.terminal.err(
      'warning: this removed your active context, use "mctl config use-context" to select a different one\n',
    )
  cli.terminal.out(`deleted context ${name} from ${path}\n`)
  return 0
}

function renameContext(cli: Cli, old: string, fresh: string): number {
  const { path, config } = load(cli)
  if (contextNamed(config, old) === undefined)
    throw new CliError(`cannot rename the context "${old}", it's not in ${path}`)
  if (contextNamed(config, fresh) !== undefined)
    throw new CliError(`cannot rename the context "${old}", the context "${fresh}" already exists in ${path}`)
  const contexts = config.contexts.map((context) => (context.name === old ? { ...context, name: fresh } : context))
  writeConfig(path, { ...config, contexts, ...(config.currentContext === old ? { currentContext: fresh } : {}) })
  cli.terminal.out(`Context "${old}" renamed to "${fresh}".\n`)
  return 0
}
