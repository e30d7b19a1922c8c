/** Composition root of `mctl agent`: argv and environment → agent/main.ts. SIGTERM leaves its shards running. */
import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_ENDPOINT } from '../../agent/fetch/hub.ts'
import { runAgent } from '../../agent/main.ts'
import type { AgentFlags } from '../cli/context.ts'
import { userDataDir } from '../lib/userdata.ts'
import { makeLogger } from './logger.ts'
import { followParent } from './child.ts'
import type { Signals } from './signals.ts'
import { version } from './version.ts'

type Env = Readonly<Record<string, string | undefined>>

export async function runAgentProcess(flags: AgentFlags, env: Env, signals: Signals): Promise<number> {
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
    log: makeLogger('agent', env['MCTL_LOG']).with({ node: name }),
    signal: signals.first,
    stopShards: parent.stop,
    hurry: parent.hurry,
    ...(flags.portRange === undefined ? {} : { portRange: flags.portRange }),
    ...(flags.simulate === undefined ? {} : { simulate: flags.simulate }),
    ...(flags.share === undefined ? {} : { share: flags.share }),
    ...(flags.token === undefined ? {} : { token: flags.token }),
  })
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
