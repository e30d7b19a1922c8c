/** What join tokens, users and API keys share on the command line: they are listed, and taken away, as the objects that they are. */
import type { Command } from 'commander'
import type { Done } from '../commandform.ts'
import { serverOption, subcommand } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { get } from '../get/get.ts'
import { deleteObjects } from '../write/delete.ts'

interface Told {
  /** `apikey`: the kind's singular. */
  readonly kind: string
  readonly list: string
  /** The word for taking one away, and what it means. */
  readonly verb: string
  readonly remove: string
}

export function addRights(command: Command, cli: Cli, done: Done, { kind, list, verb, remove }: Told): void {
  subcommand(command, 'list', list)
    .addOption(serverOption())
    .action(async (flags: { server?: string }) => done(await get(cli, [kind], flags)))
  subcommand(command, `${verb} <name>`, remove)
    .addOption(serverOption())
    .action(async (name: string, flags: { server?: string }) =>
      done(await deleteObjects(cli, [kind, name], { ...flags, timeout: '0', cascade: 'background', dryRun: 'none' })),
    )
}
