/** The real machine behind `Machine`: commands, files, and the facts that the doctor looks at. */
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { arch, homedir, hostname, release, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import type { Credentials } from '../../agent/credentials.ts'
import { readCredentials } from '../../agent/credentials.ts'
import type { MachineFacts } from '../cli/service/checks.ts'
import type { AgentPlace, Machine } from '../cli/service/machine.ts'
import { systemClock } from '../lib/clock.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import { nodeArgv, packageRoot } from '../lib/nodeargv.ts'
import { userDataDir } from '../lib/userdata.ts'
import { certificatesIn } from '../lib/pem.ts'
import { readCertificate } from '../lib/x509.ts'
import { connect } from '../rpc/grpcclient.ts'
import { nodeNameOf } from './agent.ts'

type Env = Readonly<Record<string, string | undefined>>

const CONNECT_MS = 3000

export function thisMachine(env: Env): Machine {
  const platform = process.platform === 'darwin' ? 'darwin' : 'linux'
  return {
    platform,
    isRoot: process.getuid?.() === 0,
    program: nodeArgv(import.meta.url, 'mctl'),
    agentLog: platform === 'darwin' ? '/Library/Logs/mctl/agent.log' : '/var/log/mctl-agent.log',
    agentPlace: ({ name, dataDir, modelsDir }) => {
      const home = homeOf(env, platform)
      return Promise.resolve({
        name: name ?? nodeNameOf(hostname()),
        home,
        dataDir: dataDir ?? env['MCTL_DATA_DIR'] ?? join(home, 'agent'),
        modelsDir: modelsDir ?? env['MCTL_MODELS_DIR'] ?? join(home, 'models'),
      })
    },
    facts: (place, server) => factsOf(platform, place, server),
    installEngine: ({ home }) => installEngine(home, env['SUDO_USER']),
    run,
    exists: existsSync,
    write: (path, text) => {
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, text, { mode: 0o644 })
      return Promise.resolve()
    },
    remove: (path) => Promise.resolve(rmSync(path, { force: true })),
  }
}

/** Engines and models are those of the person who typed sudo. */
function homeOf(env: Env, platform: 'darwin' | 'linux'): string {
  const user = env['SUDO_USER']
  if (env['MCTL_HOME'] || user === undefined || user === 'root')
    return userDataDir({ HOME: homedir(), ...env }, platform)
  return userDataDir({ HOME: platform === 'darwin' ? `/Users/${user}` : `/home/${user}` }, platform)
}

function run([command = '', ...args]: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) =>
    execFile(command, args, { timeout: 30_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 127
      resolve({ code, output: `${stdout}${stderr}${code === 127 && error !== null ? error.message : ''}` })
    }),
  )
}

/** With its own words on the terminal. What it makes belongs to the person who typed sudo. */
function installEngine(home: string, user: string | undefined): Promise<number> {
  const setup = [process.execPath, join(packageRoot(import.meta.url), 'src', 'bin', 'setup.mjs'), 'engine']
  const owner = user === undefined || user === 'root' ? [] : ['sudo', '-u', user, '-H']
  const argv = [...owner, 'env', `MCTL_HOME=${home}`, ...setup]
  return new Promise((resolve) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 2, 2] })
    child.on('error', () => resolve(127))
    child.on('close', (code) => resolve(code ?? 1))
  })
}

async function factsOf(platform: 'darwin' | 'linux', place: AgentPlace, address: string): Promise<MachineFacts> {
  const mac = platform === 'darwin'
  const credentials = readCredentials(place.dataDir)
  return {
    platform,
    arch: arch(),
    ...(mac ? { osVersion: (await run(['sw_vers', '-productVersion'])).output.trim() } : { osVersion: release() }),
    ...(mac ? { pmset: (await run(['pmset', '-g'])).output } : {}),
    memoryBytes: totalmem(),
    freeDiskBytes: freeBytes(place.modelsDir),
    modelsDir: place.modelsDir,
    isRoot: process.getuid?.() === 0,
    engine: engineIn(place.home),
    server: { address, ...(await problemOf(address, place)) },
    ...(credentials === undefined ? {} : { joined: membershipOf(credentials) }),
    nowMs: systemClock.nowMs(),
  }
}

function membershipOf({ node, certificatePem, authorityPem }: Credentials): NonNullable<MachineFacts['joined']> {
  // Of two authorities the one that lasts longer: a change of authority is under way.
  const ends = certificatesIn(authorityPem).map((pem) => readCertificate(pem).notAfterMs)
  return { node, untilMs: readCertificate(certificatePem).notAfterMs, authorityUntilMs: Math.max(...ends) }
}

/** Of the volume that the folder is on, or will be on. */
function freeBytes(dir: string): number {
  for (let at = dir; ; at = dirname(at)) {
    if (!existsSync(at) && at !== dirname(at)) continue
    const { bavail, bsize } = statfsSync(at)
    return bavail * bsize
  }
}

/** As `npm run setup` left it (bin/setup/engine.mjs). */
function engineIn(home: string): MachineFacts['engine'] {
  const file = join(home, 'engines', 'mlx.json')
  try {
    const { python } = JSON.parse(readFileSync(file, 'utf8')) as { python: string }
    return existsSync(python) ? { python } : { missing: `${python} is gone` }
  } catch {
    return { missing: `no environment in ${dirname(file)}` }
  }
}

/** A server that says who may not come in is there. */
async function problemOf(address: string, place: AgentPlace): Promise<{ problem?: string }> {
  const kept = readCredentials(place.dataDir)
  const tls = kept && {
    authorityPem: kept.authorityPem,
    own: { certificatePem: kept.certificatePem, keyPem: kept.keyPem },
  }
  const client = connect(address, { connectTimeoutMs: CONNECT_MS, ...(tls === undefined ? {} : { tls }) })
  try {
    await client.version({}, { timeoutMs: CONNECT_MS })
    return {}
  } catch (error) {
    // HTTP/2 in the clear at a door that speaks TLS: it is there, and lets in who has a token.
    if (kept === undefined && messageOf(error).includes('Failed to connect')) return {}
    return isOpError(error, 'Unauthorized') || isOpError(error, 'Unavailable') ? { problem: messageOf(error) } : {}
  } finally {
    client.close()
  }
}
