/** Messages on their way up a session: pushed by many, taken by the transport one at a time. */
import type { AgentMessage } from '../src/rpc/messages.ts'

interface Waiting {
  readonly message: AgentMessage
  readonly taken: (delivered: boolean) => void
}

/** `send` resolves true when the transport took the message (backpressure for logs), false when the session ended first. */
export class Outbox implements AsyncIterable<AgentMessage> {
  readonly #queue: Waiting[] = []
  #wake: () => void = () => {}
  #closed = false

  send(message: AgentMessage): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    return new Promise((taken) => {
      this.#queue.push({ message, taken })
      this.#wake()
    })
  }

  /** Ends the stream; what waits is dropped. */
  close(): void {
    this.#closed = true
    for (const { taken } of this.#queue.splice(0)) taken(false)
    this.#wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<AgentMessage> {
    while (!this.#closed) {
      const next = this.#queue.shift()
      if (next === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve))
        continue
      }
      next.taken(true)
      yield next.message
    }
  }
}
