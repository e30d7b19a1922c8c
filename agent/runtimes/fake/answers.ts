/**
 * What the fake engine says: pure. A request in OpenAI's form is refused as the mlx shim refuses it, or answered with
 * tokens that depend on its text alone, so that every strategy and every epoch gives the same answer.
 */
export interface Limits {
  readonly servedName: string
  readonly contextTokens: number
  readonly maxOutputTokens: number
  readonly worldSize: number
}

export interface Question {
  readonly kind: 'Question'
  readonly chat: boolean
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly promptTokens: number
  readonly tokens: readonly string[]
  readonly finishReason: 'stop' | 'length'
}

export interface Refused {
  readonly kind: 'Refused'
  readonly status: number
  readonly body: { readonly error: { message: string; type: string; param: string | null; code: string | null } }
}

const CHARACTERS_PER_TOKEN = 4
const words =
  'the a small quiet cluster of minis shares one model and every rank holds its part while tokens pass around the ring'.split(
    ' ',
  )

/** Reads one request body. Null fields count as absent. */
export function readQuestion(text: string, chat: boolean, limits: Limits): Question | Refused {
  const body = parseBody(text)
  if (body === undefined) return refused('the body must be a JSON object')
  const model = body['model'] ?? limits.servedName
  if (model !== limits.servedName && model !== 'default_model')
    return refused(`the model ${JSON.stringify(model)} is not served here`, 'model', 'model_not_found', 404)
  const prompt = chat ? chatPrompt(body['messages']) : body['prompt']
  if (typeof prompt !== 'string' || prompt === '')
    return chat
      ? refused('messages must be a list of messages that is not empty', 'messages')
      : refused('prompt must be one text that is not empty', 'prompt')
  const stops = stopsOf(body['stop'])
  if (stops === undefined) return refused('stop must be a text or a list of texts, none of them empty', 'stop')
  if (body['seed'] !== undefined && limits.worldSize > 1)
    return refused('seed is not supported by a model that runs on several machines', 'seed', 'unsupported_parameter')
  return fit(body, { prompt, stops, chat }, limits)
}

/** As asked or refused, never clamped; without a max_tokens the answer ends by itself, within what fits. */
function fit(
  body: Record<string, unknown>,
  { prompt, stops, chat }: { prompt: string; stops: readonly string[]; chat: boolean },
  { contextTokens, maxOutputTokens }: Limits,
): Question | Refused {
  const param = body['max_completion_tokens'] === undefined ? 'max_tokens' : 'max_completion_tokens'
  const asked = body[param]
  if (asked !== undefined && (typeof asked !== 'number' || !Number.isInteger(asked) || asked < 1))
    return refused(`${param} must be a whole number of at least 1`, param)
  if (asked !== undefined && asked > maxOutputTokens)
    return refused(`${param} is ${asked}; the most is ${maxOutputTokens}`, param, 'context_length_exceeded')
  const promptTokens = countTokens(prompt)
  const room = contextTokens - promptTokens
  if ((asked ?? 1) > room)
    return refused(
      `${promptTokens} tokens of prompt and max_tokens ${asked ?? 1} are ${promptTokens + (asked ?? 1)} tokens; the ` +
        `context is ${contextTokens} tokens`,
      param,
      'context_length_exceeded',
    )
  const own = naturalLength(prompt)
  const most = asked ?? Math.min(maxOutputTokens, room)
  const count = asked ?? Math.min(own, most)
  const said = cutAtStop(answerTokens(prompt, count), stops)
  const options = body['stream_options'] as { include_usage?: unknown } | undefined
  return {
    kind: 'Question',
    chat,
    stream: body['stream'] === true,
    includeUsage: options?.include_usage === true,
    promptTokens,
    tokens: said.tokens,
    finishReason: said.stopped || (asked === undefined && own <= most) ? 'stop' : 'length',
  }
}

function parseBody(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== null))
  } catch {
    return undefined
  }
}

function chatPrompt(messages: unknown): string | undefined {
  if (!Array.isArray(messages) || messages.length === 0) return undefined
  const lines = (messages as unknown[]).map((message) => {
    const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown }
    return typeof role === 'string' ? `${role}: ${typeof content === 'string' ? content : JSON.stringify(content)}` : ''
  })
  return lines.includes('') ? undefined : lines.join('\n')
}

function stopsOf(stop: unknown): readonly string[] | undefined {
  const stops: unknown[] = stop === undefined ? [] : Array.isArray(stop) ? stop : [stop]
  return stops.every((s) => typeof s === 'string' && s !== '') ? (stops as string[]) : undefined
}

export const countTokens = (text: string): number => Math.ceil(text.length / CHARACTERS_PER_TOKEN)

/** The first `count` tokens of the answer to a prompt. */
export function answerTokens(prompt: string, count: number): readonly string[] {
  let state = hash(prompt)
  return Array.from({ length: count }, (_, i) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const word = words[(state >>> 16) % words.length] ?? ''
    return i === 0 ? word : ` ${word}`
  })
}

const naturalLength = (prompt: string): number => 16 + (hash(prompt) % 32)

/** FNV-1a over UTF-16 units. */
function hash(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

function cutAtStop(tokens: readonly string[], stops: readonly string[]) {
  const text = tokens.join('')
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
  if (found.length === 0) return { tokens, stopped: false }
  let room = Math.min(...found)
  const kept: string[] = []
  for (const token of tokens) {
    if (room <= 0) break
    kept.push(token.slice(0, room))
    room -= token.length
  }
  return { tokens: kept, stopped: true }
}

export function refused(message: string, param?: string, code?: string, status = 400): Refused {
  const type = status < 500 ? 'invalid_request_error' : 'server_error'
  return { kind: 'Refused', status, body: { error: { message, type, param: param ?? null, code: code ?? null } } }
}

/** The parts of an answer that all its chunks share. */
export interface AnswerHead {
  readonly id: string
  readonly model: string
  readonly createdSeconds: number
}

const usageOf = (q: Question) => ({
  prompt_tokens: q.promptTokens,
  completion_tokens: q.tokens.length,
  total_tokens: q.promptTokens + q.tokens.length,
})

/** The whole answer, for a request that does not stream. */
export function wholeAnswer(head: AnswerHead, q: Question): string {
  const text = q.tokens.join('')
  const said = q.chat ? { message: { role: 'assistant', content: text } } : { text }
  return JSON.stringify({
    id: head.id,
    object: q.chat ? 'chat.completion' : 'text_completion',
    model: head.model,
    created: head.createdSeconds,
    choices: [{ index: 0, finish_reason: q.finishReason, ...said }],
    usage: usageOf(q),
  })
}

/** One server-sent event: a token, or the end with its reason. */
export function chunk(head: AnswerHead, q: Question, token: string | undefined): string {
  const said = q.chat
    ? { delta: token === undefined ? { role: 'assistant' } : { role: 'assistant', content: token } }
    : { text: token ?? '' }
  return event({
    id: head.id,
    object: q.chat ? 'chat.completion.chunk' : 'text_completion',
    model: head.model,
    created: head.createdSeconds,
    choices: [{ index: 0, finish_reason: token === undefined ? q.finishReason : null, ...said }],
  })
}

/** What follows the last chunk. */
export function streamEnd(head: AnswerHead, q: Question): string {
  const usage = {
    id: head.id,
    object: q.chat ? 'chat.completion' : 'text_completion',
    model: head.model,
    created: head.createdSeconds,
    choices: [],
    usage: usageOf(q),
  }
  return `${q.includeUsage ? event(usage) : ''}data: [DONE]\n\n`
}

const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`
