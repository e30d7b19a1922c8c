/** `mctl sync …`: what people say to, and ask of, a Sync. Each verb is one function of `verbs.ts`. */
import type { Command } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import { get } from '../get/get.ts'
import type { SyncFlags } from './verbs.ts'
import { approve, diff, history, now, resume, suspend } from './verbs.ts'

export const defineSync: Define = (command, cli, done) => {
  command
    .helpCommand(false)
    .usage('(get|now|suspend|resume|approve|history|diff) [NAME] [options]')
    .addHelpText(
      'after',
      examples('mctl sync get', 'mctl sync now studio', 'mctl sync diff studio', 'mctl sync history studio'),
    )
  const verb = (usage: string, summary: string, ...lines: readonly string[]): Command =>
    subcommand(command, usage, summary)
      .addOption(serverOption())
      .addHelpText('after', examples(...lines))
  verb('get [names...]', 'List the Syncs: what they follow and how far.', 'mctl sync get -o wide')
    .option('-o, --output <format>', 'wide, yaml, json or name')
    .option('-w, --watch', 'go on with each change')
    .action(async (names: string[], flags: SyncFlags) => done(await get(cli, ['syncs', ...names], flags)))
  verb('now <name>', 'Look at the source now, and wait until what is there is applied.', 'mctl sync now studio')
    .option('--no-wait', 'only ask for it')
    .option('--timeout <duration>', 'how long to wait', '5m')
    .action(async (name: string, flags: SyncFlags) => done(await now(cli, name, flags)))
  verb('suspend <name>', 'Follow nothing for now: no commit, no drift, no removal.', 'mctl sync suspend studio').action(
    async (name: string, flags: SyncFlags) => done(await suspend(cli, name, flags)),
  )
  verb('resume <name>', 'Follow again.', 'mctl sync resume studio').action(async (name: string, flags: SyncFlags) =>
    done(await resume(cli, name, flags)),
  )
  verb('approve <name>', 'Let the deletions that wait for a person be done.', 'mctl sync approve studio')
    .option('--revision <revision>', 'only if they are those of this commit; its first characters are enough')
    .action(async (name: string, flags: SyncFlags) => done(await approve(cli, name, flags)))
  verb(
    'history <name>',
    'What was tried, newest first.',
    'mctl sync history studio',
    'mctl sync history studio -o wide',
  )
    .option('-o, --output <format>', 'wide: each object; json or yaml')
    .action(async (name: string, flags: SyncFlags) => done(await history(cli, name, flags)))
  verb(
    'diff <name>',
    'What applying the source now would change; exit 1 when there is something. Nothing is written to the objects.',
    'mctl sync diff studio',
  )
    .option('--timeout <duration>', 'how long to wait for the answer', '1m')
    .action(async (name: string, flags: SyncFlags) => done(await diff(cli, name, flags)))
}
