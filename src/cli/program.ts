/** The command line as commander knows it: names, flags and help. Each action is one function of its own file. */
import { Command, CommanderError, Option } from 'commander'
import type { AgentFlags, Cli, DevFlags } from './context.ts'
import { CliError, DEFAULT_SERVER, serverAddress } from './context.ts'
import type { ApplyFlags } from './apply.ts'
import { apply } from './apply.ts'
import type { ChatFlags } from './chat.ts'
import { chat } from './chat.ts'
import type { DeleteFlags } from './delete.ts'
import { deleteObjects } from './delete.ts'
import type { DescribeFlags } from './describe.ts'
import { describe } from './describe.ts'
import { failureOf, tell } from './errors.ts'
import type { EventsFlags } from './events.ts'
import { events } from './events.ts'
import type { GetFlags } from './get.ts'
import { get } from './get.ts'
import type { LogsFlags } from './logs.ts'
import { logs } from './logs.ts'
import type { PlanFlags } from './plan.ts'
import { plan } from './plan.ts'
import type { VersionFlags } from './version.ts'
import { version } from './version.ts'
import type { WaitFlags } from './wait.ts'
import { wait } from './wait.ts'

/** Runs one command; resolves with its exit code. Whatever goes wrong is told on stderr, it never rejects. */
export async function runCommand(cli: Cli, argv: readonly string[]): Promise<number> {
  let exitCode = 0
  const program = makeProgram(cli, (code) => (exitCode = code))
  try {
    await program.parseAsync(argv.length === 0 ? ['--help'] : [...argv], { from: 'user' })
    return exitCode
  } catch (error) {
    // Help was asked for and printed, or commander has said what was wrong with the call.
    if (error instanceof CommanderError) return error.exitCode
    const failure = failureOf(error)
    tell(cli, failure)
    return failure.exitCode
  }
}

type Done = (exitCode: number) => void

function makeProgram(cli: Cli, done: Done): Command {
  const program = new Command('mctl')
    .description('Runs language models on a cluster of Mac minis the way Kubernetes runs containers.')
    .enablePositionalOptions()
    .helpCommand(false)
    .configureHelp({ subcommandTerm: (sub) => sub.name() })
    .showHelpAfterError(seeHelp('mctl'))
    .exitOverride()
    .configureOutput({
      writeOut: (text) => cli.terminal.out(text),
      writeErr: (text) => cli.terminal.err(text),
      outputError: (text, write) => write(usageText(text)),
    })
    .addHelpText('after', `\n${examples('mctl dev --nodes 2', 'mctl get nodes', 'mctl get --help')}`)
  addObjectCommands(program, cli, done)
  addReadingCommands(program, cli, done)
  addProcessCommands(program, cli, done)
  return program
}

const seeHelp = (name: string) => `See '${name} --help' for usage.`

/** commander's sentences in kubectl's words. */
const usageText = (text: string) =>
  text
    .replace(/^error: unknown option '(--[^']*)'/, 'error: unknown flag: $1')
    .replace(/^error: unknown option '(-[^']*)'/, "error: unknown shorthand flag in '$1'")
    .replace(/^error: unknown command '([^']*)'/, 'error: unknown command "$1" for "mctl"')
    .replace(/^error: option '(?:-\w, )?(--[\w-]+)[^']*' argument missing/, 'error: flag needs an argument: $1')

/** The lines that a test runs, too. */
const examples = (...lines: readonly string[]) =>
  `${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`

/** Each command inherits exitOverride and output; every command that talks to a server takes --server. */
function command(program: Command, usage: string, description: string): Command {
  return plainCommand(program, usage, description).option(
    '-s, --server <address>',
    `address of the server (default: $MCTL_SERVER, else ${DEFAULT_SERVER})`,
  )
}

function plainCommand(program: Command, usage: string, description: string): Command {
  const [name = ''] = usage.split(' ')
  return program
    .command(usage)
    .description(description)
    .showHelpAfterError(seeHelp(`mctl ${name}`))
}

const collect = (value: string, previous: readonly string[] | undefined) => [...(previous ?? []), value]
const fileOption = () =>
  new Option('-f, --filename <path>', 'a file, a directory, or - for standard input; may be repeated').argParser(
    collect,
  )
const namespaceOption = () => new Option('-n, --namespace <name>', 'the namespace (default: default)')

function addObjectCommands(program: Command, cli: Cli, done: Done): void {
  command(program, 'apply [words...]', 'Make the cluster as the manifests say.')
    .usage('-f FILE [options]')
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('--server-side', 'always on: mctl applies on the server')
    .option('--force-conflicts', 'take over fields that another manager owns')
    .option('--field-manager <name>', 'who owns the fields', 'mctl')
    .option('--validate <strict|warn|ignore>', 'unknown fields are errors, told, or left out in silence', 'strict')
    .option('-o, --output <format>', 'name, json or yaml')
    .option('--wait', 'until every ModelDeployment is Ready')
    .option('--timeout <duration>', 'for --wait', '10m')
    .addHelpText(
      'after',
      `\n${examples('mctl apply -f manifests/demo/pipeline.yaml --dry-run=server', 'mctl apply -f manifests/demo/pipeline.yaml --wait')}`,
    )
    .action(async (words: string[], flags: ApplyFlags) => done(await apply(cli, words, flags)))
  command(program, 'delete [words...]', 'Delete objects; ends when the processes behind them are gone.')
    .usage('(TYPE NAME... | TYPE/NAME... | TYPE --all | -f FILE) [options]')
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=a')
    .option('--no-wait', 'return at once')
    .option('--timeout <duration>', 'how long to wait; 0: as long as it takes', '0')
    .option('--cascade <background|foreground|orphan>', 'what becomes of the objects below', 'background')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--dry-run <none|server>', 'only say what would happen', 'none')
    .option('-o, --output <format>', 'name')
    .addHelpText(
      'after',
      `\n${examples('mctl delete md/smollm2-pipeline', 'mctl delete -f manifests/demo/pipeline.yaml --ignore-not-found')}`,
    )
    .action(async (words: string[], flags: DeleteFlags) => done(await deleteObjects(cli, words, flags)))
  command(program, 'plan', 'Would it fit, where, how fast, and why not otherwise. Nothing is written.')
    .addOption(fileOption())
    .addOption(
      new Option('--nodes <path>', 'plan offline on the Nodes of this file; no server is asked').argParser(collect),
    )
    .option('-R, --recursive', 'also the folders below')
    .option('--independent', 'plan each deployment as if it were alone')
    .option('-o, --output <format>', 'wide, json or yaml')
    .addHelpText(
      'after',
      `\n${examples('mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml')}`,
    )
    .action(async (flags: PlanFlags) => done(await plan(cli, flags)))
}

function addReadingCommands(program: Command, cli: Cli, done: Done): void {
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

function addProcessCommands(program: Command, cli: Cli, done: Done): void {
  plainCommand(program, 'server', 'Run the control plane, with a gateway beside it.')
    .option(
      '--data-dir <dir>',
      "where the cluster is kept (default: $MCTL_DATA_DIR, else under the user's data folder)",
    )
    .option('--listen <address>', 'address for commands and agents', '127.0.0.1:6480')
    .option('--gateway <address>', 'address of the OpenAI gateway; "none" for none', '127.0.0.1:6481')
    .addHelpText(
      'after',
      `\n${examples('mctl server --data-dir ~/mctl --listen 127.0.0.1:6480 --gateway 127.0.0.1:6481')}`,
    )
    .action(async (flags: { dataDir?: string; listen: string; gateway: string }) =>
      done(await cli.starters.server({ dataDir: flags.dataDir, listen: flags.listen, gateway: flags.gateway })),
    )
  command(program, 'gateway', 'Run an OpenAI gateway of its own.')
    .option('--listen <address>', 'address to serve on', '127.0.0.1:6481')
    .addOption(new Option('--record <file>', 'write pid and address here').hideHelp())
    .addHelpText('after', `\n${examples('mctl gateway --listen 127.0.0.1:6482')}`)
    .action(async (flags: { server?: string; listen: string; record?: string }) =>
      done(
        await cli.starters.gateway({
          server: serverAddress(cli, flags.server),
          listen: flags.listen,
          record: flags.record,
        }),
      ),
    )
  command(program, 'agent', 'Run the agent of this Mac. SIGTERM leaves its shards running.')
    .option('--name <name>', 'name of the node (default: the host name)')
    .option(
      '--data-dir <dir>',
      "where the agent keeps its state (default: $MCTL_DATA_DIR, else under the user's data folder)",
    )
    .option(
      '--models-dir <dir>',
      "folder with the model folders (default: $MCTL_MODELS_DIR, else under the user's data folder)",
    )
    .option('--port-range <a-b>', 'ports for doors and rings, outside the ephemeral range')
    .option(
      '--simulate <spec>',
      'report other figures, e.g. "chip=Apple M4,memory=16Gi,gpuCores=10"; engines stay real',
    )
    .option('--share <n>', 'report one n-th of the machine')
    .addHelpText(
      'after',
      `\n${examples('mctl agent --name mini-1', 'mctl agent --name lab-1 --simulate "chip=Apple M4,memory=16Gi,gpuCores=10"')}`,
    )
    .action(
      async (
        flags: Partial<
          Record<'server' | 'name' | 'dataDir' | 'modelsDir' | 'portRange' | 'simulate' | 'share', string>
        >,
      ) => {
        const options: AgentFlags = {
          server: serverAddress(cli, flags.server),
          name: flags.name,
          dataDir: flags.dataDir,
          modelsDir: flags.modelsDir,
          portRange: flags.portRange,
          simulate: flags.simulate,
          share: flags.share === undefined ? undefined : positiveInteger('--share', flags.share),
        }
        done(await cli.starters.agent(options))
      },
    )
  plainCommand(
    program,
    'dev',
    'Run a server and agents on this machine; prints "ready" when every node is Ready. Ctrl-C stops everything.',
  )
    .option('--nodes <n>', 'how many agents', '1')
    .option('--simulate <spec>', 'figures that all agents report, e.g. "chip=Apple M4,memory=16Gi"')
    .option('--data-dir <dir>', 'where to keep state (default: a fresh temporary folder)')
    .option('--listen <address>', 'address for commands and agents', '127.0.0.1:6480')
    .option('--gateway <address>', 'address of the OpenAI gateway', '127.0.0.1:6481')
    .addHelpText(
      'after',
      `\n${examples('mctl dev --nodes 2', 'mctl dev --nodes 2 --simulate "chip=Apple M4,memory=16Gi,gpuCores=10"')}`,
    )
    .action(async (flags: { nodes: string; simulate?: string; dataDir?: string; listen: string; gateway: string }) => {
      const options: DevFlags = {
        nodes: positiveInteger('--nodes', flags.nodes),
        simulate: flags.simulate,
        dataDir: flags.dataDir,
        listen: flags.listen,
        gateway: flags.gateway,
      }
      done(await cli.starters.dev(options))
    })
}

function positiveInteger(flag: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new CliError(`${flag} must be an integer greater than or equal to 1, not "${text}"`)
  return value
}
