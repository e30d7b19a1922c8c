/** `mctl chat MODEL [PROMPT]`: a conversation through the gateway, streamed, with tokens per second at the end. */
import { OpError, isOpError, messageOf } from '../lib/errors.ts'
import type { Cli } from './context.ts'
import { CliError, withClient } from './context.ts'

export interface ChatFlags {
  readonly server?: string
  readonly gateway?: string
  readonly system?: string
  readonly maxTokens?: string
  readonly temperature?: string
}

interface Turn {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export async function chat(cli: Cli, model: string, prompt: string | undefined, flags: ChatFlags): Promise<number> {
  const base = flags.gateway === undefined ? await gatewayOf(cli, flags.server) : asUrl(flags.gateway)
  const turns: Turn[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  if (prompt !== undefined) {
    await say(cli, base, model, [...turns, { role: 'user', content: prompt }], flags)
    return 0
  }
  for (;;) {
    const line = await cli.terminal.question('> ')
    if (line === undefined || cli.signal.aborted) return 0
    if (line.trim() === '') continue
    turns.push({ role: 'user', content: line })
    turns.push({ role: 'assistant', content: await say(cli, base, model, turns, flags) })
  }
}

const asUrl = (address: string) => (address.includes('://') ? address.replace(/\/$/, '') : `http://${address}`)

async function gatewayOf(cli: Cli, server: string | undefined): Promise<string> {
  const { gatewayUrl } = await withClient(cli, server, (client) => client.version({}))
  if (gatewayUrl === undefined) throw new CliError('the server has no gateway; name one with --gateway HOST:PORT')
  return gatewayUrl
}

/** Streams one answer to stdout and returns it whole. */
async function say(
  cli: Cli,
  base: string,
  model: string,
  messages: readonly Turn[],
  flags: ChatFlags,
): Promise<string> {
  const body = {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...(flags.maxTokens === undefined ? {} : { max_tokens: numberOf('--max-tokens', flags.maxTokens) }),
    ...(flags.temperature === undefined ? {} : { temperature: numberOf('--temperature', flags.temperature) }),
  }
  const response = await post(cli, `${base}/v1/chat/completions`, body)
  const meter = new Meter(cli)
  let answer = ''
  for await (const chunk of serverSentData(response)) {
    if (chunk === '[DONE]') break
    const event = JSON.parse(chunk) as StreamChunk
    if (event.error !== undefined) throw new CliError(`the answer broke off: ${event.error.message}`)
    const text = event.choices?.[0]?.delta?.content ?? ''
    if (text !== '') meter.token()
    if (event.usage?.completion_tokens !== undefined) meter.counted(event.usage.completion_tokens)
    answer += text
    cli.terminal.out(text)
  }
  cli.terminal.out('\n')
  cli.terminal.err(`${meter.summary()}\n`)
  return answer
}

function numberOf(flag: string, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value)) throw new CliError(`${flag} must be a number, not "${text}"`)
  return value
}

interface StreamChunk {
  readonly error?: { readonly message: string }
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[]
  readonly usage?: { readonly completion_tokens?: number } | null
}

async function post(cli: Cli, url: string, body: unknown): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: cli.signal,
    })
  } catch (cause) {
    throw new CliError(`ask ${url}: ${messageOf(cause)}; is the gateway running?`)
  }
  if (response.ok) return response
  const text = await response.text()
  throw new CliError(`the gateway answered ${response.status}: ${errorTextOf(text)}`)
}

function errorTextOf(text: string): string {
  try {
    const parsed = JSON.parse(text) as { error?: { message?: string } | string }
    return typeof parsed.error === 'string' ? parsed.error : (parsed.error?.message ?? text)
  } catch {
    return text
  }
}

/** The payloads of `data:` lines, as they come. */
async function* serverSentData(response: Response): AsyncIterable<string> {
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for await (const bytes of response.body ?? []) {
      const lines = (rest + decoder.decode(bytes as Uint8Array, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim()
    }
  } catch (cause) {
    throw isOpError(cause) ? cause : new OpError('Unavailable', 'the connection to the gateway broke off', { cause })
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
    return `(${this.#tokens} tokens, first after ${first} s${rate})`
  }
}
