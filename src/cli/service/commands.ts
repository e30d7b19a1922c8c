/** `mctl agent install | uninstall | status | doctor`: the agent as a service of this machine, and what the machine lacks. */
import { join } from 'node:path'
import type { Command } from 'commander'
import { examples, serverOption, subcommand } from '../commandform.ts'
import type { Done } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, serverAddress } from '../context.ts'
import { formatTable } from '../printers/table.ts'
import type { Check } from './checks.ts'
import { ENGINE, ENGINE_REMEDY, MEMBERSHIP, examine } from './checks.ts'
import type { AgentPlace, Machine } from './machine.ts'
import { startService, stopService } from './start.ts'
import { LABEL, UNIT, launchDaemon, systemdUnit } from './units.ts'

interface Flags {
  readonly server?: string
  readonly name?: string
  readonly dataDir?: string
  readonly modelsDir?: string
  readonly configureThunderbolt?: boolean
}

export function addServiceCommands(agent: Command, cli: Cli, done: Done): void {
  // `--server` before the subcommand is the agent's own: both places count.
  const flagsOf = (command: Command) => command.optsWithGlobals<Flags>()
  const below = (name: string, summary: string) => subcommand(agent, name, summary)
  const placed = (name: string, summary: string) =>
    below(name, summary)
      .addOption(serverOption())
      .option('--name <name>', 'name of the node (default: the host name)')
      .option('--data-dir <dir>', 'where the agent keeps its state')
      .option('--models-dir <dir>', 'folder with the model folders')
  placed('install', 'Join with $MCTL_TOKEN if need be, and run the agent as a service from now on. Needs root.')
    .option(
      '--configure-thunderbolt',
      'give cables to other nodes addresses of their own, at each start and change (macOS)',
    )
    .addHelpText(
      'after',
      examples(
        'mctl agent install --server 10.0.0.5:6480 --name mini-2',
        'mctl agent install --server 10.0.0.5:6480 --name mini-2 --configure-thunderbolt',
      ),
    )
    .action(async (_: object, called: Command) => done(await install(cli, flagsOf(called))))
  below(
    'uninstall',
    'Stop the service and remove it; what the agent keeps, and running shards, stay. Needs root.',
  ).action(async () => done(await uninstall(cli)))
  below('status', 'What the service of this machine is doing.').action(async () => done(await status(cli)))
  placed('doctor', 'Check what this machine needs to be a good node, each with its remedy.').action(
    async (_: object, called: Command) => done(await doctor(cli, flagsOf(called))),
  )
}

async function install(cli: Cli, flags: Flags): Promise<number> {
  const { terminal } = cli
  const machine = await cli.machine()
  requireRoot(machine, 'install')
  const server = serverAddress(cli, flags.server)
  const configures = flags.configureThunderbolt === true
  if (configures && machine.platform !== 'darwin')
    throw new CliError('install the agent with --configure-thunderbolt: that is for macOS; nothing was changed')
  const place = await machine.agentPlace(flags)
  const lacking = examine(await machine.facts(place, server)).filter(({ state }) => state !== 'OK')
  // What this command sees to is nothing to tell people to do.
  const found = lacking.filter(({ name }) => name !== MEMBERSHIP && name !== ENGINE)
  if (found.length > 0) terminal.err(tableOf(found))
  if (found.some(({ state }) => state === 'Fail'))
    throw new CliError('install the agent: this machine is not fit yet; nothing was changed. See above what to do')
  if (lacking.some(({ name }) => name === ENGINE)) await installEngine(cli, machine, place)
  await cli.starters.join({ server, ...place, token: cli.env['MCTL_TOKEN'] || undefined })
  const flagWords = [
    '--server',
    server,
    '--name',
    place.name,
    '--data-dir',
    place.dataDir,
    '--models-dir',
    place.modelsDir,
    ...(configures ? ['--configure-thunderbolt'] : []),
  ]
  const spec = {
    argv: [...machine.program, 'agent', ...flagWords],
    env: { MCTL_HOME: place.home, ...(machine.platform === 'darwin' ? { MCTL_LOG_FILE: machine.agentLog } : {}) },
    logFile: machine.agentLog,
  }
  const file = machine.platform === 'darwin' ? launchDaemon(spec) : systemdUnit(spec)
  await machine.write(file.path, file.text)
  await startService(cli, machine, file.path)
  terminal.out(`agent ${place.name} installed\n`)
  terminal.err(`${file.path} starts it with the machine. \`mctl agent status\` says how it does.\n`)
  return 0
}

/** Without it the Mac joins all the same: it may be there for llama.cpp, or get it later. */
async function installEngine({ terminal }: Cli, machine: Machine, place: AgentPlace): Promise<void> {
  terminal.err(`${ENGINE} is not on this machine yet: installing it into ${place.home} (some minutes)\n`)
  const code = await machine.installEngine(place)
  if (code !== 0)
    terminal.err(`${ENGINE} was not installed (exit code ${code}): the node joins without it. ${ENGINE_LATER}\n`)
}

const ENGINE_LATER = `Later: ${ENGINE_REMEDY}; the agent finds it at its next start`

async function uninstall(cli: Cli): Promise<number> {
  const machine = await cli.machine()
  requireRoot(machine, 'uninstall')
  const path = servicePath(machine)
  if (!machine.exists(path)) throw new CliError(`there is no agent service on this machine: ${path} is not there`)
  await stopService(machine)
  await machine.remove(path)
  cli.terminal.out('agent uninstalled\n')
  cli.terminal.err('Its shards run on until their server stops them; its data folder and credentials stay.\n')
  const { dataDir } = await machine.agentPlace({})
  if (machine.exists(join(dataDir, 'thunderbolt.json')))
    cli.terminal.err(
      'Addresses of Thunderbolt links are still set: `sudo -E mctl agent --undo-thunderbolt`, or a restart of this Mac, takes them away.\n',
    )
  return 0
}

async function status(cli: Cli): Promise<number> {
  const { terminal } = cli
  const machine = await cli.machine()
  const path = servicePath(machine)
  if (!machine.exists(path)) {
    terminal.out('not installed\n')
    terminal.err('`mctl agent install` makes the agent a service of this machine.\n')
    return 1
  }
  const darwin = machine.platform === 'darwin'
  const asked = await machine.run(
    darwin
      ? ['launchctl', 'print', `system/${LABEL}`]
      : ['systemctl', 'show', UNIT, '-p', 'ActiveState,MainPID,Result'],
  )
  const state = darwin ? launchdState(asked.output) : systemdState(asked.output)
  terminal.out(`${state.running ? 'running' : 'not running'}${state.pid === undefined ? '' : `, pid ${state.pid}`}\n`)
  const where = darwin ? machine.agentLog : `journalctl -u ${UNIT}`
  if (!state.running) terminal.err(`${state.why === undefined ? '' : `${state.why}. `}Its log: ${where}\n`)
  return state.running ? 0 : 1
}

interface ServiceState {
  readonly running: boolean
  readonly pid?: string | undefined
  readonly why?: string
}

/** `launchctl print`: `state = running`, `pid = 123`, `last exit code = 1`. Recorded outputs: shared/data/macos. */
export function launchdState(output: string): ServiceState {
  const field = (name: string) => new RegExp(`^\\s*${name} = (.+)$`, 'm').exec(output)?.[1]
  const running = field('state') === 'running'
  const code = field('last exit code')
  const why =
    code === undefined || running ? {} : { why: code.startsWith('(') ? 'It never ran' : `It exited with ${code}` }
  return { running, pid: field('pid'), ...why }
}

export function systemdState(output: string): ServiceState {
  const fields = new Map(output.split('\n').map((line) => line.split('=', 2) as [string, string]))
  const running = fields.get('ActiveState') === 'active'
  const pid = fields.get('MainPID')
  const why = running ? {} : { why: `systemd says ${fields.get('ActiveState')}, result ${fields.get('Result')}` }
  return { running, pid: pid === '0' ? undefined : pid, ...why }
}

async function doctor(cli: Cli, flags: Flags): Promise<number> {
  const { terminal } = cli
  const machine = await cli.machine()
  const place = await machine.agentPlace(flags)
  const checks = examine(await machine.facts(place, serverAddress(cli, flags.server)))
  terminal.out(tableOf(checks))
  return checks.some(({ state }) => state === 'Fail') ? 1 : 0
}

function tableOf(checks: readonly Check[]): string {
  const rows = checks.map(({ name, state, found, remedy = '' }) => [name, state, found, remedy])
  return formatTable(['CHECK', 'STATE', 'FOUND', 'WHAT TO DO'], rows)
}

const servicePath = ({ platform }: Machine): string => {
  const spec = { argv: [], env: {}, logFile: '' }
  return (platform === 'darwin' ? launchDaemon(spec) : systemdUnit(spec)).path
}

function requireRoot({ isRoot }: Machine, verb: string): void {
  if (!isRoot) throw new CliError(`${verb} the agent's service: only root may. Say it again with sudo -E`)
}
