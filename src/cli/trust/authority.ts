/** `mctl authority`: how far a change of the cluster's authority is, its beginning and its end. What lies between goes by itself. */
import type { Authority } from '../../api/authority.ts'
import { authorityPhase } from '../../api/authority.ts'
import { expiryWarning, sentence } from '../../planner/authority.ts'
import type { ChangeAuthorityReply } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, serverAddress, withClient } from '../context.ts'
import { get } from '../get/get.ts'
import type { GetFlags } from '../get/flags.ts'

interface RetireFlags {
  readonly server?: string
  readonly force?: boolean
}

export const defineAuthority: Define = (command, cli, done) => {
  command.addHelpText('after', examples('mctl authority get', 'mctl authority rotate', 'mctl authority retire'))
  subcommand(command, 'get', 'What signs the certificates, until when, and who a change waits for.')
    .addOption(serverOption())
    .option('-o, --output <format>', 'wide, yaml, json, name')
    .action(async (flags: GetFlags) => done(await show(cli, flags)))
  subcommand(command, 'rotate', 'Begin a change to a new authority; everybody comes to trust both.')
    .addOption(serverOption())
    .action(async ({ server }: { server?: string }) => {
      const call = withClient(cli, server, (client) => client.changeAuthority({ action: 'Rotate' }))
      done(tell(cli, await call, 'introduced'))
    })
  subcommand(command, 'retire [name]', 'End it: the old authority counts no more. Refused while somebody lives on it.')
    .addOption(serverOption())
    .option('--force', 'shut out whoever still lives on it: they must join anew')
    .action(async (name: string | undefined, { server, force }: RetireFlags) => {
      const request = { action: 'Retire' as const, ...(name && { name }), ...(force && { force }) }
      done(tell(cli, await withClient(cli, server, (client) => client.changeAuthority(request)), 'retired'))
    })
}

function tell(cli: Cli, { name, notes }: ChangeAuthorityReply, what: string): number {
  cli.terminal.out(`authority.mctl.dev/${name} ${what}\n`)
  for (const note of notes) cli.terminal.err(`${note}\n`)
  return 0
}

async function show(cli: Cli, flags: GetFlags): Promise<number> {
  const address = serverAddress(cli, flags.server)
  const { items } = await withClient(cli, flags.server, (client) => client.list({ kind: 'Authority' }))
  const authorities = items as readonly Authority[]
  if (authorities.length === 0)
    throw new CliError(
      `the cluster at ${address} has no identities, so no authority. \`mctl server --listen 0.0.0.0:6480\` gives it some`,
    )
  const code = await get(cli, ['authorities'], { chunkSize: '500', ...flags })
  if (flags.output === undefined || flags.output === 'wide')
    for (const line of nextSteps(authorities, cli.clock.nowMs())) cli.terminal.err(`${line}\n`)
  return code
}

/** What goes on, who it waits for, and what to do next. Pure. */
export function nextSteps(authorities: readonly Authority[], nowMs: number): readonly string[] {
  const changing = authorities.find((authority) => authorityPhase(authority) !== 'Signing')
  if (changing === undefined) {
    const warning = expiryWarning(authorities, nowMs)
    return warning === undefined ? [] : [warning]
  }
  const { name } = changing.metadata
  const waitingFor = (changing.status?.waitingFor ?? []).map((holdup) => `  ${sentence(holdup)}`)
  switch (authorityPhase(changing)) {
    case 'Introduced':
      return waitingFor.length === 0
        ? [`Authority "${name}" signs in a few seconds, when everybody trusts it.`]
        : [`Authority "${name}" signs when these trust it:`, ...waitingFor]
    case 'Outgoing':
      return waitingFor.length === 0
        ? [
            `Nobody lives on authority "${name}" any more. Give programs the new authority.crt, then: mctl authority retire`,
          ]
        : [`Authority "${name}" can be retired when these live on it no more:`, ...waitingFor]
    default:
      return [`Authority "${name}" is gone in a few seconds.`]
  }
}
