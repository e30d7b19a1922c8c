/**
 * Ports of shards: from the agent's own range, outside the range the OS hands out to clients. Free is what can be bound
 * without sharing; it is never asked by connecting, for a stray connection poisons a gang's rendezvous. A port rests ten
 * minutes after its use, so that a late peer of an old epoch finds nobody.
 */
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../src/lib/clock.ts'
import { OpError } from '../src/lib/errors.ts'
import { readJson, writeJson } from './shardhost/statefile.ts'

export const PORT_REST_MS = 10 * 60_000

/** Both ends included. */
export interface PortRange {
  readonly first: number
  readonly last: number
}

export const defaultPortRange: PortRange = { first: 20_000, last: 20_999 }

/** `A-B`; Invalid when it is not one. */
export function parsePortRange(text: string): PortRange {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text.trim())
  const [first, last] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || first < 1024 || last > 65_535 || first > last)
    throw new OpError('Invalid', `--port-range: Invalid value: "${text}": must be A-B with 1024 <= A <= B <= 65535`)
  return { first, last }
}

/** Ports that the OS gives to outgoing connections. `procText` is /proc/sys/net/ipv4/ip_local_port_range on Linux. */
export function ephemeralRange(platform: NodeJS.Platform, procText: string | undefined): PortRange {
  const [first, last] = (platform === 'linux' ? (procText ?? '') : '').trim().split(/\s+/).map(Number)
  if (first && last) return { first, last }
  return platform === 'linux' ? { first: 32_768, last: 60_999 } : { first: 49_152, last: 65_535 }
}

/** Throws Invalid when an outgoing connection of this machine could take a port of the range. */
export function checkPortRange(range: PortRange, ephemeral: PortRange): void {
  if (range.last < ephemeral.first || range.first > ephemeral.last) return
  throw new OpError(
    'Invalid',
    `--port-range: Invalid value: "${range.first}-${range.last}": overlaps ${ephemeral.first}-${ephemeral.last}, from which ` +
      'this machine takes ports for outgoing connections; choose a range outside of it',
  )
}

export interface PortPoolOptions {
  readonly range: PortRange
  /** Where the resting ports are remembered. */
  readonly dataDir: string
  readonly clock: Clock
}

export class PortPool {
  readonly #options: PortPoolOptions
  readonly #path: string
  readonly #taken = new Set<number>()
  /** port → wall time at which it was given back. */
  readonly #resting: Map<number, number>
  #next: number

  constructor(options: PortPoolOptions) {
    this.#options = options
    this.#path = join(options.dataDir, 'ports.json')
    this.#resting = new Map(readResting(this.#path))
    this.#next = options.range.first
  }

  /** Ports of shards that were prepared before this agent started. */
  adopt(ports: readonly number[]): void {
    for (const port of ports) this.#taken.add(port)
  }

  /** `count` ports free on every address that a rank may listen on. Unavailable when the range has no more. */
  async take(count: number, address: string): Promise<number[]> {
    const ports: number[] = []
    const { first, last } = this.#options.range
    for (let tries = last - first + 1; tries > 0 && ports.length < count; tries -= 1) {
      const port = this.#next
      this.#next = port >= last ? first : port + 1
      if (this.#taken.has(port) || this.#rests(port)) continue
      // Taken before the test, which waits: two shards are prepared at once.
      this.#taken.add(port)
      if (await isFree(port, address)) ports.push(port)
      else this.#taken.delete(port)
    }
    if (ports.length === count) return ports
    for (const port of ports) this.#taken.delete(port)
    const rest = this.#resting.size > 0 ? `, ${this.#resting.size} of them rest for up to 10 minutes` : ''
    throw new OpError(
      'Unavailable',
      `take ${count} ports: none are free in ${first}-${last}${rest}; widen --port-range`,
    )
  }

  /** Gives ports back; they rest before they are used again. */
  release(ports: readonly number[]): void {
    const nowMs = this.#options.clock.nowMs()
    for (const port of ports) if (this.#taken.delete(port)) this.#resting.set(port, nowMs)
    for (const port of this.#resting.keys()) this.#rests(port)
    writeJson(this.#path, [...this.#resting])
  }

  #rests(port: number): boolean {
    const sinceMs = this.#resting.get(port)
    if (sinceMs === undefined) return false
    const restedMs = this.#options.clock.nowMs() - sinceMs
    if (restedMs >= 0 && restedMs < PORT_REST_MS) return true
    // Also when the clock was set back: then nobody knows how long it has rested, and the bind test decides.
    this.#resting.delete(port)
    return false
  }
}

function readResting(path: string): [number, number][] {
  const value = readJson(path)
  if (!Array.isArray(value)) return []
  return (value as unknown[]).filter(
    (pair): pair is [number, number] => Array.isArray(pair) && pair.length === 2 && pair.every(Number.isFinite),
  )
}

/**
 * On every own address and on all: one of them alone may be free while another listens on the port, and the rank may be
 * told to meet the others on any of them.
 */
async function isFree(port: number, address: string): Promise<boolean> {
  const own = Object.values(networkInterfaces()).flatMap((found = []) =>
    found.filter(({ family }) => family === 'IPv4'),
  )
  for (const host of new Set([address, ...own.map((found) => found.address), '127.0.0.1', '0.0.0.0']))
    if (!(await canListen(port, host))) return false
  return true
}

function canListen(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
