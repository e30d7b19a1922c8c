/** A real cluster for chaos and bench: server and agents each a process of its own, started again by us as launchd would. */
import { mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { claimPortRange } from './ports.ts'
import { Running, freePort, tempDir } from './processes.ts'
import { processesOf } from './remains.ts'

const PORTS_PER_AGENT = 200

export type Role = 'server' | 'agent' | 'gateway' | 'shardhost' | 'engine'

/** A process of the cluster as /proc shows it. */
export interface Living {
  readonly pid: number
  readonly role: Role
  /** Of an agent: its node. */
  readonly node?: string
}

export interface RealOptions {
  readonly nodes: number
  /** Absent: an empty folder. */
  readonly modelsDir?: string | undefined
  /** Default: each node says that it is an M4 mini. Else it is this machine. */
  readonly simulate?: boolean
}

export class RealCluster {
  readonly dir: string
  readonly address: string
  readonly gateway: string
  readonly client: Client
  readonly nodes: readonly string[]
  readonly #modelsDir: string
  readonly #simulate: boolean
  /** By node: an agent that comes back has the ports that it had. */
  readonly #portRanges = new Map<string, string>()
  readonly #running = new Map<string, Running>()
  readonly #lost = new Set<string>()
  #ending = false

  private constructor({ nodes, modelsDir, simulate = true }: RealOptions, address: string, gateway: string) {
    this.dir = tempDir()
    this.#simulate = simulate
    this.nodes = Array.from({ length: nodes }, (_, i) => `mini-${i + 1}`)
    this.address = address
    this.gateway = gateway
    this.#modelsDir = modelsDir ?? join(this.dir, 'models')
    mkdirSync(join(this.dir, 'server'), { recursive: true })
    this.client = connect(address, { user: 'test' })
  }

  static async start(options: RealOptions): Promise<RealCluster> {
    const [address, gateway] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
    const cluster = new RealCluster(options, address, gateway)
    cluster.#start('server')
    for (const node of cluster.nodes) {
      cluster.#portRanges.set(node, await claimPortRange(PORTS_PER_AGENT))
      cluster.#start(node)
    }
    return cluster
  }

  /** Whatever of server and agents is not there, after `awayMs`. */
  restartLater(name: string, awayMs: number): void {
    setTimeout(() => this.restart(name), awayMs)
  }

  restart(name: string): void {
    if (!this.#ending && !this.#lost.has(name) && this.#running.get(name)?.alive !== true) this.#start(name)
  }

  /** The machine is gone: everything of the node is killed, and stays so. */
  lose(node: string): void {
    this.#lost.add(node)
    for (const pid of processesOf(join(this.dir, node)))
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended by itself, with another one.
      }
  }

  #start(name: string): void {
    const args = name === 'server' ? this.#serverArgs() : this.#agentArgs(name)
    const running = new Running(args, join(this.dir, `${name}.log`), { MCTL_LOG: 'info' })
    this.#running.set(name, running)
    // One that ends by itself (a failed disk, a refusal) is started again, too.
    void running.exited.then(() => {
      if (this.#running.get(name) === running) this.restartLater(name, 1_000)
    })
  }

  #serverArgs(): readonly string[] {
    return ['server', '--data-dir', join(this.dir, 'server'), '--listen', this.address, '--gateway', this.gateway]
  }

  #agentArgs(node: string): readonly string[] {
    const ports = ['--port-range', this.#portRanges.get(node) ?? '']
    const folders = ['--data-dir', join(this.dir, node), '--models-dir', this.#modelsDir]
    const simulation = this.#simulate ? ['--simulate', 'chip=Apple M4,memory=16Gi,gpuCores=10'] : []
    return ['agent', '--server', this.address, '--name', node, ...folders, ...ports, ...simulation]
  }

  /** Every process that there is because of this cluster. */
  living(): readonly Living[] {
    const own = new Map([...this.#running].map(([name, running]) => [running.pid, name]))
    return processesOf(this.dir).flatMap((pid): Living[] => {
      const name = own.get(pid)
      if (name !== undefined) return [name === 'server' ? { pid, role: 'server' } : { pid, role: 'agent', node: name }]
      const role = roleOf(pid)
      return role === undefined ? [] : [{ pid, role }]
    })
  }

  /** Bytes of the store's write-ahead log. */
  walBytes(): number {
    return statSync(join(this.dir, 'server', 'mctl.db-wal'), { throwIfNoEntry: false })?.size ?? 0
  }

  /** Folders of shards that agents keep. */
  shardFolders(): number {
    return this.nodes.reduce((sum, node) => sum + entries(join(this.dir, node, 'shards')), 0)
  }

  /** As an operator ends it: agents, then the server with its gateway. */
  async stop(): Promise<void> {
    this.#ending = true
    this.client.close()
    const [server, ...agents] = ['server', ...this.nodes].map((name) => this.#running.get(name))
    await Promise.all(agents.flatMap((agent) => (agent === undefined ? [] : [agent.end()])))
    await server?.end()
  }
}

const entries = (dir: string): number => {
  try {
    return readdirSync(dir).length
  } catch {
    return 0
  }
}

function roleOf(pid: number): Role | undefined {
  let argv: string
  try {
    argv = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return undefined
  }
  if (argv === '') return undefined
  if (argv.includes('shardhost/main')) return 'shardhost'
  if (argv.includes('\0gateway\0')) return 'gateway'
  return 'engine'
}
