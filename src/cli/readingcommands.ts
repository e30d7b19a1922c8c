/** Commands that show and wait. */
import type { Command } from 'commander'
import type { ChatFlags } from './chat.ts'
import { chat } from './chat.ts'
import type { Done } from './commandform.ts'
import { command, examples, namespaceOption } from './commandform.ts'
import type { Cli } from './context.ts'
import type { DescribeFlags } from './describe.ts'
import { describe } from './describe.ts'
import type { EventsFlags } from './events.ts'
import { events } from './events.ts'
import type { GetFlags } from './get.ts'
import { get } from './get.ts'
import type { LogsFlags } from './logs.ts'
import { logs } from './logs.ts'
import type { VersionFlags } from './version.ts'
import { version } from './version.ts'
import type { WaitFlags } from './wait.ts'
import { wait } from './wait.ts'

export function addReadingCommands(program: Command, cli: Cli, done: Done): void {
  command(program, 'get [types...]', 'List objects: TYPE [NAME…], TYPE/NAME… or TYPE,TYPE.')
    .usage('(TYPE[,TYPE] [NAME...] | TYPE/NAME...) [options]')
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-o, --output <format>', 'wide, yaml, json or name')
    .option('-w, --watch', 'go on with each change')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. chip=m4')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. spec.nodeName=mini-1')
    .option('--no-headers', 'without the header line')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--show-managed-fields', 'also who owns which field, with -o yaml or json')
    .addHelpText(
      'after',
      `\n${examples('mctl get nodes', 'mctl get md,sg,shards -o wide', 'mctl get md/smollm2-pipeline -o yaml')}`,
    )
    .action(async (words: string[], flags: GetFlags) => done(await get(cli, words, flags)))
  command(
    program,
    'describe [words...]',
    'Tell objects whole, with their events: TYPE [NAME…] or TYPE/NAME…; a name may be cut short.',
  )
    .usage('(TYPE [NAME...] | TYPE/NAME...) [options]')
    .addOption(namespaceOption())
    .option('-l, --selector <labels>', 'only objects with these labels')
    .option('--no-show-events', 'without the events')
    .addHelpText('after', `\n${examples('mctl describe node mini-1', 'mctl describe md/smollm2-pipeline')}`)
    .action(async (words: string[], flags: DescribeFlags) => done(await describe(cli, words, flags)))
  command(program, 'logs [words...]', 'The engine log of a shard, or of all shards of a group or deployment.')
    .usage('(SHARD | TYPE/NAME) [options]')
    .addOption(namespaceOption())
    .option('-f, --follow', 'go on with each new line')
    .option('--tail <lines>', 'only so many lines from the end')
    .option('-p, --previous', 'of the run before this one')
    .option('--prefix', 'begin each line with its shard')
    .addHelpText(
      'after',
      `\n${examples('mctl logs smollm2-pipeline-0-e1-0 --tail 20', 'mctl logs md/smollm2-pipeline -f')}`,
    )
    .action(async (words: string[], flags: LogsFlags) => done(await logs(cli, words, flags)))
  command(program, 'wait [words...]', 'Wait until a condition holds.')
    .usage('(TYPE NAME... | TYPE/NAME... | TYPE --all) --for=WHAT [options]')
    .addOption(namespaceOption())
    .option('--for <what>', 'condition=NAME[=VALUE], delete or create')
    .option('--timeout <duration>', '0: look once; negative: a week', '30s')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels')
    .addHelpText(
      'after',
      `\n${examples('mctl wait md/smollm2-pipeline --for=condition=Ready --timeout=5m', 'mctl wait md --all --for=delete')}`,
    )
    .action(async (words: string[], flags: WaitFlags) => done(await wait(cli, words, flags)))
  command(program, 'events', 'What happened.')
    .addOption(namespaceOption())
    .option('-A, --all-namespaces', 'of every namespace')
    .option('--for <type/name>', 'only of this object')
    .option('--types <Normal,Warning>', 'only of these types')
    .option('-w, --watch', 'go on with each new event')
    .option('--no-headers', 'without the header line')
    .addHelpText('after', `\n${examples('mctl events --for md/smollm2-pipeline', 'mctl events --types Warning')}`)
    .action(async (flags: EventsFlags) => done(await events(cli, flags)))
  command(program, 'chat <model> [prompt]', 'Talk with a model through the gateway; tokens per second at the end.')
    .option('--gateway <address>', 'address of the gateway (default: the one that the server names)')
    .option('--system <text>', 'system message')
    .option('--max-tokens <n>', 'at most so many tokens out')
    .option('--temperature <t>', '0: always the most likely token')
    .addHelpText('after', `\n${examples('mctl chat smollm2 "What is the capital of France?"')}`)
    .action(async (model: string, prompt: string | undefined, flags: ChatFlags) =>
      done(await chat(cli, model, prompt, flags)),
    )
  command(program, 'version', 'Versions of this program and of the server.')
    .option('--client', 'only of this program')
    .option('-o, --output <format>', 'json or yaml')
    .addHelpText('after', `\n${examples('mctl version', 'mctl version --client -o json')}`)
    .action(async (flags: VersionFlags) => done(await version(cli, flags)))
}
