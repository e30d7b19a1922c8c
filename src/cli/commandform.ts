/** What all commands of the command line have in common: flags, usage and examples in one form. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { DEFAULT_SERVER } from './context.ts'

export type Done = (exitCode: number) => void

export const seeHelp = (name: string) => `See '${name} --help' for usage.`

/** The lines that a test runs, too. */
export const examples = (...lines: readonly string[]) =>
  `${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`

/** Each command inherits exitOverride and output; every command that talks to a server takes --server. */
export function command(program: Command, usage: string, description: string): Command {
  return plainCommand(program, usage, description).option(
    '-s, --server <address>',
    `address of the server (default: $MCTL_SERVER, else ${DEFAULT_SERVER})`,
  )
}

export function plainCommand(program: Command, usage: string, description: string): Command {
  const [name = ''] = usage.split(' ')
  return program
    .command(usage)
    .description(description)
    .showHelpAfterError(seeHelp(`mctl ${name}`))
}

export const collect = (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), value]
export const fileOption = () =>
  new Option('-f, --filename <path>', 'a file, a directory, or - for standard input; may be repeated').argParser(
    collect,
  )
export const namespaceOption = () => new Option('-n, --namespace <name>', 'the namespace (default: default)')
