/** `mctl gateway`: a gateway of its own, for the starter that `bin` made. */
import { Option } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import { serverAddress } from '../context.ts'

export const defineGateway: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .option('--listen <address>', 'address to serve on', '127.0.0.1:6481')
    .addOption(new Option('--credentials <file>', 'key and certificate of the gateway').hideHelp())
    .addOption(new Option('--record <file>', 'write pid and address here').hideHelp())
    .addHelpText('after', examples('mctl gateway --listen 127.0.0.1:6482'))
    .action(async (flags: { server?: string; listen: string; credentials?: string; record?: string }) =>
      done(
        await cli.starters.gateway({
          server: serverAddress(cli, flags.server),
          listen: flags.listen,
          credentials: flags.credentials,
          record: flags.record,
        }),
      ),
    )
}
