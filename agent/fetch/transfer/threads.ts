/**
 * Transfers in threads of their own, so that a node that fetches at the speed of its disk answers as fast as one that
 * does not. Threads are started when they are needed, up to one per file at once, and end when nothing is fetched.
 */
import { Worker } from 'node:worker_threads'
import type { Clock } from '../../../src/lib/clock.ts'
import { workerUrl } from '../../../src/lib/nodeargv.ts'
import type { Call, FromThread, ToThread } from './protocol.ts'
import type { PartFile, PartPlace, ReceiveOptions, Transfers } from './transfers.ts'

const IDLE_MS = 5_000

export interface ThreadsOptions {
  readonly clock: Clock
  readonly threadsMax: number
}

export function threadedTransfers({ clock, threadsMax }: ThreadsOptions): Transfers {
  const threads = new Set<Thread>()
  const leastBusy = () => [...threads].sort((a, b) => a.parts - b.parts)[0]
  return {
    open(place, signal) {
      let thread = leastBusy()
      if (thread === undefined || (thread.parts > 0 && threads.size < threadsMax)) {
        const started: Thread = new Thread(clock, () => threads.delete(started))
        threads.add((thread = started))
      }
      return thread.open(place, signal)
    },
    close: async () => {
      await Promise.all([...threads].map((thread) => thread.end()))
    },
  }
}

class Thread {
  readonly #worker: Worker
  readonly #clock: Clock
  readonly #parts = new Map<number, RemotePart>()
  readonly #onEnd: () => void
  #last = 0
  #idle: { cancel(): void } | undefined

  /** `onEnd`: nothing may be asked of it any more. */
  constructor(clock: Clock, onEnd: () => void) {
    this.#clock = clock
    this.#onEnd = onEnd
    this.#worker = new Worker(workerUrl(import.meta.url, 'thread'))
    this.#worker.on('message', (message: FromThread) => this.#parts.get(message.part)?.hear(message))
    let cause = new Error('the thread of transfers has ended')
    this.#worker.on('error', (error) => (cause = error))
    this.#worker.on('exit', () => {
      onEnd()
      for (const part of this.#parts.values()) part.lose(cause)
      this.#parts.clear()
    })
  }

  /** Parts that are open. */
  get parts(): number {
    return this.#parts.size
  }

  async open(place: PartPlace, signal: AbortSignal): Promise<PartFile> {
    this.#idle?.cancel()
    const id = (this.#last += 1)
    const part = new RemotePart(
      (message) => this.#worker.postMessage({ part: id, ...message } as ToThread),
      () => this.#leave(id),
    )
    this.#parts.set(id, part)
    try {
      await part.open(place, signal)
      return part
    } catch (error) {
      this.#leave(id)
      throw error
    }
  }

  async end(): Promise<void> {
    this.#idle?.cancel()
    this.#onEnd()
    await this.#worker.terminate()
  }

  #leave(id: number): void {
    this.#parts.delete(id)
    if (this.#parts.size === 0) this.#idle = this.#clock.after(IDLE_MS, () => void this.end())
  }
}

type Reply = Extract<FromThread, { kind: 'Done' | 'Failed' }>
type Tell = (message: { call: Call } | { verdict: 'Append' | 'Restart' } | { abort: true }) => void

class RemotePart implements PartFile {
  readonly #tell: Tell
  readonly #onClosed: () => void
  #bytes = 0
  #receiving: Pick<ReceiveOptions, 'judge' | 'onBytes'> | undefined
  /** What `judge` threw: the cause of the failure that is still to come. */
  #refusal: Error | undefined
  #call: { readonly done: (reply: Reply) => void; readonly lost: (error: Error) => void } | undefined
  #lost: Error | undefined

  constructor(tell: Tell, onClosed: () => void) {
    this.#tell = tell
    this.#onClosed = onClosed
  }

  get bytes(): number {
    return this.#bytes
  }

  async open(place: PartPlace, signal: AbortSignal): Promise<void> {
    await this.#ask({ kind: 'Open', place }, signal)
  }

  async receive({ request, judge, onBytes, signal }: ReceiveOptions): Promise<void> {
    this.#receiving = { judge, onBytes }
    this.#refusal = undefined
    try {
      await this.#ask({ kind: 'Receive', request }, signal)
    } finally {
      this.#receiving = undefined
      onBytes(this.#bytes)
    }
  }

  async restart(): Promise<void> {
    await this.#ask({ kind: 'Restart' })
  }

  async sha256(): Promise<string> {
    return (await this.#ask({ kind: 'Sha256' })).sha256 ?? ''
  }

  async close(): Promise<void> {
    try {
      await this.#ask({ kind: 'Close' })
    } finally {
      this.#onClosed()
    }
  }

  hear(message: FromThread): void {
    switch (message.kind) {
      case 'Head':
        return void this.#judge(message.head)
      case 'Bytes':
        this.#bytes = message.bytes
        return this.#receiving?.onBytes(message.bytes)
      case 'Done':
      case 'Failed':
        this.#bytes = message.bytes
        return this.#call?.done(message)
    }
  }

  lose(error: Error): void {
    this.#lost = error
    this.#call?.lost(error)
  }

  async #judge(head: Parameters<ReceiveOptions['judge']>[0]): Promise<void> {
    try {
      const verdict = await this.#receiving?.judge(head)
      if (verdict !== undefined) this.#tell({ verdict })
    } catch (error) {
      this.#refusal = error instanceof Error ? error : new Error(String(error))
      this.#tell({ abort: true })
    }
  }

  async #ask(call: Call, signal?: AbortSignal): Promise<Extract<Reply, { kind: 'Done' }>> {
    signal?.throwIfAborted()
    if (this.#lost !== undefined) throw this.#lost
    const onAbort = () => this.#tell({ abort: true })
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const reply = await new Promise<Reply>((done, lost) => {
        this.#call = { done, lost }
        this.#tell({ call })
      })
      if (reply.kind === 'Done') return reply
      signal?.throwIfAborted()
      if (this.#refusal !== undefined) throw this.#refusal
      throw Object.assign(new Error(reply.message), reply.code === undefined ? {} : { code: reply.code })
    } finally {
      this.#call = undefined
      signal?.removeEventListener('abort', onAbort)
    }
  }
}
