/**
 * A client that streams and asks all the time. Each request must come to an end: an answer, or an error that says so. A
 * stream that just stops, an answer that is none, and silence for too long are findings.
 */

/** Longer than the stall limit of an engine (60 s) and the stop of its gang. */
const SILENCE_LIMIT_MS = 120_000

export interface Traffic {
  answered: number
  /** Ended by an explicit error: a status, an error event, or a broken connection. */
  failed: number
  readonly findings: string[]
}

export class Client {
  readonly traffic: Traffic = { answered: 0, failed: 0, findings: [] }
  readonly #gateway: string
  readonly #models: readonly string[]
  readonly #over = new AbortController()
  readonly #loops: readonly Promise<void>[]

  constructor(gateway: string, models: readonly string[]) {
    this.#gateway = gateway
    this.#models = models
    this.#loops = models.flatMap((model) => [this.#loop(model, true), this.#loop(model, false)])
  }

  /** Resolves when the last request has come to its end. */
  async stop(): Promise<Traffic> {
    this.#over.abort()
    await Promise.all(this.#loops)
    return this.traffic
  }

  /** One request to each model, to its end: undefined, or why it was not answered. */
  async tryAll(): Promise<string | undefined> {
    for (const model of this.#models) {
      const end = await ask(this.#gateway, model, false)
      if (end.kind !== 'Answered') return `${model}: ${end.kind} ${end.what}`
    }
    return undefined
  }

  async #loop(model: string, stream: boolean): Promise<void> {
    while (!this.#over.signal.aborted) {
      const end = await ask(this.#gateway, model, stream)
      if (end.kind === 'Answered') this.traffic.answered += 1
      else if (end.kind === 'Failed') this.traffic.failed += 1
      else this.traffic.findings.push(`${stream ? 'stream' : 'request'} to ${model}: ${end.what}`)
      // A refusal comes at once: clients that get one wait a moment.
      if (end.kind !== 'Answered') await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

type End = { readonly kind: 'Answered' | 'Failed' | 'Silent'; readonly what: string }

async function ask(gateway: string, model: string, stream: boolean): Promise<End> {
  const silence = new AbortController()
  let timer = setTimeout(() => silence.abort(), SILENCE_LIMIT_MS)
  const heard = () => {
    clearTimeout(timer)
    timer = setTimeout(() => silence.abort(), SILENCE_LIMIT_MS)
  }
  let text = ''
  try {
    const response = await fetch(`http://${gateway}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: 'hello', max_tokens: 40, stream }),
      signal: silence.signal,
    })
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      heard()
      text += decoder.decode(chunk as Uint8Array, { stream: true })
    }
    return endOf(response.status, text, stream)
  } catch (error) {
    if (silence.signal.aborted)
      return { kind: 'Silent', what: `silent for ${SILENCE_LIMIT_MS / 1_000} s after "${text.slice(-80)}"` }
    // The connection was refused or broke: the client knows.
    return { kind: 'Failed', what: String(error) }
  } finally {
    clearTimeout(timer)
  }
}

function endOf(status: number, text: string, stream: boolean): End {
  if (status !== 200) return isError(text) ? { kind: 'Failed', what: `${status} ${text}` } : wrong(status, text)
  if (text.includes('"error"')) return { kind: 'Failed', what: text.slice(-200) }
  if (stream) return text.trimEnd().endsWith('data: [DONE]') ? answered : wrong(status, text)
  return text.includes('"choices"') && text.trimEnd().endsWith('}') ? answered : wrong(status, text)
}

const answered: End = { kind: 'Answered', what: '' }
const wrong = (status: number, text: string): End => ({
  kind: 'Silent',
  what: `ended without a word: ${status} "${text.slice(-80)}"`,
})
const isError = (text: string): boolean => text.includes('"error"') && text.includes('"message"')
