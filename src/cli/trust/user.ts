/** `mctl user`: people and what they may do. The key is made here and never leaves the file that it is written to. */
import { existsSync } from 'node:fs'
import { API_VERSION } from '../../api/meta.ts'
import { roles } from '../../api/trust.ts'
import { makeKey, makeRequest } from '../../lib/x509.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import { writeConfig } from '../config/file.ts'
import { credentialsFor } from '../config/signin.ts'
import type { Cli } from '../context.ts'
import { CliError, serverAddress, withClient } from '../context.ts'
import { resolve } from 'node:path'
import { addRights } from './rights.ts'

interface CreateFlags {
  readonly server?: string
  readonly role: string
  readonly out?: string
}

export const defineUser: Define = (command, cli, done) => {
  command.addHelpText(
    'after',
    examples('mctl user create ann --role operator', 'mctl user list', 'mctl user delete ann'),
  )
  subcommand(command, 'create <name>', 'Let a person in; writes the config file to give to them.')
    .addOption(serverOption())
    .option('--role <role>', `${roles.join(', ')}`, 'viewer')
    .option('--out <file>', 'where to (default: NAME.yaml)')
    .action(async (name: string, flags: CreateFlags) => done(await create(cli, name, flags)))
  addRights(command, cli, done, {
    kind: 'user',
    list: 'List the people and their roles.',
    verb: 'delete',
    remove: 'Shut a person out, at once.',
  })
}

async function create(cli: Cli, name: string, { server, role, out = `${name}.yaml` }: CreateFlags): Promise<number> {
  const file = resolve(cli.cwd, out)
  if (existsSync(file)) throw new CliError(`${file} is there already: move it away, or name another file with --out`)
  const address = serverAddress(cli, server)
  if (credentialsFor(cli, address) === undefined)
    throw new CliError(
      `the cluster at ${address} has no identities, so everybody on this machine is admin. \`mctl server --listen 0.0.0.0:6480\` gives it some`,
    )
  const object = { apiVersion: API_VERSION, kind: 'User', metadata: { name }, spec: { role } }
  const key = await makeKey()
  const requestPem = await makeRequest(key, { commonName: name, organization: '' })
  const { certificatePem, authorityPem } = await withClient(cli, server, async (client) => {
    await client.create({ object, options: { fieldManager: 'mctl' } })
    return client.sign({ user: name, requestPem })
  })
  const context = { name, server: address, authority: authorityPem, certificate: certificatePem, key }
  writeConfig(file, { currentContext: name, contexts: [context] })
  cli.terminal.out(`user.mctl.dev/${name} created\n`)
  cli.terminal.err(
    `${file} lets its holder in as ${role}: give it to ${name} over a safe way, and delete it here. It is used with MCTL_CONFIG=${out}.\n`,
  )
  return 0
}
