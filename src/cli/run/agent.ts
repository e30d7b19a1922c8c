/** `mctl agent`: the flags of a Mac's agent, for the starter that `bin` made. */
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { AgentFlags } from '../context.ts'
import { CliError, serverAddress } from '../context.ts'
import { positiveInteger } from '../flags.ts'
import { addServiceCommands } from '../service/commands.ts'
import { thunderbolt } from '../service/thunderbolt.ts'

export const defineAgent: Define = (command, cli, done) => {
  addServiceCommands(command, cli, done)
  command
    .addOption(serverOption())
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
    .option('--token <token>', 'of `mctl join-token create`, for the first start (better: $MCTL_TOKEN)')
    .option(
      '--configure-thunderbolt',
      'give cables to other nodes addresses of their own while it runs (macOS, root); the Thunderbolt Bridge goes off where nothing else needs it',
    )
    .option('--undo-thunderbolt', 'give back what that had changed of the network, and end')
    .option('--dry-run', 'with one of these: only say which commands it takes, and end')
    .addHelpText(
      'after',
      examples(
        'mctl agent --name mini-1',
        'mctl agent install --server 127.0.0.1:6480 --name mini-1',
        'mctl agent doctor',
        'mctl agent --configure-thunderbolt --dry-run',
        'mctl agent --configure-thunderbolt',
        'mctl agent --undo-thunderbolt',
        'mctl agent --name lab-1 --simulate "chip=Apple M4,memory=16Gi,gpuCores=10"',
      ),
    )
    .action(
      async (
        flags: Partial<
          Record<'server' | 'name' | 'dataDir' | 'modelsDir' | 'portRange' | 'simulate' | 'share' | 'token', string>
        > &
          Partial<Record<'configureThunderbolt' | 'undoThunderbolt' | 'dryRun', boolean>>,
      ) => {
        const verb = thunderboltVerb(flags)
        if (verb !== undefined) {
          const { server, name, dataDir, dryRun = false } = flags
          return done(await thunderbolt(cli, { verb, dryRun, server, name, dataDir }))
        }
        const options: AgentFlags = {
          server: serverAddress(cli, flags.server),
          name: flags.name,
          dataDir: flags.dataDir,
          modelsDir: flags.modelsDir,
          portRange: flags.portRange,
          simulate: flags.simulate,
          configureThunderbolt: flags.configureThunderbolt,
          token: flags.token ?? (cli.env['MCTL_TOKEN'] || undefined),
          share: flags.share === undefined ? undefined : positiveInteger('--share', flags.share),
        }
        done(await cli.starters.agent(options))
      },
    )
}

/** undefined: an agent is to run. */
function thunderboltVerb(flags: {
  readonly configureThunderbolt?: boolean
  readonly undoThunderbolt?: boolean
  readonly dryRun?: boolean
}): 'Set' | 'Undo' | undefined {
  const { configureThunderbolt: set = false, undoThunderbolt: undo = false, dryRun = false } = flags
  if (set && undo)
    throw new CliError('--configure-thunderbolt and --undo-thunderbolt are each other’s opposite: give one')
  if (dryRun && !set && !undo) throw new CliError('--dry-run goes with --configure-thunderbolt or --undo-thunderbolt')
  return undo ? 'Undo' : dryRun ? 'Set' : undefined
}
