/**
 * The fake gang's ring: rank r listens, connects to rank r+1, and passes a byte on. One byte all the way round is one
 * step of the gang, so a rank that stops passing stops them all, and one that dies is noticed by its neighbours.
 */
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'
import type { HostPort } from '../../../src/lib/hostport.ts'
import { splitHostPort } from '../../../src/lib/hostport.ts'

const RETRY_MS = 30
const STEP = Buffer.from('.')
const LOST = 'connection to a peer was lost'

export interface RingOptions {
  readonly rank: number
  readonly hosts: readonly (readonly string[])[]
  /** Ranks of another gang or epoch are turned away. */
  readonly gang: string
  readonly clock: Clock
  readonly deadlineMs: number
  /** A step has come: at rank 0 once around; at the others from the neighbour, for them to pass on. */
  readonly onStep: () => void
  readonly onBroken: (why: string) => void
}

export class Ring {
  readonly #options: RingOptions
  #previous: Socket | undefined
  #next: Socket | undefined

  constructor(options: RingOptions) {
    this.#options = options
  }

  /** Resolves when both neighbours are there; rejects at the deadline. */
  async join(): Promise<void> {
    const { rank, hosts, onBroken } = this.#options
    const server = await this.#listen(endpoint(hosts[rank]))
    try {
      const neighbours = await this.#meet(endpoint(hosts[(rank + 1) % hosts.length]))
      for (const socket of neighbours) {
        socket.on('close', () => onBroken(LOST))
        if (socket.destroyed) onBroken(LOST)
      }
    } finally {
      server.close()
    }
  }

  /** Both neighbours, once they have been met. */
  async #meet(next: HostPort): Promise<readonly Socket[]> {
    const { clock, deadlineMs } = this.#options
    const untilMs = clock.monotonicMs() + deadlineMs
    while (clock.monotonicMs() <= untilMs) {
      if (this.#next === undefined) await this.#tryNext(next)
      if (this.#next !== undefined && this.#previous !== undefined) return [this.#previous, this.#next]
      await sleep(clock, RETRY_MS)
    }
    throw new Error(`the other ranks did not come within ${deadlineMs / 1000} s`)
  }

  /** Rank 0 starts a step, the others pass it on. */
  step(): void {
    this.#next?.write(STEP)
  }

  #listen({ host, port }: HostPort): Promise<Server> {
    const { rank, hosts, gang } = this.#options
    const expected = helloOf(gang, (rank + hosts.length - 1) % hosts.length)
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.once('data', (hello: Buffer) => {
        if (hello.toString() !== expected || this.#previous !== undefined) return void socket.destroy()
        socket.setNoDelay(true)
        this.#previous = socket
        socket.write('ok')
        socket.on('data', () => this.#options.onStep())
      })
    })
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port }, () => resolve(server))
    })
  }

  /** One try to reach the next rank and be let in. */
  #tryNext({ host, port }: HostPort): Promise<void> {
    const { gang, rank } = this.#options
    return new Promise((resolve) => {
      const socket = connect({ host, port, noDelay: true }, () => socket.write(helloOf(gang, rank)))
      socket.once('data', () => {
        this.#next = socket
        resolve()
      })
      socket.on('error', () => socket.destroy())
      socket.once('close', () => resolve())
    })
  }
}

const endpoint = (addresses: readonly string[] | undefined): HostPort => splitHostPort(addresses?.[0] ?? '')

const helloOf = (gang: string, rank: number): string => JSON.stringify({ gang, rank })
