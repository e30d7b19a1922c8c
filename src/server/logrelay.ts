/**
 * One log on its way from an agent to a reader. The session that carries it also carries heartbeats and must never wait
 * for a reader, so what the reader has not taken is kept here, up to a bound that holds an engine's whole log.
 */
import { OpError } from '../lib/errors.ts'
import type { LogChunk } from '../rpc/messages.ts'

/** Two files of 8 MiB are all that an agent keeps of one shard. */
const MAX_HELD_CHARS = 20 * 2 ** 20
const MAX_CHUNK_CHARS = 64 * 1024

export class LogRelay {
  readonly #chunks: string[] = []
  #held = 0
  #ended = false
  #failure: OpError | undefined
  #wake: (() => void) | undefined

  get isOver(): boolean {
    return this.#ended
  }

  /** False when the reader is too slow: the relay has failed, and the agent may stop. */
  add(text: string): boolean {
    if (this.#ended) return false
    this.#held += text.length
    if (this.#held > MAX_HELD_CHARS) {
      this.fail(new OpError('Unavailable', 'the log comes faster than it is read; ask for its end with --tail'))
      return false
    }
    const last = this.#chunks.length - 1
    const open = this.#chunks[last]
    // Agents send line by line: lines that wait travel on together.
    if (open !== undefined && open.length + text.length <= MAX_CHUNK_CHARS) this.#chunks[last] = open + text
    else this.#chunks.push(text)
    this.#wakeUp()
    return true
  }

  end(): void {
    this.#ended = true
    this.#wakeUp()
  }

  fail(error: OpError): void {
    if (this.#ended) return
    this.#failure = error
    this.end()
  }

  /** What was added, in order, then the end or the failure. For one reader. */
  async *read(): AsyncGenerator<LogChunk, void, undefined> {
    for (;;) {
      const text = this.#chunks.shift()
      if (text !== undefined) {
        this.#held -= text.length
        yield { text }
        continue
      }
      if (this.#failure !== undefined) throw this.#failure
      if (this.#ended) return
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
