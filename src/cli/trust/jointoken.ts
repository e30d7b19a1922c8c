/** `mctl join-token`: what lets one Mac into the cluster, once. */
import type { Authority } from '../../api/authority.ts'
import { shownOf } from '../../api/authority.ts'
import { API_VERSION, timestamp } from '../../api/meta.ts'
import { formatJoinSecret, hashOfSecret } from '../../api/trust.ts'
import { fingerprintsIn } from '../../lib/x509.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption, subcommand } from '../commandform.ts'
import { credentialsFor } from '../config/signin.ts'
import type { Cli } from '../context.ts'
import { CliError, serverAddress, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { addRights } from './rights.ts'
import { freshId, freshSecret } from './secret.ts'

interface CreateFlags {
  readonly server?: string
  readonly node?: string
  readonly ttl: string
}

export const defineJoinToken: Define = (command, cli, done) => {
  command.addHelpText(
    'after',
    examples('mctl join-token create', 'mctl join-token create --node mini-2 --ttl 10m', 'mctl join-token list'),
  )
  subcommand(command, 'create', 'Make a token that lets one Mac join; prints the line to run there.')
    .addOption(serverOption())
    .option('--node <name>', 'the only node name that it is for (default: any that is free)')
    .option('--ttl <duration>', 'how long it may be used', '1h')
    .action(async (flags: CreateFlags) => done(await create(cli, flags)))
  addRights(command, cli, done, {
    kind: 'jointoken',
    list: 'List the tokens; their secrets are kept nowhere.',
    verb: 'delete',
    remove: 'Take a token back.',
  })
}

async function create(cli: Cli, { server, node, ttl }: CreateFlags): Promise<number> {
  const address = serverAddress(cli, server)
  const authorityPem = credentialsFor(cli, address)?.authorityPem
  if (authorityPem === undefined) throw new CliError(noIdentities(address))
  const ttlMs = parseDurationMs(ttl)
  if (ttlMs <= 0) throw new CliError(`--ttl must be longer than nothing, not "${ttl}"`)
  const id = freshId('t', cli.random)
  const secret = freshSecret(cli.random)
  const spec = {
    secretHash: hashOfSecret(secret),
    expiresAt: timestamp(cli.clock.nowMs() + ttlMs),
    ...(node === undefined ? {} : { node }),
  }
  const object = { apiVersion: API_VERSION, kind: 'JoinToken', metadata: { name: id }, spec }
  const authorityHash = await withClient(cli, server, async (client) => {
    await client.create({ object, options: { fieldManager: 'mctl' } })
    return shownHash(client, authorityPem)
  })
  const token = formatJoinSecret({ authorityHash, id, secret })
  // In the environment, not among the arguments: those every user of the Mac can read.
  const flags = `--server ${address}${node === undefined ? '' : ` --name ${node}`}`
  cli.terminal.out(`MCTL_TOKEN=${token} mctl agent ${flags}\n`)
  cli.terminal.err(
    `Run this on the Mac that joins, within ${ttl}; as a service: MCTL_TOKEN=… sudo -E mctl agent install ${flags}\nThe token lets one node in and is not shown again.\n`,
  )
  return 0
}

/** Of two authorities the one whose certificate the server shows: a Mac that joins compares it. */
async function shownHash(client: Client, authorityPem: string): Promise<string> {
  const [known = '', ...others] = fingerprintsIn(authorityPem)
  if (others.length === 0) return known
  const { items } = await client.list({ kind: 'Authority' })
  return shownOf(items as readonly Authority[])?.spec.fingerprint ?? known
}

const noIdentities = (address: string): string =>
  `the cluster at ${address} has no identities yet: it serves this machine only. Start its server on an address that the other Macs reach, e.g. \`mctl server --listen 0.0.0.0:6480\`, and call again with MCTL_DATA_DIR set to its data folder (its admin.yaml says who you are)`
