/** `mctl server`: the flags of the control plane, for the starter that `bin` made; and its backups. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, subcommand } from '../commandform.ts'
import type { Cli, ServerFlags } from '../context.ts'

type Addresses = Omit<ServerFlags, 'dataDir'>

const DATA_DIR = [
  '--data-dir <dir>',
  "where the cluster is kept (default: $MCTL_DATA_DIR, else under the user's data folder)",
] as const

export const defineServer: Define = (command, cli, done) => {
  command
    .option(...DATA_DIR)
    .option('--listen <address>', 'address for commands and agents', '127.0.0.1:6480')
    .option('--gateway <address>', 'address of the OpenAI gateway; "none" for none', '127.0.0.1:6481')
    .option(
      '--gateway-cert <file>',
      'certificate that the gateway shows, PEM (default: of the cluster, renewed by itself)',
    )
    .option('--gateway-key <file>', 'its key, PEM')
    .option('--gateway-insecure-http', 'plain HTTP over the network: whoever is on it can read prompts and API keys')
    .option('--webhooks <address>', 'address for webhooks that hint at new commits', 'none')
    .option('--metrics <address>', 'address of /metrics (Prometheus) and /healthz', 'none')
    .addHelpText(
      'after',
      examples(
        'mctl server --data-dir ~/mctl --listen 127.0.0.1:6480 --gateway 127.0.0.1:6481',
        'mctl server backup ~/mctl-backup --data-dir ~/mctl',
        'mctl server restore ~/mctl-backup --data-dir ~/mctl-again',
      ),
    )
    .action(async ({ dataDir, ...addresses }: Addresses & { dataDir?: string }) =>
      done(await cli.starters.server({ dataDir, ...addresses })),
    )
  subcommand(command, 'backup <folder>', 'Copy the state of a server, which may be serving, into a new folder.')
    .option(...DATA_DIR)
    .action(async (folder: string, _: object, called: Command) => done(await backup(cli, folder, called)))
  subcommand(
    command,
    'restore <folder>',
    'Put a backup into a new data folder; the server that starts there goes on with it.',
  )
    .option(...DATA_DIR)
    .action(async (folder: string, _: object, called: Command) => done(await restore(cli, folder, called)))
}

const dataDirOf = (called: Command) => called.optsWithGlobals<{ dataDir?: string }>().dataDir

async function backup(cli: Cli, folder: string, called: Command): Promise<number> {
  const { withAuthority } = await cli.starters.backup({ folder: resolve(cli.cwd, folder), dataDir: dataDirOf(called) })
  cli.terminal.out(`backup ${folder} made\n`)
  if (withAuthority) cli.terminal.err(AUTHORITY_INSIDE)
  cli.terminal.err(`Restore it with \`mctl server restore ${folder} --data-dir NEW\`.\n`)
  return 0
}

const AUTHORITY_INSIDE =
  "The key of the cluster's authority is in it: whoever has it owns the cluster. Keep it as you keep the server's folder.\n"

async function restore(cli: Cli, folder: string, called: Command): Promise<number> {
  const dataDir = dataDirOf(called)
  await cli.starters.restore({ folder: resolve(cli.cwd, folder), dataDir })
  cli.terminal.out(`backup ${folder} restored\n`)
  cli.terminal.err(
    `Stop the server that it was taken from, if it still runs, and start this one: mctl server${dataDir === undefined ? '' : ` --data-dir ${dataDir}`}. Agents report to it by themselves when it has the old address.\n`,
  )
  return 0
}
