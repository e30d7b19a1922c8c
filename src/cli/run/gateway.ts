/** `mctl gateway`: a gateway of its own, for the starter that `bin` made. */
import { Option } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import { serverAddress } from '../context.ts'

interface Flags {
  readonly server?: string
  readonly listen: string
  readonly credentials?: string
  readonly record?: string
  readonly cert?: string
  readonly key?: string
  readonly insecureHttp?: boolean
}

export const defineGateway: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .option('--listen <address>', 'address to serve on', '127.0.0.1:6481')
    .option('--cert <file>', 'certificate to show, PEM')
    .option('--key <file>', 'its key, PEM')
    .option('--insecure-http', 'plain HTTP over the network: whoever is on it can read prompts and API keys')
    .addOption(new Option('--credentials <file>', 'key and certificate of the gateway').hideHelp())
    .addOption(new Option('--record <file>', 'write pid and address here').hideHelp())
    .addHelpText('after', examples('mctl gateway --listen 127.0.0.1:6482'))
    .action(async (flags: Flags) =>
      done(
        await cli.starters.gateway({
          server: serverAddress(cli, flags.server),
          listen: flags.listen,
          credentials: flags.credentials,
          record: flags.record,
          gatewayCert: flags.cert,
          gatewayKey: flags.key,
          insecureHttp: flags.insecureHttp,
        }),
      ),
    )
}
