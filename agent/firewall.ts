/**
 * MLX's ranks meet over ports of their own, which know no keys: whoever connects in the moment of the rendezvous is taken
 * for a rank. While a gang runs, the machine's own firewall keeps its port to the addresses of the gang's members. Rules
 * are rendered whole from what runs, so that any earlier ones, of an agent that died too, are replaced. Needs root.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import type { ConditionUpdate } from '../src/api/conditions.ts'
import { messageOf } from '../src/lib/errors.ts'
import { isLoopbackHost, splitHostPort } from '../src/lib/hostport.ts'
import type { Logger } from '../src/lib/log.ts'

/** One port of this machine, and who may come to it. */
export interface Gate {
  readonly port: number
  /** Addresses of the gang's ranks. */
  readonly members: readonly string[]
}

/**
 * undefined: the rank meets nobody, or only neighbours on this machine. `hosts`: as in the rendezvous, `ip:port`;
 * `known`: all addresses that a rank may come from, where the rendezvous says so.
 */
export function gateOf(
  port: number,
  hosts: readonly (readonly string[])[],
  known: readonly string[] = [],
): Gate | undefined {
  const met = hosts.flat().map((address) => splitHostPort(address).host)
  const members = [...new Set([...met, ...known])]
  return hosts.length < 2 || members.every(isLoopbackHost) ? undefined : { port, members: members.sort() }
}

export interface Program {
  readonly argv: readonly string[]
  readonly input: string
}

/** What makes the gates, and only these, be in force. `id` keeps the rules of two agents of one machine apart. Pure. */
export function programsFor(platform: NodeJS.Platform, id: string, gates: readonly Gate[]): readonly Program[] {
  return platform === 'darwin' ? packetFilter(id, gates) : nftables(id, gates)
}

/** One transaction: the table is replaced whole. */
function nftables(id: string, gates: readonly Gate[]): readonly Program[] {
  const table = `inet mctl_${id}`
  const rules = gates.flatMap(({ port, members }) => [
    ...allowed('ip', port, members.filter(isIPv4)),
    ...allowed('ip6', port, members.filter(isIPv6)),
    `    tcp dport ${port} iifname != "lo" reject with tcp reset`,
  ])
  const chain = ['  chain gangs {', '    type filter hook input priority -10; policy accept;', ...rules, '  }']
  // Named before it is deleted, so that it is there to be deleted.
  const lines = [
    `table ${table} {}`,
    `delete table ${table}`,
    ...(gates.length > 0 ? [`table ${table} {`, ...chain, '}'] : []),
  ]
  return [{ argv: ['nft', '-f', '-'], input: `${lines.join('\n')}\n` }]
}

const allowed = (family: string, port: number, addresses: readonly string[]): readonly string[] =>
  addresses.length === 0 ? [] : [`    tcp dport ${port} ${family} saddr { ${addresses.join(', ')} } accept`]

/**
 * The first rule that is `quick` decides. An anchor under com.apple is asked by the rules that macOS comes with, so that
 * no file of the system is changed. Not verified on hardware.
 */
function packetFilter(id: string, gates: readonly Gate[]): readonly Program[] {
  const anchor = ['-a', `com.apple/250.mctl-${id}`]
  if (gates.length === 0) return [{ argv: ['pfctl', ...anchor, '-F', 'rules'], input: '' }]
  const rules = gates.flatMap(({ port, members }) => [
    `pass in quick proto tcp from { ${members.join(', ')} } to any port ${port}`,
    `block return in quick on ! lo0 proto tcp from any to any port ${port}`,
  ])
  return [
    { argv: ['pfctl', ...anchor, '-f', '-'], input: `${rules.join('\n')}\n` },
    // Counted by the system; harmless when it is on.
    { argv: ['pfctl', '-E'], input: '' },
  ]
}

export interface FirewallOptions {
  readonly platform: NodeJS.Platform
  /** Of the agent: its rules are known by it. */
  readonly dataDir: string
  readonly log: Logger
  readonly run?: (program: Program) => Promise<void>
}

export class Firewall {
  readonly #options: FirewallOptions
  readonly #id: string
  readonly #wanted = new Map<string, readonly Gate[]>()
  #inForce: readonly Gate[] | undefined
  #changing: Promise<void> = Promise.resolve()
  /** Of the gates that are wanted and not in force. */
  #open: { readonly ports: readonly number[]; readonly why: string } | undefined

  constructor(options: FirewallOptions) {
    this.#options = options
    this.#id = createHash('sha256').update(options.dataDir).digest('hex').slice(0, 8)
  }

  /**
   * Resolves when these gates of `owner`, beside those of other owners, are in force, or when that was tried and told to
   * have failed.
   */
  set(gates: readonly Gate[], owner = 'gangs'): Promise<void> {
    this.#wanted.set(owner, gates)
    return this.again()
  }

  /** Tries what failed once more: what was in the way may be gone. */
  again(): Promise<void> {
    this.#changing = this.#changing.then(() => {
      const all = [...this.#wanted.values()].flat()
      return this.#set(all.sort((a, b) => a.port - b.port))
    })
    return this.#changing
  }

  /** Addresses that gangs which run here meet and come under, own and others'; undefined: it is not known yet which run. */
  members(): readonly string[] | undefined {
    return this.#wanted.get('gangs')?.flatMap(({ members }) => members)
  }

  /** What the Node says of it. */
  condition(): ConditionUpdate {
    const type = 'GangPortsOpen'
    if (this.#open === undefined)
      return {
        ...{ type, status: 'False', reason: 'GangPortsKept' },
        message: 'while a gang runs, its ports are open to its members alone',
      }
    const { ports, why } = this.#open
    return {
      ...{ type, status: 'True', reason: 'FirewallNotSet' },
      message: `open to everybody on the network: gang ports ${ports.join(', ')}. The firewall could not be told (${why}). ${REMEDY}`,
    }
  }

  async #set(gates: readonly Gate[]): Promise<void> {
    const { platform, run = execute, log } = this.#options
    const before = this.#inForce
    const complained = this.#open !== undefined
    this.#open = undefined
    if (isDeepStrictEqual(gates, before)) return
    try {
      for (const program of programsFor(platform, this.#id, gates)) await run(program)
      this.#inForce = gates
      if (gates.length > 0) log.info('ports of gangs are open to their members alone', { gates })
    } catch (error) {
      // Rules of before stand; without a gate that is missing there is nothing that had to be closed.
      const missing = gates.filter((gate) => !before?.some((other) => isDeepStrictEqual(gate, other)))
      if (missing.length === 0) return
      this.#open = { ports: missing.map(({ port }) => port), why: messageOf(error) }
      if (!complained)
        log.warn('ports of gangs are open to everybody on the network: the firewall could not be told', {
          error: messageOf(error),
          remedy: REMEDY,
        })
    }
  }
}

const REMEDY =
  'The agent needs root (`mctl agent install`), on Linux also nft (package nftables); it is tried again every minute'

function execute({ argv: [command = '', ...args], input }: Program): Promise<void> {
  return new Promise((resolve, reject) => {
    const env = { PATH: '/usr/sbin:/sbin:/usr/bin:/bin', LC_ALL: 'C' }
    const child = spawn(command, args, { env, stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (part: Buffer) => (said = (said + part.toString()).slice(-500)))
    child.on('error', reject)
    child.stdin.on('error', () => {})
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`${command}: ${said.trim() || `exit code ${code}`}`)),
    )
    child.stdin.end(input)
  })
}
