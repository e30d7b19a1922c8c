/** `mctl version`: this program's version and the server's, and a warning where they are too far apart. */
import type { Node } from '../../api/node.ts'
import { minorOf, tooOld } from '../../lib/versionskew.ts'
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
  const agents = theirs && (await agentsText(cli, flags, theirs.serverVersion))
  if (agents !== undefined) cli.terminal.err(`${agents}\n`)
  return 0
}

/** kubectl's warning; undefined when both are at most one minor version apart, or one of them is no version. */
export function skewText(client: string, server: string): string | undefined {
  const [ours, theirs] = [minorOf(client), minorOf(server)]
  const old = tooOld(client, server)
  if (old === undefined || ours === undefined || theirs === undefined) return undefined
  const what = old === 'one' ? 'this mctl' : 'the server, then the agents'
  return (
    `WARNING: version difference between client (${ours.major}.${ours.minor}) and server (${theirs.major}.${theirs.minor}) ` +
    `exceeds the supported minor version skew of +/-1: upgrade ${what}`
  )
}

/** Agents of another release than their server, which still work with it. */
async function agentsText(cli: Cli, flags: VersionFlags, server: string): Promise<string | undefined> {
  const { items } = await withClient(cli, flags.server, (client) => client.list({ kind: 'Node' }))
  const others = (items as readonly Node[]).flatMap(({ metadata, status }) => {
    const version = status?.nodeInfo?.agentVersion
    return version === undefined || version === server ? [] : [`${metadata.name} (${version})`]
  })
  if (others.length === 0) return undefined
  return `Agents of another version than the server: ${others.join(', ')}. Upgrade the server first, then the agents.`
}
