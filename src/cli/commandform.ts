/** What all commands of the command line have in common: flags, usage and examples in one form. */
import type { Command } from 'commander'
import { Option } from 'commander'
import type { Cli } from './context.ts'
import { CliError, DEFAULT_SERVER } from './context.ts'

export type Done = (exitCode: number) => void

/**
 * Gives a command its arguments, flags, examples and action. Lives in the command's own file, which is loaded only when
 * the command is called: the summary stands in the catalog.
 */
export type Define = (command: Command, cli: Cli, done: Done) => void

export const seeHelp = (name: string) => `See '${name} --help' for usage.`

/** The lines that a test runs, too. */
export const examples = (...lines: readonly string[]) =>
  `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`

/** A command below another one, as `mctl config view`; takes exitOverride and output from above. */
export function subcommand(parent: Command, usage: string, summary: string, hidden = false): Command {
  const command = parent.command(usage, { hidden }).description(summary).helpCommand(false)
  return command.showHelpAfterError(seeHelp(pathOf(command)))
}

const pathOf = (command: Command): string =>
  command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`

export const collect = (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), value]

/** The value of a flag that may be written `--flag`, `--flag=true` or `--flag=false`. */
export function asBoolean(value: string): boolean {
  if (value !== 'true' && value !== 'false') throw new CliError(`invalid argument "${value}": must be true or false`)
  return value === 'true'
}

class ConnectionOption extends Option {}
class NamespaceOption extends Option {}

/** Every command that talks to a server takes it; `--context` comes with it (see config/current.ts). */
export const serverOption = () =>
  new ConnectionOption(
    '-s, --server <address>',
    `address of the server (default: $MCTL_SERVER, else that of the context, else ${DEFAULT_SERVER})`,
  )
export const connectionFlag = (option: Option): boolean => option instanceof ConnectionOption
export const namespaceOption = () =>
  new NamespaceOption('-n, --namespace <name>', 'the namespace (default: that of the context, else default)')
export const namespaceFlag = (option: Option): boolean => option instanceof NamespaceOption
export const fileOption = () =>
  new Option(
    '-f, --filename <path>',
    'a file, a directory, an https:// address, or - for standard input; may be repeated',
  ).argParser(collect)
