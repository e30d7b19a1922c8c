/** `mctl server`: the flags of the control plane, for the starter that `bin` made. */
import type { Define } from '../commandform.ts'
import { examples } from '../commandform.ts'

export const defineServer: Define = (command, cli, done) => {
  command
    .option(
      '--data-dir <dir>',
      "where the cluster is kept (default: $MCTL_DATA_DIR, else under the user's data folder)",
    )
    .option('--listen <address>', 'address for commands and agents', '127.0.0.1:6480')
    .option('--gateway <address>', 'address of the OpenAI gateway; "none" for none', '127.0.0.1:6481')
    .addHelpText('after', examples('mctl server --data-dir ~/mctl --listen 127.0.0.1:6480 --gateway 127.0.0.1:6481'))
    .action(async (flags: { dataDir?: string; listen: string; gateway: string }) =>
      done(await cli.starters.server({ dataDir: flags.dataDir, listen: flags.listen, gateway: flags.gateway })),
    )
}
