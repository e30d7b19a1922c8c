/** Which server, namespace and context a call is about: what its flags say, then the environment, then the config file. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { connectionFlag, namespaceFlag } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { Context } from './file.ts'
import { configPath, contextNamed, readConfig } from './file.ts'
import { signIn } from './signin.ts'

/** The context that holds for a call: the one named, else the current one; undefined when there is none. */
export function contextOf(cli: Pick<Cli, 'env'>, named: string | undefined): Context | undefined {
  const path = configPath(cli.env)
  const config = readConfig(path)
  const name = named ?? config.currentContext
  if (name === undefined || name === '') return undefined
  const context = contextNamed(config, name)
  if (context === undefined)
    throw new CliError(
      `context "${name}" does not exist in ${path ?? 'a config file: there is none'}\n\`mctl config get-contexts\` lists those that do, \`mctl config use-context NAME\` chooses another one.`,
    )
  return context
}

/** Gives every command that talks to a server `--context`, and what the chosen context says before it runs. */
export function followContext(command: Command, cli: Pick<Cli, 'env' | 'terminal' | 'clock'>): void {
  for (const below of command.commands) followContext(below, cli)
  if (!command.options.some(connectionFlag)) return
  command.addOption(new Option('--context <name>', 'the context of the config file to use (default: the current one)'))
  command.hook('preAction', async (called) => {
    const given = called.opts<{ server?: string; namespace?: string; context?: string }>()
    const context = contextOf(cli, given.context)
    const { server, namespace } = context ?? {}
    if (context !== undefined) signIn(cli, context)
    if (context?.['authority'] !== undefined) {
      const { endingText } = await import('./ends.ts')
      const ending = endingText(context, cli.clock.nowMs())
      if (ending !== undefined) cli.terminal.err(`${ending}\n`)
    }
    const byEnv = given.context === undefined ? cli.env['MCTL_SERVER'] : undefined
    if (given.server === undefined && byEnv === undefined && server !== undefined)
      called.setOptionValueWithSource('server', server, 'config')
    if (!called.options.some(namespaceFlag)) return
    called.setOptionValueWithSource('namespaceGiven', given.namespace !== undefined, 'implied')
    if (given.namespace === undefined && namespace !== undefined)
      called.setOptionValueWithSource('namespace', namespace, 'config')
  })
}
