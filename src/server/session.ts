/** One agent's session: what it said last, what is on the way down to it, and the logs that are asked of it. */
import type { LinkMeasurement, LinkOrder } from '../api/links.ts'
import type { LiveReading } from '../api/live.ts'
import type { Clock } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import { Pipe } from '../rpc/flow.ts'
import type { AgentMessage, ServerMessage } from '../rpc/messages.ts'
import type { LogRelay } from './logrelay.ts'

export type Hello = Extract<AgentMessage, { type: 'Hello' }>

/** An agent that lets so many messages pile up reads no more. */
const MAX_OUT = 256
const OUT_WINDOW = 64
/** An agent gives up by itself before. */
const MEASURE_TIMEOUT_MS = 60_000

export class Session {
  readonly hello: Hello
  readonly out = new Pipe<ServerMessage>(OUT_WINDOW)
  readonly relays = new Map<string, LogRelay>()
  /** Links that the agent was asked to measure. */
  readonly #measuring = new Map<string, (measurement: LinkMeasurement) => void>()
  /** Monotonic ms of the last message. */
  lastSeenMs: number
  synced = false
  /** Of its last heartbeat. */
  reading: LiveReading | undefined
  nodeUid = ''
  readonly #over = new AbortController()

  constructor(hello: Hello, nowMs: number) {
    this.hello = hello
    this.lastSeenMs = nowMs
  }

  get node(): string {
    return this.hello.nodeName
  }

  /** Aborts when the session is over. */
  get signal(): AbortSignal {
    return this.#over.signal
  }

  send(message: ServerMessage): void {
    this.out.push(message)
    if (this.out.length > MAX_OUT)
      this.end(new OpError('Unavailable', `the agent of node "${this.node}" does not read its session`))
  }

  /** Asks the agent to measure a link. NotDone when it gives no answer, or goes away. */
  measureLink(requestId: string, order: LinkOrder, clock: Clock): Promise<LinkMeasurement> {
    return new Promise((resolve) => {
      const answer = (measurement: LinkMeasurement) => {
        timer.cancel()
        this.#measuring.delete(requestId)
        resolve(measurement)
      }
      const timer = clock.after(MEASURE_TIMEOUT_MS, () =>
        answer({ kind: 'NotDone', message: `the agent of node "${this.node}" gave no answer` }),
      )
      this.#measuring.set(requestId, answer)
      this.send({ type: 'MeasureLink', requestId, order })
    })
  }

  onMeasured(requestId: string, measurement: LinkMeasurement): void {
    this.#measuring.get(requestId)?.(measurement)
  }

  /** Over: well, or by an error that the agent is told. Pending logs end Unavailable. Idempotent. */
  end(error?: OpError): void {
    if (this.#over.signal.aborted) return
    this.#over.abort()
    if (error === undefined) this.out.end()
    else this.out.fail(error)
    for (const relay of [...this.relays.values()])
      relay.fail(new OpError('Unavailable', `the agent of node "${this.node}" went away while its log was read`))
    this.relays.clear()
    for (const answer of [...this.#measuring.values()]) answer({ kind: 'NotDone', message: 'the agent went away' })
  }

  /** The same agent again, or another one that took the name? */
  isSameAgent({ agentId, bootId }: Hello): boolean {
    const { hello } = this
    return agentId !== undefined && hello.agentId !== undefined ? agentId === hello.agentId : bootId === hello.bootId
  }
}
