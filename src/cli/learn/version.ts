/** `mctl version`: this program's version and the server's. */
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
  return 0
}
