/** `mctl api-key`: keys of the programs that ask the gateway. A key is shown once; the cluster keeps its hash. */
import { API_VERSION } from '../../api/meta.ts'
import { hashOfSecret } from '../../api/trust.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { withClient } from '../context.ts'
import { positiveInteger } from '../flags.ts'
import { addRights } from './rights.ts'
import { freshSecret } from './secret.ts'

interface CreateFlags {
  readonly server?: string
  readonly perMinute?: string
}

export const defineApiKey: Define = (command, cli, done) => {
  command.addHelpText(
    'after',
    examples('mctl api-key create notebook', 'mctl api-key list', 'mctl api-key revoke notebook'),
  )
  subcommand(command, 'create <name>', 'Make a key; it is printed once.')
    .addOption(serverOption())
    .option('--per-minute <n>', 'most requests in a minute (default: no limit)')
    .action(async (name: string, flags: CreateFlags) => done(await create(cli, name, flags)))
  addRights(command, cli, done, {
    kind: 'apikey',
    list: 'List the keys; their secrets are kept nowhere.',
    verb: 'revoke',
    remove: 'Make a key worthless, at once.',
  })
}

async function create(cli: Cli, name: string, { server, perMinute }: CreateFlags): Promise<number> {
  const secret = `mctl-${freshSecret(cli.random)}`
  const limit = perMinute === undefined ? {} : { requestsPerMinute: positiveInteger('--per-minute', perMinute) }
  const spec = { secretHash: hashOfSecret(secret), ...limit }
  const object = { apiVersion: API_VERSION, kind: 'ApiKey', metadata: { name }, spec }
  await withClient(cli, server, (client) => client.create({ object, options: { fieldManager: 'mctl' } }))
  cli.terminal.out(`${secret}\n`)
  cli.terminal.err('Clients send it as Authorization: Bearer KEY (OPENAI_API_KEY). It is not shown again.\n')
  return 0
}
