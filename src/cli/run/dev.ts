/** `mctl dev`: a cluster on this machine, for the starter that `bin` made. */
import type { Define } from '../commandform.ts'
import { examples } from '../commandform.ts'
import type { DevFlags } from '../context.ts'
import { positiveInteger } from '../flags.ts'

export const defineDev: Define = (command, cli, done) => {
  command
    .option('--nodes <n>', 'how many agents', '1')
    .option('--simulate <spec>', 'figures that all agents report, e.g. "chip=Apple M4,memory=16Gi"')
    .option('--data-dir <dir>', 'where to keep state (default: a fresh temporary folder)')
    .option('--listen <address>', 'address for commands and agents', '127.0.0.1:6480')
    .option('--gateway <address>', 'address of the OpenAI gateway', '127.0.0.1:6481')
    .addHelpText(
      'after',
      examples('mctl dev --nodes 2', 'mctl dev --nodes 2 --simulate "chip=Apple M4,memory=16Gi,gpuCores=10"'),
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
