/** Commands that become long-lived processes: their flags, for the starters that `bin` made. */
import type { Command } from 'commander'
import { Option } from 'commander'
import type { Done } from './commandform.ts'
import { command, examples, plainCommand } from './commandform.ts'
import type { AgentFlags, Cli, DevFlags } from './context.ts'
import { CliError, serverAddress } from './context.ts'

export function addProcessCommands(program: Command, cli: Cli, done: Done): void {
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
