/** `mctl version`: this program's version and the server's. */
import type { Cli } from './context.ts'
import { withClient } from './context.ts'
import { render } from './get.ts'

export interface VersionFlags {
  readonly server?: string
  readonly client?: boolean
  readonly output?: string
}

export async function version(cli: Cli, flags: VersionFlags): Promise<number> {
  const ours = { clientVersion: cli.version }
  const facts = flags.client
    ? ours
    : { ...ours, ...(await withClient(cli, flags.server, (client) => client.version({}))) }
  if (flags.output !== undefined) cli.terminal.out(render(facts, flags.output))
  else {
    cli.terminal.out(`Client Version: ${facts.clientVersion}\n`)
    if ('serverVersion' in facts) cli.terminal.out(`Server Version: ${String(facts.serverVersion)}\n`)
  }
  return 0
}
