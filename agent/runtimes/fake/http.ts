/** The fake leader's HTTP on loopback: the part of OpenAI's API that an engine offers. Slots, pacing and cancelling too. */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'
import type { AnswerHead, Limits, Question, Refused } from './answers.ts'
import { chunk, readQuestion, refused, streamEnd, wholeAnswer } from './answers.ts'

export interface FakeHttpOptions {
  readonly port: number
  readonly limits: Limits
  readonly concurrency: number
  readonly tokensPerSecond: number
  readonly clock: Clock
  readonly health: () => 'Loading' | 'Serving' | 'Failing'
  /** Resolves when the gang has made its next step; each token needs one. */
  readonly step: () => Promise<void>
  readonly onAnswered: (prompt: number, generated: number) => void
  readonly log: (line: string) => void
}

const chatPaths = new Set(['/v1/chat/completions', '/chat/completions'])

export class FakeHttp {
  readonly #options: FakeHttpOptions
  readonly #server: Server
  readonly #waiting: (() => void)[] = []
  #active = 0
  #count = 0

  constructor(options: FakeHttpOptions) {
    this.#options = options
    this.#server = createServer((incoming, reply) => void this.#onRequest(incoming, reply))
    this.#server.keepAliveTimeout = 60_000
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host: '127.0.0.1', port: this.#options.port, exclusive: true }, resolve)
    })
  }

  /** Requests that are answered now, and those that wait for a slot. */
  load(): { readonly active: number; readonly queued: number } {
    return { active: this.#active, queued: this.#waiting.length }
  }

  async #onRequest(incoming: IncomingMessage, reply: ServerResponse): Promise<void> {
    const path = (incoming.url ?? '').split('?')[0] ?? ''
    if (incoming.method === 'GET') return this.#onGet(path, reply)
    if (!chatPaths.has(path) && path !== '/v1/completions') return refuse(reply, notFound(path))
    const text = await readBody(incoming)
    if (text === undefined) return
    const health = this.#options.health()
    if (health === 'Loading') return refuse(reply, refused('the model is not ready', undefined, 'not_ready', 503))
    if (health === 'Failing')
      return refuse(reply, refused('the engine failed: it was told to', undefined, 'engine_failed', 500))
    const question = readQuestion(text, chatPaths.has(path), this.#options.limits)
    if (question.kind === 'Refused') return refuse(reply, question)
    await this.#answer(question, reply)
  }

  #onGet(path: string, reply: ServerResponse): void {
    const { limits, health } = this.#options
    if (path === '/health') {
      const ok = health() === 'Serving'
      return send(reply, ok ? 200 : 503, JSON.stringify({ status: ok ? 'ok' : 'unavailable' }))
    }
    const model = { id: limits.servedName, object: 'model', created: 0, owned_by: 'mctl' }
    if (path === '/v1/models') return send(reply, 200, JSON.stringify({ object: 'list', data: [model] }))
    refuse(reply, notFound(path))
  }

  async #answer(question: Question, reply: ServerResponse): Promise<void> {
    const id = `fake-${(this.#count += 1)}`
    await this.#takeSlot()
    let said = 0
    try {
      if (reply.destroyed) return
      const createdSeconds = Math.floor(this.#options.clock.nowMs() / 1000)
      const head = { id, model: this.#options.limits.servedName, createdSeconds }
      said = await this.#say(head, question, reply)
    } finally {
      this.#giveSlot()
      this.#options.onAnswered(question.promptTokens, said)
      if (said < question.tokens.length) this.#options.log(`${id} cancelled after ${said} tokens: the client is gone`)
    }
  }

  /** Tokens one after the other, at their speed; ends early when the client goes. Returns how many were said. */
  async #say(head: AnswerHead, question: Question, reply: ServerResponse): Promise<number> {
    const { clock, tokensPerSecond, step } = this.#options
    const startMs = clock.monotonicMs()
    if (question.stream) reply.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    for (const [i, token] of question.tokens.entries()) {
      await step()
      const aheadMs = startMs + (i * 1000) / tokensPerSecond - clock.monotonicMs()
      if (aheadMs > 0) await sleep(clock, aheadMs)
      if (reply.destroyed) return i
      if (question.stream) reply.write(chunk(head, question, token))
    }
    if (question.stream) reply.end(chunk(head, question, undefined) + streamEnd(head, question))
    else send(reply, 200, wholeAnswer(head, question))
    return question.tokens.length
  }

  async #takeSlot(): Promise<void> {
    if (this.#active >= this.#options.concurrency) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#active += 1
  }

  #giveSlot(): void {
    this.#active -= 1
    this.#waiting.shift()?.()
  }
}

/** undefined: the client went away before it had said everything. */
async function readBody(incoming: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = []
  try {
    for await (const part of incoming) parts.push(part as Buffer)
  } catch {
    return undefined
  }
  return Buffer.concat(parts).toString()
}

const notFound = (path: string): Refused => refused(`there is no ${path}`, undefined, 'not_found', 404)

const refuse = (reply: ServerResponse, { status, body }: Refused): void => send(reply, status, JSON.stringify(body))

function send(reply: ServerResponse, status: number, body: string): void {
  reply.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  reply.end(body)
}
