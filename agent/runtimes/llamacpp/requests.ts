/**
 * What a request to llama-server may say: pure, a body in, the body for the engine or a refusal out. The same answers as
 * the mlx shim gives (agent/runtimes/mlx/shim/guard.py): nothing is clamped, null counts as absent, fields that nobody
 * knows are dropped, for llama-server's own extensions reach beyond a request (slots, adapters, files).
 */

export interface Limits {
  readonly servedName: string
  readonly contextTokens: number
  readonly maxOutputTokens: number
}

export type Body = Readonly<Record<string, unknown>>

export interface Refusal {
  readonly kind: 'Refusal'
  readonly status: number
  readonly body: { readonly error: { message: string; type: string; param: string | null; code: string | null } }
}

export function refusal(message: string, param?: string, code?: string, status = 400): Refusal {
  const type = status < 500 ? 'invalid_request_error' : 'server_error'
  return { kind: 'Refusal', status, body: { error: { message, type, param: param ?? null, code: code ?? null } } }
}

export const isRefusal = (value: Body | Refusal): value is Refusal => value['kind'] === 'Refusal'

/** Checked by the engine itself, and handed on as they are. */
const passedOn = [
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'typical_p',
  'xtc_probability',
  'xtc_threshold',
  'presence_penalty',
  'frequency_penalty',
  'repeat_penalty',
  'logit_bias',
  'logprobs',
  'top_logprobs',
  'response_format',
  'seed',
]
const passedOnInChat = ['tools', 'tool_choice', 'parallel_tool_calls', 'chat_template_kwargs', 'reasoning_effort']

/** Would be ignored, or cost more than one place: (values that mean the same as absent). */
const unsupported: Readonly<Record<string, readonly unknown[]>> = {
  n: [1],
  best_of: [1],
  echo: [false],
  suffix: [''],
  adapters: [],
  draft_model: [],
}

/** The body for the engine, still without a token count; `max_tokens` is in it only when the client gave one. */
export function checkBody(text: string, chat: boolean, limits: Limits): Body | Refusal {
  const body = parse(text)
  if (body === undefined) return refusal('the body must be a JSON object')
  const model = body['model'] ?? limits.servedName
  if (model !== limits.servedName && model !== 'default_model')
    return refusal(`the model ${JSON.stringify(model)} is not served here`, 'model', 'model_not_found', 404)
  for (const [name, harmless] of Object.entries(unsupported))
    if (body[name] !== undefined && !harmless.includes(body[name]))
      return refusal(`${name} is not supported by this engine`, name, 'unsupported_parameter')
  const parts = [chat ? messagesOf(body) : promptOf(body), streamOf(body), stopOf(body), maxTokensOf(body, limits)]
  const refused = parts.find(isRefusal)
  if (refused !== undefined) return refused
  const names = chat ? [...passedOn, ...passedOnInChat] : passedOn
  const kept = names.flatMap((name): [string, unknown][] => (body[name] === undefined ? [] : [[name, body[name]]]))
  const repeat = body['repetition_penalty'] === undefined ? {} : { repeat_penalty: body['repetition_penalty'] }
  return Object.assign({ model: limits.servedName }, ...parts, repeat, Object.fromEntries(kept)) as Body
}

/** The body with its max_tokens: as asked or refused, never clamped; absent, all that fits. */
export function fitTokens(body: Body, promptTokens: number, limits: Limits): Body | Refusal {
  const { contextTokens, maxOutputTokens } = limits
  if (promptTokens === 0) return refusal('the prompt is empty', 'prompt')
  const asked = body['max_tokens'] as number | undefined
  const room = contextTokens - promptTokens
  if (asked === undefined && room < 1)
    return refusal(
      `the prompt has ${promptTokens} tokens, which leaves no room for an answer: the context is ${contextTokens} tokens`,
      'messages' in body ? 'messages' : 'prompt',
      'context_length_exceeded',
    )
  if (asked !== undefined && asked > room)
    return refusal(
      `${promptTokens} tokens of prompt and max_tokens ${asked} are ${promptTokens + asked} tokens; the context is ${contextTokens} tokens`,
      'max_tokens',
      'context_length_exceeded',
    )
  return { ...body, max_tokens: asked ?? Math.min(maxOutputTokens, room) }
}

function parse(text: string): Body | undefined {
  try {
    const value = JSON.parse(text) as unknown
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null))
  } catch {
    return undefined
  }
}

const promptOf = ({ prompt }: Body): Body | Refusal =>
  typeof prompt === 'string' && prompt !== ''
    ? { prompt }
    : refusal('prompt must be one text that is not empty', 'prompt')

function messagesOf({ messages }: Body): Body | Refusal {
  if (!Array.isArray(messages) || messages.length === 0)
    return refusal('messages must be a list that is not empty', 'messages')
  for (const [i, message] of (messages as unknown[]).entries()) {
    const where = `messages[${i}]`
    if (typeof message !== 'object' || message === null) return refusal(`${where} must be an object`, where)
    const { role, content } = message as { role?: unknown; content?: unknown }
    if (typeof role !== 'string' || role === '') return refusal(`${where}.role must be a text`, `${where}.role`)
    if (!isText(content))
      // The engine would fetch the address of an image from the network.
      return refusal(`${where}.content must be a text or a list of parts of type text`, `${where}.content`)
  }
  return { messages }
}

const isText = (content: unknown): boolean =>
  content === undefined ||
  content === null ||
  typeof content === 'string' ||
  (Array.isArray(content) &&
    (content as { type?: unknown; text?: unknown }[]).every((p) => p?.type === 'text' && typeof p.text === 'string'))

function streamOf({ stream, stream_options: options }: Body): Body | Refusal {
  if (stream !== undefined && typeof stream !== 'boolean') return refusal('stream must be true or false', 'stream')
  if (options === undefined) return { stream: stream ?? false }
  const include = (options as { include_usage?: unknown }).include_usage
  if (typeof include !== 'boolean')
    return refusal('stream_options must be an object with include_usage true or false', 'stream_options')
  // Only a stream may have options.
  return stream === true ? { stream, stream_options: { include_usage: include } } : { stream: false }
}

function stopOf({ stop }: Body): Body | Refusal {
  if (stop === undefined) return {}
  const stops: readonly unknown[] = Array.isArray(stop) ? stop : [stop]
  return stops.every((text) => typeof text === 'string' && text !== '')
    ? { stop: stops }
    : refusal('stop must be a text or a list of texts, none of them empty', 'stop')
}

function maxTokensOf(body: Body, { maxOutputTokens }: Limits): Body | Refusal {
  const name = body['max_completion_tokens'] === undefined ? 'max_tokens' : 'max_completion_tokens'
  const asked = body[name]
  if (asked === undefined) return {}
  if (typeof asked !== 'number' || !Number.isInteger(asked) || asked < 1)
    return refusal(`${name} must be a whole number of at least 1`, name)
  if (asked > maxOutputTokens)
    return refusal(`${name} is ${asked}; the most is ${maxOutputTokens}`, name, 'context_length_exceeded')
  return { max_tokens: asked }
}
