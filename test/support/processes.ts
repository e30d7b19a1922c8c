/**
 * Real processes for e2e tests: `mctl server`, `mctl agent`, `mctl dev` and plain commands, from the build that `npm run
 * setup` made. Processes and folders are remembered: `afterAll(endAll)` leaves none, whatever became of the tests.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { processesOf } from './remains.ts'

export const root = resolve(import.meta.dirname, '../..')
const entry = join(root, 'dist/src/bin/mctl.js')

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const folders = new Set<string>()
const processes = new Set<Running>()
/** `mctl dev` stops its shards first. */
const END_MS = 60_000

/**
 * A folder with a short path: Unix sockets below it must stay under 104 bytes. To be made in a hook or a test: where no
 * test of a file is chosen, none of its hooks runs.
 */
export function tempDir(): string {
  const dir = mkdtempSync('/tmp/mctl-t-')
  folders.add(dir)
  return dir
}

/** What has just been told to end may still write there. */
export function removeDir(dir: string): void {
  folders.delete(dir)
  rmSync(dir, { recursive: true, force: true, maxRetries: 10 })
}

/** Ends as Ctrl-C does whatever still runs, and removes every folder with all that runs from it. */
export async function endAll(): Promise<void> {
  await Promise.all([...processes].map((running) => running.end()))
  for (const dir of folders) {
    // Shards and gateways outlive those who started them; a test that failed may not have come to ending them.
    if (process.platform === 'linux') for (const pid of processesOf(dir)) kill(pid)
    removeDir(dir)
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

export function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer()
    probe.once('error', fail)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => done(port))
    })
  })
}

/** Runs one `mctl` command to its end. */
export function mctl(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  stdin?: string,
): Promise<Ran> {
  const child = spawn(process.execPath, [entry, ...args], {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdin.end(stdin ?? '')
  return new Promise((done) => child.on('close', (code) => done({ code: code ?? -1, stdout, stderr })))
}

/** A long-lived process with its output in a file; `kill` is SIGKILL and resolves when it is gone. */
export class Running {
  readonly child: ChildProcess
  readonly logFile: string
  readonly exited: Promise<number | null>
  constructor(
    args: readonly string[],
    logFile: string,
    env: Readonly<Record<string, string>> = {},
    /** Of another build. */
    program = entry,
  ) {
    const log = openSync(logFile, 'a')
    this.logFile = logFile
    this.child = spawn(process.execPath, [program, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', log, log],
      detached: true,
    })
    processes.add(this)
    this.exited = new Promise((done) => {
      this.child.on('exit', (code) => {
        processes.delete(this)
        done(code)
      })
    })
  }

  get pid(): number {
    return this.child.pid ?? -1
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  async signal(signal: NodeJS.Signals): Promise<number | null> {
    if (this.alive) this.child.kill(signal)
    return this.exited
  }

  /** SIGTERM, and SIGKILL for one that does not obey. */
  async end(): Promise<number | null> {
    const tooLate = setTimeout(() => this.child.kill('SIGKILL'), END_MS)
    const code = await this.signal('SIGTERM')
    clearTimeout(tooLate)
    return code
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8')
  }
}

export interface DevOptions {
  readonly nodes: number
  readonly simulate?: string
  readonly env?: Readonly<Record<string, string>>
}

/** `mctl dev` in a temporary folder, with a client; `stop` ends it as Ctrl-C does and returns its exit code. */
export class Dev {
  readonly dir: string
  readonly server: string
  readonly gateway: string
  readonly client: Client
  readonly running: Running
  readonly #env: Readonly<Record<string, string>>

  private constructor(dir: string, server: string, gateway: string, options: DevOptions) {
    this.dir = dir
    this.server = server
    this.gateway = gateway
    this.#env = { MCTL_SERVER: server, ...options.env }
    const args = ['dev', '--nodes', String(options.nodes), '--data-dir', dir, '--listen', server, '--gateway', gateway]
    if (options.simulate !== undefined) args.push('--simulate', options.simulate)
    this.running = new Running(args, join(dir, 'dev.log'), this.#env)
    this.client = connect(server, { user: 'test' })
    void this.running.exited.then(() => this.client.close())
  }

  static async start(options: DevOptions): Promise<Dev> {
    const dev = new Dev(tempDir(), `127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`, options)
    try {
      await until(
        () => (dev.running.alive ? dev.running.log().split('\n').includes('ready') : fail(dev.running.log())),
        60_000,
        'mctl dev is ready',
      )
    } catch (error) {
      await dev.stop()
      throw error
    }
    return dev
  }

  mctl(...args: string[]): Promise<Ran> {
    return mctl(args, this.#env)
  }

  mctlWith(stdin: string, ...args: string[]): Promise<Ran> {
    return mctl(args, this.#env, stdin)
  }

  async stop(): Promise<number | null> {
    const code = await this.running.end()
    removeDir(this.dir)
    return code
  }
}

function fail(text: string): never {
  throw new Error(`the process ended:\n${text}`)
}

/** Polls until `holds` gives a truthy value; fails with `what` after `timeoutMs`. */
export async function until<T>(
  holds: () => T | Promise<T>,
  timeoutMs: number,
  what: string,
): Promise<Exclude<T, false | undefined | null>> {
  const end = Date.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await holds()
      if (value) return value as Exclude<T, false | undefined | null>
      last = value
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('the process ended')) throw error
      last = error
    }
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what} (last: ${String(last)})`)
    await new Promise((done) => setTimeout(done, 50))
  }
}

export const pidAlive = (pid: number): boolean => {
  try {
    // A zombie answers signal 0 as well; its stat says Z.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
