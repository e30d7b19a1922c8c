/** `mctl node reset`: the same Mac, set up anew, may take its name again; what it held before is void. */
import { timestamp } from '../../api/meta.ts'
import { RESET_ANNOTATION } from '../../api/trust.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import { credentialsFor } from '../config/signin.ts'
import { CliError, serverAddress, withClient } from '../context.ts'

export const defineNode: Define = (command, cli, done) => {
  command.addHelpText('after', examples('mctl node reset mini-2'))
  subcommand(command, 'reset <name>', "Void a node's certificates and let its name join anew.")
    .addOption(serverOption())
    .action(async (name: string, { server }: { server?: string }) => {
      const address = serverAddress(cli, server)
      if (credentialsFor(cli, address) === undefined)
        throw new CliError(
          `the cluster at ${address} has no identities, so its nodes hold no certificates that could be voided. An agent whose machine was set up anew takes its name again by itself`,
        )
      const annotations = { [RESET_ANNOTATION]: timestamp(cli.clock.nowMs()) }
      const ref = { kind: 'Node', namespace: '', name } as const
      const patch = { metadata: { annotations } }
      await withClient(cli, server, (client) =>
        client.patch({ ref, type: 'merge', patch, options: { fieldManager: 'mctl' } }),
      )
      cli.terminal.out(`node.mctl.dev/${name} reset\n`)
      cli.terminal.err(`Its agent is shut out. \`mctl join-token create --node ${name}\` lets it in again.\n`)
      done(0)
    })
}
