/**
 * Composition root of `mctl dev`: a server, its gateway and N agents on one machine, each a process of its own, each
 * in its own session (Ctrl-C is ours to pass on). What it starts it stops: engines, then agents, server, gateway.
 * Children hold an IPC channel to us: when we are killed outright, they stop by themselves.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isTrue } from '../api/conditions.ts'
import type { Node } from '../api/node.ts'
import type { DevFlags } from '../cli/context.ts'
import { CliError } from '../cli/context.ts'
import type { Terminal } from '../cli/context.ts'
import { sleep, systemClock, systemRandom } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import { connect } from '../rpc/grpcclient.ts'
import type { Client } from '../rpc/messages.ts'
import type { Child, UpMessage } from './child.ts'
import { startChild } from './child.ts'
import { stopGateway } from './gatewaychild.ts'
import { gatewayRecordFile, readGatewayRecord } from './gatewayrecord.ts'
import { ONE_MACHINE, requireLoopback } from './loopback.ts'
import type { Signals } from './signals.ts'

type Env = Readonly<Record<string, string | undefined>>

const READY_TIMEOUT_MS = 120_000
const AGENT_STOP_MS = 50_000
const SERVER_STOP_MS = 20_000
const POLL_MS = 100
/** Ports of one agent; ranges lie below every system's ephemeral ports. */
const PORTS_PER_AGENT = 200
const PORT_BASE = 10_000
const PORT_SLOTS = 100

export async function runDev(flags: DevFlags, env: Env, signals: Signals, terminal: Terminal): Promise<number> {
  requireLoopback(flags.listen, 'the address', ONE_MACHINE)
  requireLoopback(flags.gateway, 'the gateway address', ONE_MACHINE)
  const dev = new Dev(flags, env, signals, terminal)
  try {
    await dev.start()
    if (!signals.first.aborted) terminal.out('ready\n')
    await Promise.race([signals.stopped(), dev.someoneExited()])
    return signals.first.aborted ? 0 : 1
  } catch (error) {
    terminal.err(`error: ${messageOf(error)}\n`)
    return 1
  } finally {
    await dev.stop()
  }
}

class Dev {
  readonly #flags: DevFlags
  readonly #env: Env
  readonly #signals: Signals
  readonly #terminal: Terminal
  readonly #dir: string
  readonly #agents: Child[] = []
  #server: Child | undefined
  #stopping = false

  constructor(flags: DevFlags, env: Env, signals: Signals, terminal: Terminal) {
    this.#flags = flags
    this.#env = env
    this.#signals = signals
    this.#terminal = terminal
    // Short on purpose: Unix socket paths below it must stay under 104 bytes.
    this.#dir = flags.dataDir ?? mkdtempSync(join(tmpdir(), 'mctl-'))
  }

  async start(): Promise<void> {
    const { nodes, listen, gateway, simulate } = this.#flags
    mkdirSync(join(this.#dir, 'logs'), { recursive: true, mode: 0o700 })
    this.#server = this.#child('server', [
      'server',
      '--data-dir',
      this.#serverDir,
      '--listen',
      listen,
      '--gateway',
      gateway,
    ])
    const client = connect(listen, { user: 'dev', timeoutMs: 5000 })
    let up: UpMessage | undefined
    void this.#server.up.then((message) => (up = message))
    try {
      const { gatewayUrl } = await this.#until('the server serves', () => Promise.resolve(up))
      this.#say(`server on ${listen}, gateway on ${gatewayUrl ?? gateway}, data in ${this.#dir}`)
      for (let i = 1; i <= nodes; i++) this.#agents.push(this.#startAgent(`mini-${i}`, simulate))
      await this.#waitForNodes(client)
    } finally {
      client.close()
    }
  }

  #startAgent(name: string, simulate: string | undefined): Child {
    const first = PORT_BASE + PORTS_PER_AGENT * Math.floor(systemRandom.next() * PORT_SLOTS)
    const args = [
      'agent',
      '--server',
      this.#flags.listen,
      '--name',
      name,
      '--data-dir',
      join(this.#dir, 'agents', name),
    ]
    args.push('--port-range', `${first}-${first + PORTS_PER_AGENT - 1}`)
    if (simulate !== undefined) args.push('--simulate', simulate)
    else args.push('--share', String(this.#flags.nodes))
    return this.#child(name, args)
  }

  async #waitForNodes(client: Client): Promise<void> {
    const ready = new Set<string>()
    await this.#until('every node is Ready', async () => {
      const { items } = await client.list({ kind: 'Node' })
      for (const node of items as readonly Node[]) {
        if (ready.has(node.metadata.name) || !isTrue(node.status?.conditions, 'Ready')) continue
        ready.add(node.metadata.name)
        this.#say(`node ${node.metadata.name} is Ready`)
      }
      return ready.size >= this.#flags.nodes ? true : undefined
    })
  }

  /** Tries until `look` gives something; fails when a child is gone, the time is up or a person wants to stop. */
  async #until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
    let last = ''
    for (let waitedMs = 0; waitedMs < READY_TIMEOUT_MS; waitedMs += POLL_MS) {
      const found = await look().catch((error: unknown) => void (last = messageOf(error)))
      if (found !== undefined) return found
      const gone = [this.#server, ...this.#agents].find((child) => child?.exitText !== undefined)
      if (gone !== undefined)
        throw new CliError(`wait until ${what}: ${gone.name} ${gone.exitText}; its log: ${gone.logFile}`)
      if (this.#signals.first.aborted) throw new CliError('stopped before it was ready')
      await sleep(systemClock, POLL_MS, this.#signals.first)
    }
    throw new CliError(
      `wait until ${what}: not within ${READY_TIMEOUT_MS / 1000} s. ${last} Logs are in ${join(this.#dir, 'logs')}`,
    )
  }

  someoneExited(): Promise<void> {
    const children = [this.#server, ...this.#agents].filter((child) => child !== undefined)
    return Promise.race(
      children.map(async (child) => {
        await child.exited
        if (!this.#stopping)
          this.#terminal.err(`error: ${child.name} ${child.exitText ?? 'exited'}; its log: ${child.logFile}\n`)
      }),
    )
  }

  /** Engines stop first, by their agents, while the server still listens to what they report. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#say('stopping')
    this.#signals.second.addEventListener('abort', () => this.#agents.forEach((agent) => agent.tell('Hurry')))
    for (const agent of this.#agents) agent.tell('Stop')
    await Promise.all(this.#agents.map((agent) => agent.waitOrKill(AGENT_STOP_MS)))
    this.#server?.tell('Stop')
    await this.#server?.waitOrKill(SERVER_STOP_MS)
    // A server that was killed outright has left its gateway to its next life, which does not come here.
    const gateway = readGatewayRecord(gatewayRecordFile(this.#serverDir))
    if (gateway !== undefined) await stopGateway(gateway)
    if (this.#flags.dataDir === undefined) rmSync(this.#dir, { recursive: true, force: true })
    this.#say('stopped')
  }

  get #serverDir(): string {
    return join(this.#dir, 'server')
  }

  #child(name: string, args: readonly string[]): Child {
    return startChild({ name, args, env: this.#env, logFile: join(this.#dir, 'logs', `${name}.log`) })
  }

  #say(text: string): void {
    this.#terminal.out(`${text}\n`)
  }
}
