/** Composition root of `mctl agent`: argv and environment → agent/main.ts. SIGTERM leaves its shards running. */
import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_ENDPOINT } from '../../agent/fetch/hub.ts'
import { joinCluster, readCredentials } from '../../agent/credentials.ts'
import { runAgent } from '../../agent/main.ts'
import { CliError } from '../cli/context.ts'
import type { AgentFlags, JoinFlags } from '../cli/context.ts'
import { systemClock, systemRandom } from '../lib/clock.ts'
import { isLoopback } from './loopback.ts'
import { userDataDir } from '../lib/userdata.ts'
import { makeLogger } from './logger.ts'
import { followParent } from './child.ts'
import type { Signals } from './signals.ts'
import { checkHere } from './thunderbolt.ts'
import { version } from './version.ts'

type Env = Readonly<Record<string, string | undefined>>

export async function runAgentProcess(flags: AgentFlags, env: Env, signals: Signals): Promise<number> {
  if (flags.configureThunderbolt === true) checkHere(false)
  const home = userDataDir(env, process.platform)
  const name = flags.name ?? nodeNameOf(hostname())
  const modelsDir = flags.modelsDir ?? env['MCTL_MODELS_DIR'] ?? join(home, 'models')
  mkdirSync(modelsDir, { recursive: true })
  const parent = followParent()
  return runAgent({
    server: flags.server,
    name,
    dataDir: flags.dataDir ?? env['MCTL_DATA_DIR'] ?? join(home, 'agent'),
    modelsDir,
    userDataDir: home,
    hub: hubOf(env),
    agentVersion: version,
    log: makeLogger('agent', env['MCTL_LOG'], env['MCTL_LOG_FILE'] || undefined).with({ node: name }),
    signal: signals.first,
    stopShards: parent.stop,
    hurry: parent.hurry,
    ...(env['MCTL_LLAMACPP_DIR'] ? { llamaCppDir: env['MCTL_LLAMACPP_DIR'] } : {}),
    ...(env['PATH'] === undefined ? {} : { searchPath: env['PATH'] }),
    ...(flags.portRange === undefined ? {} : { portRange: flags.portRange }),
    ...(flags.simulate === undefined ? {} : { simulate: flags.simulate }),
    ...(flags.share === undefined ? {} : { share: flags.share }),
    ...(flags.token === undefined ? {} : { token: flags.token }),
    ...(flags.configureThunderbolt === true ? { configureThunderbolt: true } : {}),
  })
}

/** Becomes a node of the cluster, and no more: what a service needs before its first start, so that no token is kept for it. */
export async function joinOnce({ server, name, dataDir, token }: JoinFlags, signals: Signals): Promise<void> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  if (readCredentials(dataDir) !== undefined) return
  if (token === undefined) {
    if (isLoopback(server)) return
    throw new CliError(
      `join the cluster at ${server}: there is no token. Set MCTL_TOKEN to what \`mctl join-token create\` printed there`,
    )
  }
  const doors = { dataDir, server, node: name, labels: {}, clock: systemClock, random: systemRandom }
  await joinCluster({ ...doors, log: makeLogger('agent', 'warn'), signal: signals.first }, token)
}

/** The names that the ecosystem's tools read, too. */
function hubOf(env: Env): { readonly endpoint: string; readonly token?: string } {
  const token = env['HF_TOKEN']
  const endpoint = env['HF_ENDPOINT'] || DEFAULT_ENDPOINT
  return token === undefined || token === '' ? { endpoint } : { endpoint, token }
}

/** A host name as a node's name: RFC 1123, without the domain. */
export const nodeNameOf = (host: string): string =>
  host
    .split('.', 1)[0]
    ?.toLowerCase()
    .replace(/[^a-z0-9-]/g, '-')
    .replace(/^-+|-+$/g, '') || 'node'
