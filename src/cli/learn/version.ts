/** `mctl version`: this program's version and the server's, and a warning where they are too far apart. */
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { render } from '../printers/render.ts'

export interface VersionFlags {
  readonly server?: string
  readonly client?: boolean
  readonly output?: string
}

export const defineVersion: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .option('--client', 'only of this program')
    .option('-o, --output <format>', 'json or yaml')
    .addHelpText('after', examples('mctl version', 'mctl version --client -o json'))
    .action(async (flags: VersionFlags) => done(await version(cli, flags)))
}

export async function version(cli: Cli, flags: VersionFlags): Promise<number> {
  if (flags.output !== undefined && flags.output !== 'json' && flags.output !== 'yaml')
    throw new CliError("--output must be 'yaml' or 'json'")
  const ours = { clientVersion: cli.version }
  if (flags.output === undefined) cli.terminal.out(`Client Version: ${ours.clientVersion}\n`)
  const theirs = flags.client ? undefined : await withClient(cli, flags.server, (client) => client.version({}))
  if (flags.output !== undefined) cli.terminal.out(render({ ...ours, ...theirs }, flags.output))
  else if (theirs !== undefined) cli.terminal.out(`Server Version: ${theirs.serverVersion}\n`)
  const skew = theirs === undefined ? undefined : skewText(ours.clientVersion, theirs.serverVersion)
  if (skew !== undefined) cli.terminal.err(`${skew}\n`)
  return 0
}

/** kubectl's warning; undefined when both are at most one minor version apart, or one of them is no version. */
export function skewText(client: string, server: string): string | undefined {
  const [ours, theirs] = [minorOf(client), minorOf(server)]
  if (ours === undefined || theirs === undefined) return undefined
  if (ours.major === theirs.major && Math.abs(ours.minor - theirs.minor) <= 1) return undefined
  const older = ours.major < theirs.major || (ours.major === theirs.major && ours.minor < theirs.minor)
  const what = older ? 'this mctl' : 'the server, then the agents'
  return (
    `WARNING: version difference between client (${ours.major}.${ours.minor}) and server (${theirs.major}.${theirs.minor}) ` +
    `exceeds the supported minor version skew of +/-1: upgrade ${what}`
  )
}

function minorOf(version: string): { readonly major: number; readonly minor: number } | undefined {
  const [, major, minor] = /^v?(\d+)\.(\d+)\./.exec(version) ?? []
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) }
}
