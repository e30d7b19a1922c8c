/** What `mctl agent --configure-thunderbolt --dry-run` and `--undo-thunderbolt` print: commands, each with its reason. */
import type { Cli, ThunderboltFlags, ThunderboltReport } from '../context.ts'
import { serverAddress } from '../context.ts'

export interface ThunderboltWish extends Pick<ThunderboltFlags, 'verb' | 'dryRun'> {
  readonly server: string | undefined
  readonly name: string | undefined
  readonly dataDir: string | undefined
}

/** Exit 1 when something cannot be set. */
export async function thunderbolt(cli: Cli, { verb, dryRun, ...flags }: ThunderboltWish): Promise<number> {
  const { server, name, dataDir } = flags
  const machine = await cli.machine()
  const place = await machine.agentPlace({
    ...(name === undefined ? {} : { name }),
    ...(dataDir === undefined ? {} : { dataDir }),
  })
  const report = await cli.starters.thunderbolt({
    ...{ verb, dryRun, name: place.name, dataDir: place.dataDir },
    server: serverAddress(cli, server),
  })
  cli.terminal.out(commandsText(report))
  for (const { message } of report.refusals) cli.terminal.err(`${message}\n`)
  cli.terminal.err(endText(verb, dryRun, report))
  return report.refusals.length === 0 ? 0 : 1
}

const commandsText = ({ steps }: ThunderboltReport): string => {
  const width = Math.max(0, ...steps.map(({ argv }) => argv.join(' ').length))
  return steps.map(({ argv, why }) => `${argv.join(' ').padEnd(width)}  # ${why}\n`).join('')
}

function endText(verb: ThunderboltFlags['verb'], dryRun: boolean, { steps, cables }: ThunderboltReport): string {
  if (dryRun && steps.length > 0) return 'Nothing was changed (dry run).\n'
  if (verb === 'Undo') return steps.length === 0 ? 'There is nothing to undo.\n' : 'Undone: the network is as it was.\n'
  const set = cables.map(({ peer, address }) => `${address} towards ${peer}`).join(', ')
  return cables.length === 0 ? 'No cable leads to another node: there is nothing to set.\n' : `Set already: ${set}.\n`
}
