/** What every command gets: the terminal, the way to the server, time, and the starters that only `bin` can make. */
import type { Clock, Random } from '../lib/clock.ts'
import type { Client } from '../rpc/messages.ts'
import type { ClientTls } from '../rpc/tls.ts'
import { credentialsFor } from './config/signin.ts'
import type { Machine } from './service/machine.ts'

export interface Terminal {
  /** stdout: only the documented sentences, tables and JSON. */
  out(text: string): void
  /** stderr: hints, progress, errors. */
  err(text: string): void
  readonly isTty: boolean
  readStdin(): Promise<Uint8Array>
  /** A line that a person typed, undefined at the end of input. For `mctl chat`. */
  question(prompt: string): Promise<string | undefined>
  /** Lets a person edit the file; `editor` is the command line of the editor. Resolves when it has ended. */
  edit(editor: string, file: string): Promise<void>
}

export interface Cli {
  readonly terminal: Terminal
  readonly env: Readonly<Record<string, string | undefined>>
  /** Folder that paths of the command line start from. */
  readonly cwd: string
  readonly clock: Clock
  readonly random: Random
  /** Aborts on SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  readonly version: string
  /** Without credentials the call says who it is by header. */
  /** Loaded when it is called for: not every command talks to a server. */
  connect(address: string, credentials?: ClientTls): Client | Promise<Client>
  readonly starters: Starters
  /** Loaded when a command asks for it. */
  machine(): Promise<Machine>
}

/** Commands that become long-lived processes; `bin` wires them. Each resolves with the exit code. */
export interface Starters {
  server(options: ServerFlags): Promise<number>
  gateway(options: GatewayFlags): Promise<number>
  agent(options: AgentFlags): Promise<number>
  dev(options: DevFlags): Promise<number>
  /** Joins with the token, unless the data folder holds credentials or the server is on loopback without identities. */
  join(options: JoinFlags): Promise<void>
  /** `Set` is a dry run always: setting is the agent's. */
  thunderbolt(options: ThunderboltFlags): Promise<ThunderboltReport>
  backup(options: BackupFlags): Promise<{ readonly withAuthority: boolean }>
  restore(options: BackupFlags): Promise<{ readonly withAuthority: boolean }>
}
/** `folder` is the backup's; `dataDir` the server's, undefined: where `mctl server` keeps it. */
/** One look at the addresses of Thunderbolt links, or undoing them; no agent runs. */
export interface ThunderboltFlags {
  readonly verb: 'Set' | 'Undo'
  readonly dryRun: boolean
  readonly server: string
  readonly name: string
  readonly dataDir: string
}
/** What was done, or with `dryRun` would be; and why something is not. */
export interface ThunderboltReport {
  readonly steps: readonly { readonly argv: readonly string[]; readonly why: string }[]
  readonly refusals: readonly { readonly message: string }[]
  /** Cables with addresses of their own. */
  readonly cables: readonly { readonly peer: string; readonly address: string }[]
}
export interface BackupFlags {
  readonly folder: string
  readonly dataDir: string | undefined
}
export interface JoinFlags {
  readonly server: string
  readonly name: string
  readonly dataDir: string
  readonly token: string | undefined
}
export interface ServerFlags {
  readonly dataDir: string | undefined
  readonly listen: string
  readonly gateway: string
  /** PEM files of the gateway's own certificate and key; absent: of the cluster's authority, where others reach it. */
  readonly gatewayCert?: string | undefined
  readonly gatewayKey?: string | undefined
  /** Plain HTTP over the network. */
  readonly gatewayInsecureHttp?: boolean | undefined
  /** Address for webhooks; absent or `none`: none. */
  readonly webhooks?: string
  /** Address of `/metrics`; absent or `none`: none. */
  readonly metrics?: string
}
export interface GatewayFlags {
  readonly server: string
  readonly listen: string
  /** File with the gateway's key and certificate; undefined: the cluster has no identities. */
  readonly credentials: string | undefined
  /** PEM files; absent: plain HTTP. */
  readonly gatewayCert?: string | undefined
  readonly gatewayKey?: string | undefined
  readonly insecureHttp?: boolean | undefined
  /** File in which a gateway that a server started says who and where it is. */
  readonly record: string | undefined
}
export interface AgentFlags {
  readonly server: string
  readonly name: string | undefined
  readonly dataDir: string | undefined
  readonly modelsDir: string | undefined
  readonly portRange: string | undefined
  readonly simulate: string | undefined
  /** Of `mctl join-token create`. */
  readonly token: string | undefined
  readonly configureThunderbolt?: boolean | undefined
  /** N: report 1/N of the machine (several agents of one `mctl dev`). */
  readonly share: number | undefined
}
export interface DevFlags {
  readonly nodes: number
  readonly simulate: string | undefined
  readonly dataDir: string | undefined
  readonly listen: string
  readonly gateway: string
}

/** A mistake in how the command was called or in its input; printed as `error: …`, exit 1. */
export class CliError extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.name = 'CliError'
    this.exitCode = exitCode
  }
}

export const DEFAULT_SERVER = '127.0.0.1:6480'

export const serverAddress = (cli: Pick<Cli, 'env'>, flag: string | undefined): string =>
  flag ?? cli.env['MCTL_SERVER'] ?? DEFAULT_SERVER

/** Runs `use` with a client and closes it whatever happens. */
export async function withClient<T>(
  cli: Cli,
  server: string | undefined,
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const address = serverAddress(cli, server)
  const client = await cli.connect(address, credentialsFor(cli, address))
  try {
    return await use(client)
  } finally {
    client.close()
  }
}
