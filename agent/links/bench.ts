/**
 * One rank of the two that measure a link through the engine: a process of ours beside the agent, bounded in time, and
 * gone at once when a shard is wanted here. Its port is of the agent's range and open to the peer alone, as a gang's is.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EngineFigures } from '../../src/api/links.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { joinHostPort } from '../../src/lib/hostport.ts'
import type { Firewall } from '../firewall.ts'
import { gateOf } from '../firewall.ts'
import type { PortPool } from '../ports.ts'
import type { Runtime } from '../runtimes/runtime.ts'

export interface BenchDoors {
  readonly launch: NonNullable<Runtime['linkBench']>
  readonly ports: Pick<PortPool, 'take' | 'release'>
  /** Absent: nobody keeps ports. */
  readonly firewall?: Pick<Firewall, 'set'>
  readonly dataDir: string
  readonly isServing: () => boolean
  readonly clock: Clock
}

/** The address that the own rank listens on, its port, and the other rank's. */
export interface BenchRing {
  readonly rank: 0 | 1
  readonly address: string
  readonly port: number
  readonly peerAddress: string
  readonly peerPort: number
}

/** A loaded machine needs a few for the start; the measuring itself takes two. */
const SECONDS = 20
/** The rank ends itself before. */
const SLACK_MS = 3_000
const OWNER = 'links'
const SAID_CHARACTERS = 2_000

/** Not now: engines come first. */
export class Yielded extends Error {}

export class LinkBench {
  readonly #doors: BenchDoors
  #wanted = false
  #child: ChildProcess | undefined
  #port: number | undefined

  constructor(doors: BenchDoors) {
    this.#doors = doors
  }

  /** A shard is wanted on this node, or none is any more. What runs here ends at once when one is. */
  setWanted(isWanted: boolean): void {
    this.#wanted = isWanted
    if (isWanted) this.#child?.kill('SIGKILL')
  }

  /** Takes a port for a rank, and with it the bench. Rejects with Yielded when engines are here or it is taken. */
  async take(address: string): Promise<number> {
    this.#yield()
    if (this.#port !== undefined) throw new Yielded('another link is being measured')
    this.#port = 0
    try {
      const [port = 0] = await this.#doors.ports.take(1, address)
      return (this.#port = port)
    } catch (error) {
      this.#port = undefined
      throw error
    }
  }

  /** After `run`, or instead of it. */
  release(): void {
    const port = this.#port
    // First: a disk that is full does not keep the bench.
    this.#port = undefined
    if (port !== undefined && port !== 0) this.#doors.ports.release([port])
  }

  /** Runs the rank to its end; what it printed. Rejects with Yielded when a shard was wanted, else with what it said. */
  async run(ring: BenchRing): Promise<string> {
    const { clock, dataDir, launch, firewall } = this.#doors
    const { rank, address, port, peerAddress, peerPort } = ring
    const [own, peer] = [[joinHostPort(address, port)], [joinHostPort(peerAddress, peerPort)]]
    const hosts = rank === 0 ? [own, peer] : [peer, own]
    mkdirSync(join(dataDir, 'links'), { recursive: true, mode: 0o700 })
    const dir = mkdtempSync(join(dataDir, 'links', 'bench-'))
    try {
      const { engine, files } = launch({ hosts, rank, dir, parentPid: process.pid, seconds: SECONDS })
      for (const { path, content } of files) writeFileSync(path, content, { mode: 0o600 })
      const gate = gateOf(port, hosts)
      if (gate !== undefined) await firewall?.set([gate], OWNER)
      this.#yield()
      return await this.#toItsEnd(engine, clock)
    } finally {
      await firewall?.set([], OWNER)
      rmSync(dir, { recursive: true, force: true })
    }
  }

  #toItsEnd({ argv: [command = '', ...args], env, cwd }: Engine, clock: Clock): Promise<string> {
    return new Promise((resolve, reject) => {
      const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] })
      this.#child = child
      const tooLate = clock.after(SECONDS * 1000 + SLACK_MS, () => child.kill('SIGKILL'))
      const said = { out: '', error: '' }
      child.stdout.on('data', (part: Buffer) => (said.out = (said.out + part.toString()).slice(-SAID_CHARACTERS)))
      child.stderr.on('data', (part: Buffer) => (said.error = (said.error + part.toString()).slice(-SAID_CHARACTERS)))
      child.on('error', reject)
      child.on('close', (code, signal) => {
        tooLate.cancel()
        this.#child = undefined
        if (code === 0) return resolve(said.out)
        if (this.#wanted) return reject(new Yielded(WANTED))
        reject(new Error(signal === null ? lastLine(said.error) || `exit code ${code}` : endedBy(signal)))
      })
    })
  }

  #yield(): void {
    if (this.#wanted) throw new Yielded(WANTED)
    if (this.#doors.isServing()) throw new Yielded('engines run here')
  }
}

type Engine = ReturnType<BenchDoors['launch']>['engine']

const WANTED = 'a shard is wanted here'
const endedBy = (signal: NodeJS.Signals): string =>
  signal === 'SIGALRM' ? `it was not done after ${SECONDS} s` : `it was ended by ${signal}`
const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) ?? ''

/** What rank 0 printed, without what the bytes take; undefined: it makes no sense. */
export function readFigures(text: string, bytesPerSecond: number): EngineFigures | undefined {
  let said: Partial<Record<string, unknown>>
  try {
    said = JSON.parse(text) as typeof said
  } catch {
    return undefined
  }
  const { allReduceMicros, hopMicros, vectorBytes } = said
  if (![allReduceMicros, hopMicros, vectorBytes].every(isPositive)) return undefined
  // Two ranks pass each byte once each way (facts: 2(t−1)/t); plans add that for the model's own vectors.
  const wireMicros = (1e6 * Number(vectorBytes)) / bytesPerSecond
  return { allReduceMicros: Math.max(1, Number(allReduceMicros) - wireMicros), hopMicros: Number(hopMicros) }
}

const isPositive = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value) && value > 0
