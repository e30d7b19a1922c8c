/**
 * How fast did one answer come? While it passes, events are counted and the clock is read, nothing more; what the answer
 * says of itself (`usage`) is read from its last bytes when it is over.
 */
import type { Clock } from '../lib/clock.ts'
import { Tail } from './tail.ts'

/** The decoding of one answer. */
export interface Pace {
  /** Tokens that came in these seconds. */
  readonly tokens: number
  readonly seconds: number
  /** Tokens in the cache half-way through. */
  readonly contextTokens: number
}

export interface PaceMeterOptions {
  readonly clock: Clock
  /** Monotonic: when the request went to the engine. */
  readonly startedMs: number
  readonly isStream: boolean
  /** Of the request: what its prompt is guessed from when the answer does not say. */
  readonly bodyBytes: number
  /** Told of tokens as they come; those of a whole answer at its end. */
  readonly onTokens?: (tokens: number) => void
}

const EVENT = Buffer.from('data: {')
const DONE = Buffer.from('[DONE]')
/** `data: [DONE]` and its blank line. */
const END_BYTES = 64
/** Usage stands in the last event of a stream, and at the end of a whole answer. */
const USAGE_BYTES = 1024
/** Of a shorter answer the first token and the end say more than the pace between them. */
const TOKENS_MIN = 16
const SECONDS_MIN = 0.1
/** The time of a whole answer has that of its prompt in it: one of many tokens after few hides it. */
const WHOLE_TOKENS_MIN = 32
const BYTES_PER_TOKEN = 4

export class PaceMeter {
  readonly #options: PaceMeterOptions
  readonly #tail = new Tail(USAGE_BYTES)
  #events = 0
  #eventsFirst = 0
  #firstMs = 0
  #lastEventMs = 0
  /** Of the event before the last one, which says why the answer ended and holds no token. */
  #lastTokenMs = 0
  #held = false

  constructor(options: PaceMeterOptions) {
    this.#options = options
  }

  add(chunk: Buffer): void {
    this.#tail.add(chunk)
    if (!this.#options.isStream) return
    let events = 0
    for (let at = chunk.indexOf(EVENT); at !== -1; at = chunk.indexOf(EVENT, at + EVENT.length)) events += 1
    // Comments say that a prompt is worked on.
    if (events === 0) return
    this.#options.onTokens?.(events)
    const nowMs = this.#options.clock.monotonicMs()
    if (this.#events === 0) {
      this.#firstMs = nowMs
      this.#eventsFirst = events
    }
    this.#events += events
    this.#lastTokenMs = events > 1 ? nowMs : this.#lastEventMs
    this.#lastEventMs = nowMs
  }

  /** The client reads more slowly than the engine writes: the pace is the client's. */
  hold(): void {
    this.#held = true
  }

  /** Whether a stream said that it is over. */
  get saidDone(): boolean {
    return this.#tail.last(END_BYTES).includes(DONE)
  }

  /** To be asked once the answer is over; undefined: nothing is to be learnt from it. */
  pace(): Pace | undefined {
    const usage = usageIn(this.#tail.last(USAGE_BYTES))
    if (!this.#options.isStream) this.#options.onTokens?.(usage?.completion ?? 0)
    if (this.#held) return undefined
    return this.#options.isStream ? this.#ofStream(usage) : this.#ofWhole(usage)
  }

  #ofStream(usage: Usage | undefined): Pace | undefined {
    const all = usage?.completion ?? this.#events - 1
    const tokens = all - this.#eventsFirst
    const seconds = (this.#lastTokenMs - this.#firstMs) / 1000
    if (tokens < TOKENS_MIN || seconds < SECONDS_MIN) return undefined
    const prompt = usage?.prompt ?? this.#options.bodyBytes / BYTES_PER_TOKEN
    return { tokens, seconds, contextTokens: Math.round(prompt + all / 2) }
  }

  #ofWhole(usage: Usage | undefined): Pace | undefined {
    if (usage === undefined || usage.completion < Math.max(WHOLE_TOKENS_MIN, usage.prompt)) return undefined
    const { clock, startedMs } = this.#options
    const seconds = (clock.monotonicMs() - startedMs) / 1000
    if (seconds < SECONDS_MIN) return undefined
    return { tokens: usage.completion, seconds, contextTokens: Math.round(usage.prompt + usage.completion / 2) }
  }
}

interface Usage {
  readonly prompt: number
  readonly completion: number
}

/** A text of the model cannot pass for it: quotes inside a JSON string are escaped. */
function usageIn(bytes: Buffer): Usage | undefined {
  const text = bytes.toString('latin1')
  const prompt = /"prompt_tokens"\s*:\s*(\d+)/.exec(text)?.[1]
  const completion = /"completion_tokens"\s*:\s*(\d+)/.exec(text)?.[1]
  if (prompt === undefined || completion === undefined) return undefined
  return { prompt: Number(prompt), completion: Number(completion) }
}
