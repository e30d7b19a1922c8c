/**
 * The companion of a llama-server: waits for the workers, asks how it is while it loads and serves, and checks requests
 * before they reach it. Its /health says only that the model is loaded; /metrics is answered by the very loop that
 * computes, so an answer is a sign of life, idle and busy.
 */
import { request } from 'node:http'
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'
import type { Admission, Companion, Incoming } from '../../shardhost/companion.ts'
import type { CompanionSpec, EngineEvent } from '../../shardhost/protocol.ts'
import { wayTo } from '../../shardhost/protocol.ts'
import { TunnelEntrance } from '../../shardhost/tunnel.ts'
import { parseMetrics } from './metrics.ts'
import { retried } from './peers.ts'
import type { Refusal } from './requests.ts'
import { checkBody, fitTokens, isRefusal, refusal } from './requests.ts'

type LeaderSpec = Extract<CompanionSpec, { kind: 'LlamaServer' }>

/** Agents start the ranks of a gang within 15 s of each other; a slow machine takes some more. */
const WORKERS_DEADLINE_MS = 40_000
const LOAD_POLL_MS = 100
const BEAT_MS = 1000
const ASK_TIMEOUT_MS = 600_000
const CHAT = new Set(['/v1/chat/completions', '/chat/completions'])
const COMPLETIONS = '/v1/completions'

export function llamaServerCompanion(spec: LeaderSpec, credentialsFile: string | undefined, clock: Clock): Companion {
  const leader = new Leader(spec, clock)
  const ways = spec.workers.map((worker) => new TunnelEntrance(worker, credentialsFile))
  let ports: readonly number[] = []
  return {
    beforeStart: async (signal) => {
      ports = await Promise.all(ways.map((way) => way.listen()))
      return leader.waitForWorkers(ways, signal)
    },
    complete: (argv) =>
      argv.map((word) => ports.reduce((w, port, i) => w.replace(wayTo(i + 1), `127.0.0.1:${port}`), word)),
    close: () => ways.forEach((way) => way.close()),
    attend: (tell, signal) => leader.attend(tell, signal),
    hear: lastWords,
    veto: (line) => vetoOf(spec, line),
    admit: (incoming, signal) => leader.admit(incoming, signal),
  }
}

class Leader {
  readonly #spec: LeaderSpec
  readonly #clock: Clock

  constructor(spec: LeaderSpec, clock: Clock) {
    this.#spec = spec
    this.#clock = clock
  }

  /** A leader that finds a worker absent aborts at once: so it is started when all of them listen. */
  async waitForWorkers(ways: readonly TunnelEntrance[], signal: AbortSignal): Promise<string | undefined> {
    const wait = (way: TunnelEntrance) => retried(() => way.obstacle(signal), WORKERS_DEADLINE_MS, this.#clock, signal)
    const absent = (await Promise.all(ways.map(wait))).flatMap((why, i) =>
      why === undefined ? [] : [`rank ${i + 1} at ${this.#spec.workers[i]?.address} (${why})`],
    )
    if (absent.length === 0) return undefined
    const who = absent.length === 1 ? 'the other rank' : 'the other ranks'
    return `${who} did not come: nobody listened at ${absent.join(' and ')} within ${WORKERS_DEADLINE_MS / 1000} s`
  }

  async attend(tell: (event: EngineEvent) => void, signal: AbortSignal): Promise<void> {
    const startMs = this.#clock.monotonicMs()
    const seconds = () => (this.#clock.monotonicMs() - startMs) / 1000
    for (let loading = false; !signal.aborted; await sleep(this.#clock, LOAD_POLL_MS, signal)) {
      const status = (await this.#ask('GET', '/health', undefined, signal))?.status
      if (status === 200) break
      if (status === 503 && !loading) {
        loading = true
        tell({ ev: 'loading' })
      }
    }
    if (!signal.aborted) tell({ ev: 'ready', s: seconds() })
    await this.#beat(tell, signal)
  }

  /** Each answer is a heartbeat; without one the shardhost lets the age grow. */
  async #beat(tell: (event: EngineEvent) => void, signal: AbortSignal): Promise<void> {
    let polls = 0
    let steps = -1
    let movedMs = this.#clock.monotonicMs()
    for (; !signal.aborted; await sleep(this.#clock, BEAT_MS, signal)) {
      const reply = await this.#ask('GET', '/metrics', undefined, signal)
      if (reply?.status !== 200) continue
      const now = parseMetrics(reply.text)
      const nowMs = this.#clock.monotonicMs()
      const busy = now.active > 0
      // Busy, answering and not one step further is a stall, too.
      if (!busy || now.steps !== steps) movedMs = nowMs
      steps = now.steps
      polls += 1
      const age = (nowMs - movedMs) / 1000
      tell({ ev: 'hb', phase: 'ready', busy, ...now, polls, age, mem: 0 })
    }
  }

  async admit({ method, path, body }: Incoming, signal: AbortSignal): Promise<Admission> {
    const { servedName } = this.#spec.limits
    const plainPath = path.split('?')[0] ?? ''
    if (method === 'GET') {
      const model = { id: servedName, object: 'model', created: 0, owned_by: 'mctl' }
      if (plainPath === '/health') return { kind: 'Forward', path: plainPath }
      if (plainPath === '/v1/models') return answered(200, { object: 'list', data: [model] })
      if (plainPath === `/v1/models/${servedName}`) return answered(200, model)
    }
    const chat = CHAT.has(plainPath)
    if (method !== 'POST' || (!chat && plainPath !== COMPLETIONS))
      return refused(refusal(`there is no ${method} ${plainPath}`, undefined, 'not_found', 404))
    const checked = checkBody(body.toString(), chat, this.#spec.limits)
    if (isRefusal(checked)) return refused(checked)
    const tokens = await this.#countTokens(checked, chat, signal)
    if (typeof tokens !== 'number') return refused(tokens)
    const fitted = fitTokens(checked, tokens, this.#spec.limits)
    if (isRefusal(fitted)) return refused(fitted)
    return { kind: 'Forward', path: chat ? '/v1/chat/completions' : COMPLETIONS, body: JSON.stringify(fitted) }
  }

  /** As the engine will count them, template and all. */
  async #countTokens(
    body: Readonly<Record<string, unknown>>,
    chat: boolean,
    signal: AbortSignal,
  ): Promise<number | Refusal> {
    let content = body['prompt']
    if (chat) {
      const { messages, tools, tool_choice, chat_template_kwargs } = body
      const asked = { messages, tools, tool_choice, chat_template_kwargs }
      const reply = await this.#ask('POST', '/apply-template', asked, signal)
      if (reply?.status !== 200) return notCounted(reply, 'messages')
      content = (JSON.parse(reply.text) as { prompt: unknown }).prompt
    }
    const reply = await this.#ask('POST', '/tokenize', { content, add_special: true, parse_special: true }, signal)
    if (reply?.status !== 200) return notCounted(reply, chat ? 'messages' : 'prompt')
    return (JSON.parse(reply.text) as { tokens: readonly unknown[] }).tokens.length
  }

  /** undefined: no answer at all. */
  #ask(method: string, path: string, body: unknown, signal: AbortSignal): Promise<Reply | undefined> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
    const options = { host: '127.0.0.1', port: this.#spec.enginePort, agent: false, timeout: ASK_TIMEOUT_MS, signal }
    return new Promise((resolve) => {
      const call = request({ ...options, method, path, headers }, (reply) => {
        const parts: Buffer[] = []
        reply.on('data', (part: Buffer) => parts.push(part))
        reply.on('end', () => resolve({ status: reply.statusCode ?? 0, text: Buffer.concat(parts).toString() }))
        reply.on('error', () => resolve(undefined))
      })
      call.on('timeout', () => call.destroy())
      call.on('error', () => resolve(undefined))
      call.end(text)
    })
  }
}

interface Reply {
  readonly status: number
  readonly text: string
}

const answered = (status: number, body: unknown): Admission => ({ kind: 'Answered', status, body })
const refused = ({ status, body }: Refusal): Admission => answered(status, body)

/** The engine's own words where it has some: its template or tokenizer does not digest this. */
function notCounted(reply: Reply | undefined, param: string): Refusal {
  if (reply === undefined || reply.status >= 503)
    return refusal('the engine does not answer', undefined, 'engine_failed', 502)
  return refusal(`the model's template or tokenizer refuses this: ${wordsOf(reply.text)}`, param)
}

function wordsOf(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: unknown } }
    if (typeof error?.message === 'string') return error.message.slice(0, 500)
  } catch {
    // As it is.
  }
  return text.slice(0, 500)
}

const fatal =
  /Remote RPC server crashed|Failed to connect to|RPC handshake failed|error loading model|failed to load model|failed to allocate|unable to allocate|failed to initialize the context|invalid argument|^error[:\s]|couldn't bind/i

function lastWords(line: string): EngineEvent | undefined {
  return fatal.test(line) ? { ev: 'exit', code: 1, reason: line.trim().slice(0, 300) } : undefined
}

/** A model with layers that no plan counted (a draft head) would be cut elsewhere than planned, beyond a node's memory. */
function vetoOf({ workers, layers }: LeaderSpec, line: string): string | undefined {
  const counted = Number(/offloaded \d+\/(\d+) layers to GPU/.exec(line)?.[1] ?? layers + 1) - 1
  if (workers.length === 0 || counted === layers) return undefined
  return `not supported over several nodes: llama.cpp counts ${counted} layers where the plan has ${layers}: it would divide this model otherwise`
}
