/**
 * A network of its own for one test: a switch and machines, each a network namespace with an address, a cable that can
 * be cut, shaped and mended. The host's own network is not touched. Needs root and iproute2.
 */
import { execFile, execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { promisify } from 'node:util'
import { openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Ran } from './processes.ts'
import { root } from './processes.ts'

const execute = promisify(execFile)
const entry = join(root, 'dist/src/bin/mctl.js')

export interface Machine {
  readonly name: string
  readonly address: string
}

/** Why this machine cannot hold a lab; undefined: it can. */
export function labObstacle(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces are of Linux'
  const probe = `mctl-${process.pid}-probe`
  try {
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'delete', probe], { stdio: 'pipe' })
    return undefined
  } catch (error) {
    return `ip netns: ${(error as Error).message}`
  }
}

export class NetLab {
  readonly #switch = `mctl-${process.pid}-sw`
  readonly #machines = new Map<string, Machine>()
  readonly #processes: Placed[] = []

  static async make(names: readonly string[]): Promise<NetLab> {
    const lab = new NetLab()
    await ip('netns', 'add', lab.#switch)
    await lab.#inSwitch('ip', 'link', 'add', 'br0', 'type', 'bridge')
    await lab.#inSwitch('ip', 'link', 'set', 'br0', 'up')
    for (const [index, name] of names.entries()) await lab.#plug(name, `10.77.0.${index + 1}`)
    return lab
  }

  async #plug(name: string, address: string): Promise<void> {
    const space = this.space(name)
    await ip('netns', 'add', space)
    this.#machines.set(name, { name, address })
    await ip('-n', this.#switch, 'link', 'add', `p-${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space)
    await this.#inSwitch('ip', 'link', 'set', `p-${name}`, 'master', 'br0', 'up')
    await ip('-n', space, 'address', 'add', `${address}/24`, 'dev', 'eth0')
    for (const device of ['eth0', 'lo']) await ip('-n', space, 'link', 'set', device, 'up')
  }

  space(name: string): string {
    return `mctl-${process.pid}-${name}`
  }

  address(name: string): string {
    const machine = this.#machines.get(name)
    if (machine === undefined) throw new Error(`no machine ${name} in the lab`)
    return machine.address
  }

  /** A cable of their own between two machines, past the switch: `eth1` at both ends, with addresses .1 and .2. */
  async cable(a: string, b: string, network = '10.78.0'): Promise<void> {
    const [one, other] = [this.space(a), this.space(b)]
    await ip('-n', one, 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', other)
    for (const [index, space] of [one, other].entries()) {
      await ip('-n', space, 'address', 'add', `${network}.${index + 1}/30`, 'dev', 'eth1')
      await ip('-n', space, 'link', 'set', 'eth1', 'up')
    }
  }

  /** What the machine sends over the interface goes at most so fast. */
  async shape(name: string, device: string, megabits: number): Promise<void> {
    const rate = ['tbf', 'rate', `${megabits}mbit`, 'burst', '128kb', 'latency', '50ms']
    const [command = '', ...args] = this.#within(name, 'tc', 'qdisc', 'replace', 'dev', device, 'root', ...rate)
    await execute(command, args)
  }

  /** Bytes that have passed the interface, both ways. */
  async passed(name: string, device: string): Promise<number> {
    const files = ['rx_bytes', 'tx_bytes'].map((file) => `/sys/class/net/${device}/statistics/${file}`)
    const { stdout } = await this.run(name, ['cat', ...files])
    return stdout.split('\n').reduce((sum, line) => sum + Number(line), 0)
  }

  /** The cable between the machine and the switch. */
  async cut(name: string): Promise<void> {
    await this.#inSwitch('ip', 'link', 'set', `p-${name}`, 'down')
  }
  async mend(name: string): Promise<void> {
    await this.#inSwitch('ip', 'link', 'set', `p-${name}`, 'up')
  }

  /** Whatever the two send each other is lost on the way, and nobody is told; all others hear them as before. */
  async part(one: string, other: string): Promise<void> {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const)
      await this.#neighbour(from, 'replace', to, 'lladdr', '02:00:00:00:00:01', 'nud', 'permanent')
  }
  async reunite(one: string, other: string): Promise<void> {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const)
      await this.#neighbour(from, 'delete', to)
  }
  async #neighbour(at: string, verb: string, of: string, ...more: readonly string[]): Promise<void> {
    await ip('-n', this.space(at), 'neigh', verb, this.address(of), 'dev', 'eth0', ...more)
  }

  /** What the machine sends passes a narrow gate with hardly any room to wait: packets that come in a burst are lost. */
  async narrow(name: string): Promise<void> {
    await this.#tc(name, 'replace', ...['tbf', 'rate', '1mbit', 'burst', '2kb', 'limit', '2500'])
  }
  /** Ends it; how many packets were lost. */
  async widen(name: string): Promise<number> {
    const [command = '', ...args] = this.#within(name, 'tc', '-s', 'qdisc', 'show', 'dev', 'eth0')
    const { stdout } = await execute(command, args)
    await this.#tc(name, 'delete')
    return Number(/dropped (\d+)/.exec(stdout)?.[1] ?? 0)
  }
  async #tc(name: string, verb: string, ...discipline: readonly string[]): Promise<void> {
    const [command = '', ...args] = this.#within(name, 'tc', 'qdisc', verb, 'dev', 'eth0', 'root', ...discipline)
    await execute(command, args)
  }

  /** Runs a command on the machine to its end. */
  async run(name: string, argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const [command = '', ...args] = this.#within(name, ...argv)
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    return new Promise((done) => child.on('close', (code) => done({ code: code ?? -1, stdout, stderr })))
  }

  mctl(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    return this.run(name, [process.execPath, entry, ...args], env)
  }

  /** A long-lived `mctl` on the machine, its output in a file. */
  start(name: string, args: readonly string[], logFile: string, env: Readonly<Record<string, string>> = {}): Placed {
    const placed = new Placed(this.#within(name, process.execPath, entry, ...args), logFile, env)
    this.#processes.push(placed)
    return placed
  }

  /** Ends what was started and whatever else runs in the machines, and takes the network down. */
  async end(): Promise<void> {
    await Promise.all(this.#processes.map((placed) => placed.end('SIGTERM')))
    for (const space of [...[...this.#machines.keys()].map((name) => this.space(name)), this.#switch]) {
      const { stdout } = await execute('ip', ['netns', 'pids', space]).catch(() => ({ stdout: '' }))
      for (const pid of stdout.split('\n').filter((line) => line !== '')) kill(Number(pid))
      await ip('netns', 'delete', space).catch(() => {})
    }
  }

  #within(name: string, ...argv: readonly string[]): readonly string[] {
    return ['ip', 'netns', 'exec', this.space(name), ...argv]
  }

  async #inSwitch(command: string, ...args: readonly string[]): Promise<void> {
    await execute('ip', ['netns', 'exec', this.#switch, command, ...args])
  }
}

/** `ip netns exec` becomes the command that it runs: the pid is the process's own. */
export class Placed {
  readonly logFile: string
  readonly #child: ChildProcess
  readonly #exited: Promise<number | null>

  constructor([command = '', ...args]: readonly string[], logFile: string, env: Readonly<Record<string, string>>) {
    const log = openSync(logFile, 'a')
    this.logFile = logFile
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', log, log], detached: true })
    this.#exited = new Promise((done) => this.#child.on('exit', done))
  }

  get exited(): Promise<number | null> {
    return this.#exited
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8')
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill(signal)
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 20_000)
    await this.#exited
    clearTimeout(late)
  }
}

const ip = (...args: readonly string[]) => execute('ip', args)

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}
