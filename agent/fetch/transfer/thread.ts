/** The thread of transfers: does what the agent's thread (threads.ts) says, and nothing on its own. */
import { parentPort } from 'node:worker_threads'
import { systemClock } from '../../../src/lib/clock.ts'
import { messageOf } from '../../../src/lib/errors.ts'
import { localTransfers } from './local.ts'
import type { Call, FromThread, ToThread } from './protocol.ts'
import type { PartFile, Verdict } from './transfers.ts'

/** More often than that nobody wants to hear of progress. */
const TELL_MS = 20

const transfers = localTransfers(systemClock)
const parts = new Map<number, ServedPart>()
const say = (message: FromThread): void => parentPort?.postMessage(message)

class ServedPart {
  readonly #id: number
  #part: PartFile | undefined
  #control = new AbortController()
  #judged: ((verdict: Verdict) => void) | undefined
  #toldMs = -Infinity
  #timer: { cancel(): void } | undefined

  constructor(id: number) {
    this.#id = id
  }

  hear(message: ToThread): void {
    if ('verdict' in message) this.#judged?.(message.verdict)
    else if ('abort' in message) this.#control.abort(new Error('stopped'))
    else void this.#answer(message.call)
  }

  async #answer(call: Call): Promise<void> {
    this.#control = new AbortController()
    try {
      const sha256 = await this.#do(call)
      this.#reply({ kind: 'Done', ...(sha256 === undefined ? {} : { sha256 }) })
    } catch (error) {
      if (call.kind === 'Open') parts.delete(this.#id)
      const { code } = error as NodeJS.ErrnoException
      this.#reply({ kind: 'Failed', message: messageOf(error), ...(code === undefined ? {} : { code }) })
    }
  }

  #reply(answer: { kind: 'Done'; sha256?: string } | { kind: 'Failed'; message: string; code?: string }): void {
    this.#timer?.cancel()
    this.#timer = undefined
    say({ part: this.#id, bytes: this.#part?.bytes ?? 0, ...answer })
  }

  async #do(call: Call): Promise<string | undefined> {
    const { signal } = this.#control
    if (call.kind === 'Open') {
      this.#part = await transfers.open(call.place, signal)
      return undefined
    }
    const part = this.#part
    if (part === undefined) throw new Error(`${call.kind} of a part that is not open`)
    switch (call.kind) {
      case 'Receive':
        await part.receive({
          request: call.request,
          judge: (head) => {
            say({ part: this.#id, kind: 'Head', head })
            return new Promise((resolve) => (this.#judged = resolve))
          },
          onBytes: () => this.#tell(),
          signal,
        })
        return undefined
      case 'Restart':
        await part.restart()
        return undefined
      case 'Sha256':
        return part.sha256()
      case 'Close':
        parts.delete(this.#id)
        await part.close()
        return undefined
    }
  }

  #tell(): void {
    if (this.#timer !== undefined) return
    const leftMs = this.#toldMs + TELL_MS - systemClock.monotonicMs()
    if (leftMs > 0) this.#timer = systemClock.after(leftMs, () => this.#sayBytes())
    else this.#sayBytes()
  }

  #sayBytes(): void {
    this.#timer = undefined
    this.#toldMs = systemClock.monotonicMs()
    say({ part: this.#id, kind: 'Bytes', bytes: this.#part?.bytes ?? 0 })
  }
}

parentPort?.on('message', (message: ToThread) => {
  const served = parts.get(message.part) ?? new ServedPart(message.part)
  parts.set(message.part, served)
  served.hear(message)
})
