/** One question to the gateway: the answer streams to stdout as it comes, its speed is told on stderr. */
import { OpError, messageOf } from '../../lib/errors.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'

export interface Turn {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export interface Gateway {
  readonly url: string
  /** Of the cluster, for TLS; the authorities that everybody knows count, too. */
  readonly authorityPem: string | undefined
  readonly key: string | undefined
}

export interface Question {
  readonly model?: string
  readonly messages: readonly Turn[]
}

/** Returns the whole answer. A CliError says what went wrong; Ctrl-C ends with 130. */
export async function ask(cli: Cli, base: Gateway, question: Question): Promise<string> {
  const body = { ...question, stream: true, stream_options: { include_usage: true } }
  const meter = new Meter(cli)
  let answer = ''
  let ended = false
  try {
    const response = await post(cli, base, body)
    for await (const data of serverSentData(response)) {
      const chunk = data === '[DONE]' ? undefined : chunkOf(data)
      ended ||= chunk === undefined || (chunk.choices?.some((choice) => Boolean(choice.finish_reason)) ?? false)
      if (chunk === undefined) break
      const text = chunk.choices?.[0]?.delta?.content ?? ''
      if (text !== '') meter.token()
      if (chunk.usage?.completion_tokens !== undefined) meter.counted(chunk.usage.completion_tokens)
      answer += text
      cli.terminal.out(text)
    }
    if (!ended) throw new CliError('the answer broke off: the connection ended before the answer did; ask again')
  } catch (error) {
    if (answer !== '') cli.terminal.out('\n')
    if (cli.signal.aborted) throw new OpError('Cancelled', 'ask: interrupted')
    throw error
  }
  cli.terminal.out('\n')
  cli.terminal.err(`${meter.summary()}\n`)
  return answer
}

interface Chunk {
  readonly error?: { readonly message?: string } | string
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null }
    readonly finish_reason?: string | null
  }[]
  readonly usage?: { readonly completion_tokens?: number } | null
}

function chunkOf(data: string): Chunk {
  let chunk: Chunk
  try {
    chunk = JSON.parse(data) as Chunk
  } catch {
    throw new CliError(`the answer broke off: the gateway sent what is no JSON: ${data.slice(0, 100)}`)
  }
  if (chunk.error !== undefined) throw new CliError(`the answer broke off: ${textOf(chunk.error, data)}; ask again`)
  return chunk
}

async function post(cli: Cli, base: Gateway, body: unknown): Promise<Response> {
  const request = {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(base.key === undefined ? {} : { authorization: `Bearer ${base.key}` }),
    },
    body: JSON.stringify(body),
    signal: cli.signal,
  }
  let response: Response
  try {
    response = await fetchFrom(base, '/v1/chat/completions', request)
  } catch (cause) {
    throw new CliError(
      `Unable to connect to the gateway: ${connectText(cause, base.url)}\nIs it running there? \`mctl dev\` and \`mctl server\` start one; --gateway names another address.`,
    )
  }
  if (response.ok) return response
  const text = await response.text().catch(() => '')
  const retryAfter = response.headers.get('retry-after')
  const hint = hints[response.status]
  throw new CliError(
    `the gateway answered ${response.status}: ${errorTextOf(text) || response.statusText}` +
      `${retryAfter === null ? '' : ` (try again in ${retryAfter} s)`}${hint === undefined ? '' : `\n${hint}`}`,
  )
}

/** Node's own fetch takes no authority: where one is needed, the library does that Node's is made of. */
async function fetchFrom({ url, authorityPem }: Gateway, path: string, request: RequestInit): Promise<Response> {
  if (authorityPem === undefined || !url.startsWith('https:')) return fetch(`${url}${path}`, request)
  const [{ Agent, fetch: fetchWith }, { rootCertificates }] = await Promise.all([import('undici'), import('node:tls')])
  const dispatcher = new Agent({ connect: { ca: [authorityPem, ...rootCertificates] } })
  const { method = 'GET', headers, body, signal } = request as Required<RequestInit> & { body: string }
  return (await fetchWith(`${url}${path}`, {
    ...{ method, headers: headers as Record<string, string>, body, signal, dispatcher },
  })) as unknown as Response
}

const hints: Readonly<Record<number, string>> = {
  401: 'Set MCTL_API_KEY to one that an admin made.',
  404: '`mctl get md -o wide` shows under SERVED-NAME what there is to talk with.',
  503: '`mctl get md` shows what is ready, `mctl describe md NAME` why it is not.',
}

/** fetch says only that it failed; its cause says why. */
function connectText(error: unknown, base: string): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  const code = (cause as NodeJS.ErrnoException).code
  if (code === 'ECONNREFUSED') return `${base}: connection refused`
  return `${base}: ${messageOf(cause)}`
}

function errorTextOf(text: string): string {
  try {
    return textOf((JSON.parse(text) as Chunk).error, text)
  } catch {
    return text.trim().slice(0, 500)
  }
}

const textOf = (error: Chunk['error'], otherwise: string): string =>
  typeof error === 'string' ? error : (error?.message ?? otherwise)

/** The payloads of `data:` lines, as they come. */
async function* serverSentData(response: Response): AsyncIterable<string> {
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for await (const bytes of response.body ?? []) {
      const lines = (rest + decoder.decode(bytes as Uint8Array, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line.startsWith('data:')) yield line.slice('data:'.length).trim()
    }
  } catch (error) {
    throw new CliError(`the answer broke off: ${messageOf(error)}; ask again`)
  }
}

/** Tokens and time: the first token is the wait, the rest is the speed. */
class Meter {
  readonly #clock: Cli['clock']
  readonly #startMs: number
  #firstMs: number | undefined
  #lastMs = 0
  #tokens = 0

  constructor(cli: Cli) {
    this.#clock = cli.clock
    this.#startMs = cli.clock.monotonicMs()
  }

  token(): void {
    this.#lastMs = this.#clock.monotonicMs()
    this.#firstMs ??= this.#lastMs
    this.#tokens++
  }

  /** The engine's own count: several tokens may come in one chunk. */
  counted(tokens: number): void {
    this.#tokens = tokens
  }

  summary(): string {
    if (this.#firstMs === undefined) return '(0 tokens)'
    const first = ((this.#firstMs - this.#startMs) / 1000).toFixed(2)
    const seconds = (this.#lastMs - this.#firstMs) / 1000
    const rate = this.#tokens > 1 && seconds > 0 ? `, ${((this.#tokens - 1) / seconds).toFixed(1)} tokens/s` : ''
    const noun = this.#tokens === 1 ? 'token' : 'tokens'
    return `(${this.#tokens} ${noun}, first after ${first} s${rate})`
  }
}
