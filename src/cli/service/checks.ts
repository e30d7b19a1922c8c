/** What a Mac needs to be a good node, looked at one by one: what was found, whether it will do, and what to do. Pure. */
import { isLoopbackHost, splitHostPort } from '../../lib/hostport.ts'
import { AUTHORITY_WARNING_MS } from '../../planner/authority.ts'
import { formatBytes } from '../../lib/quantity.ts'

export interface MachineFacts {
  readonly platform: 'darwin' | 'linux'
  readonly arch: string
  /** `15.7.4`; of macOS only. */
  readonly osVersion?: string
  readonly memoryBytes: number
  readonly freeDiskBytes: number
  readonly modelsDir: string
  /** Output of `pmset -g`, of macOS only. */
  readonly pmset?: string
  readonly isRoot: boolean
  /** What the engine's environment is, or why there is none. */
  readonly engine: { readonly python: string } | { readonly missing: string }
  readonly server: { readonly address: string; readonly problem?: string }
  /** How the agent is known; undefined: it has not joined. */
  readonly joined?: { readonly node: string; readonly untilMs: number; readonly authorityUntilMs: number } | undefined
  readonly nowMs: number
}

export interface Check {
  readonly name: string
  /** Warn: it works, but not for long or not well. */
  readonly state: 'OK' | 'Warn' | 'Fail'
  readonly found: string
  readonly remedy?: string
}

export const MEMBERSHIP = 'membership'

const GIB = 2 ** 30
const DAY_MS = 86_400_000
/** mlx's wheels: arm64, macOS 14 (facts/engines.md). */
const LEAST_MACOS = 14

export function examine(facts: MachineFacts): readonly Check[] {
  const mac = facts.platform === 'darwin' ? [macos(facts), chip(facts), sleeping(facts), restart(facts)] : []
  return [...mac, memory(facts), disk(facts), engine(facts), privilege(facts), membership(facts), server(facts)]
}

const ok = (name: string, found: string): Check => ({ name, state: 'OK', found })

function macos({ osVersion = 'unknown' }: MachineFacts): Check {
  const name = 'macOS'
  if (Number.parseInt(osVersion, 10) >= LEAST_MACOS) return ok(name, osVersion)
  return { name, state: 'Fail', found: osVersion, remedy: `mlx needs macOS ${LEAST_MACOS} or newer: Software Update` }
}

function chip({ arch }: MachineFacts): Check {
  if (arch === 'arm64') return ok('chip', 'Apple silicon')
  return {
    name: 'chip',
    state: 'Fail',
    found: arch,
    remedy: 'mlx runs on Apple silicon only; llama.cpp may serve here',
  }
}

/** `sleep 1 (sleep prevented by …)`: a value, and who holds it off at this moment. */
const setting = (pmset: string, key: string): number | undefined => {
  const value = new RegExp(`^\\s*${key}\\s+(\\d+)`, 'm').exec(pmset)?.[1]
  return value === undefined ? undefined : Number(value)
}

function sleeping({ pmset = '' }: MachineFacts): Check {
  const name = 'sleep'
  const minutes = setting(pmset, 'sleep')
  if (minutes === 0 || setting(pmset, 'SleepDisabled') === 1) return ok(name, 'never')
  const found = minutes === undefined ? 'unknown' : `after ${minutes} min`
  const remedy =
    'sudo pmset -a sleep 0: a Mac that sleeps is a node that is lost (the agent holds sleep off only while shards run)'
  return { name, state: 'Warn', found, remedy }
}

function restart({ pmset = '' }: MachineFacts): Check {
  const name = 'restart after power failure'
  if (setting(pmset, 'autorestart') === 1) return ok(name, 'on')
  return { name, state: 'Warn', found: 'off', remedy: 'sudo pmset -a autorestart 1' }
}

function memory({ memoryBytes }: MachineFacts): Check {
  const found = formatBytes(memoryBytes)
  if (memoryBytes >= 8 * GIB) return ok('memory', found)
  return { name: 'memory', state: 'Warn', found, remedy: 'after the system reserve of 4 GiB little is left for models' }
}

function disk({ freeDiskBytes, modelsDir }: MachineFacts): Check {
  const found = `${formatBytes(freeDiskBytes)} free for ${modelsDir}`
  if (freeDiskBytes >= 20 * GIB) return ok('disk', found)
  const remedy = 'a 7B model in 4 bits is about 4 GiB; --models-dir or MCTL_MODELS_DIR names a folder on another disk'
  return { name: 'disk', state: 'Warn', found, remedy }
}

/** What installing the agent brings about by itself. */
export const ENGINE = 'engine mlx'
export const ENGINE_REMEDY = 'npm run setup, in the checkout of mctl on this machine'

function engine({ engine: found }: MachineFacts): Check {
  if ('python' in found) return ok(ENGINE, found.python)
  return {
    name: ENGINE,
    state: 'Warn',
    found: found.missing,
    remedy: ENGINE_REMEDY,
  }
}

function privilege({ platform, isRoot, osVersion = '0' }: MachineFacts): Check {
  const name = 'local network'
  if (platform !== 'darwin' || Number.parseInt(osVersion, 10) < 15) return ok(name, 'not restricted')
  if (isRoot) return ok(name, 'root is exempt')
  const remedy =
    'sudo mctl agent install: macOS 15 and newer keep programs of users from other Macs until somebody allows it'
  return { name, state: 'Warn', found: 'restricted for programs of users', remedy }
}

function membership({ joined, nowMs, server: { address, problem } }: MachineFacts): Check {
  const name = MEMBERSHIP
  if (joined === undefined && problem === undefined && isLoopbackHost(splitHostPort(address).host))
    return ok(name, 'none needed: the server is on this machine')
  if (joined === undefined)
    return {
      name,
      state: 'Warn',
      found: 'has not joined a cluster',
      remedy: 'on the control plane: mctl join-token create',
    }
  const days = Math.floor((joined.untilMs - nowMs) / DAY_MS)
  const authorityDays = Math.floor((joined.authorityUntilMs - nowMs) / DAY_MS)
  if (days >= 0 && joined.authorityUntilMs - nowMs < AUTHORITY_WARNING_MS) {
    const found = `node ${joined.node}; the cluster's authority ends in ${authorityDays} days, and every certificate with it`
    return { name, state: 'Warn', found, remedy: 'on the control plane: mctl authority rotate' }
  }
  if (days >= 0) return ok(name, `node ${joined.node}, certificate good for ${days} days`)
  const remedy = `mctl node reset ${joined.node} on the control plane, then join again with a new token`
  return { name, state: 'Fail', found: `the certificate of node ${joined.node} is over`, remedy }
}

function server({ server: { address, problem } }: MachineFacts): Check {
  if (problem === undefined) return ok('server', `${address} answers`)
  return {
    name: 'server',
    state: 'Fail',
    found: `${address}: ${problem}`,
    remedy: 'is it running, and is this its address? --server names another one',
  }
}
