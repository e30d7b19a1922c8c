/**
 * `fetch` for small answers from a server far away: each try has a deadline for every step, an answer that is cut or
 * refused for a while is asked for again, redirects are followed by hand so that a credential stays with its own origin,
 * and a body is read whole within a bound. What it throws names the address without its query, which may be signed.
 */
import type { BackoffPolicy } from './backoff.ts'
import { backoffMs } from './backoff.ts'
import { certificateProblem } from './certificates.ts'
import type { Clock, Random } from './clock.ts'
import { sleep } from './clock.ts'
import { isOpError, OpError } from './errors.ts'

export interface SturdyFetchOptions {
  readonly clock: Clock
  readonly random: Random
  /** Longest wait for the headers of an answer, and for each piece of its body. */
  readonly stallMs: number
  readonly attempts: number
  readonly backoff: BackoffPolicy
  /** Largest body. */
  readonly maxBodyBytes: number
  /** Headers for this address alone; they are made anew for the address of each redirect. */
  readonly headersFor: (url: URL) => Readonly<Record<string, string>>
  /** What a status that is no success means, when trying again does not help. */
  readonly refusal: (status: number, headers: Headers, url: URL) => OpError
  readonly signal?: AbortSignal
}

export interface SturdyRequest {
  readonly headers?: Readonly<Record<string, string>>
  /** The bytes [start, end): exactly these, or the answer counts as broken. */
  readonly range?: readonly [start: number, end: number]
}

export interface SturdyAnswer {
  readonly status: number
  /** Of the last answer, and of the redirects before it where the last one does not say. */
  readonly headers: Headers
  readonly body: Uint8Array
  /** The whole length of what a range is part of, when the server tells. */
  readonly totalBytes: number | undefined
}

export type SturdyFetch = (url: string, request?: SturdyRequest) => Promise<SturdyAnswer>

const MAX_REDIRECTS = 5
const MAX_RETRY_AFTER_MS = 60_000
const passing = new Set([408, 425, 429, 500, 502, 503, 504])

/** OpError Unavailable when all tries failed, Cancelled when the signal aborts, else what `refusal` makes of the status. */
export function sturdyFetch(options: SturdyFetchOptions): SturdyFetch {
  return async (address, request = {}) => {
    for (let failures = 1; ; failures += 1) {
      try {
        return await tryOnce(options, new URL(address), request)
      } catch (error) {
        if (options.signal?.aborted === true) throw new OpError('Cancelled', `read ${shown(new URL(address))}: stopped`)
        if (!isOpError(error, 'Unavailable') || failures >= options.attempts) throw error
        const plainMs = backoffMs(options.backoff, failures, options.random.next())
        const askedMs = Math.min(MAX_RETRY_AFTER_MS, (error.retryAfterSeconds ?? 0) * 1000)
        await sleep(options.clock, Math.max(plainMs, askedMs), options.signal)
      }
    }
  }
}

async function tryOnce(options: SturdyFetchOptions, start: URL, request: SturdyRequest): Promise<SturdyAnswer> {
  const before = new Headers()
  let url = start
  for (let hops = 0; hops <= MAX_REDIRECTS; hops += 1) {
    const attempt = new Attempt(options, url)
    try {
      const response = await attempt.ask(request)
      const location = response.headers.get('location')
      if (response.status >= 300 && response.status < 400 && location !== null) {
        attempt.drop()
        for (const [name, value] of response.headers) before.set(name, value)
        url = redirected(url, location)
        continue
      }
      if (!response.ok) throw refusalOf(options, response, url)
      const body = await attempt.read(response)
      const headers = new Headers(before)
      for (const [name, value] of response.headers) headers.set(name, value)
      return { status: response.status, headers, body, totalBytes: checkRange(response, body, request, url) }
    } catch (error) {
      throw attempt.explain(error)
    } finally {
      attempt.end()
    }
  }
  throw new OpError('Unavailable', `read ${shown(start)}: more than ${MAX_REDIRECTS} redirects`)
}

function redirected(from: URL, location: string): URL {
  const url = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined
  const protocols = from.protocol === 'https:' ? ['https:'] : ['https:', 'http:']
  if (url === undefined || !protocols.includes(url.protocol))
    throw new OpError('Unavailable', `read ${shown(from)}: it redirects to an address that is not followed`)
  return url
}

function refusalOf(options: SturdyFetchOptions, response: Response, url: URL): OpError {
  const { status, headers } = response
  if (!passing.has(status)) return options.refusal(status, headers, url)
  const seconds = Number(headers.get('retry-after') ?? '')
  const wait = Number.isFinite(seconds) && seconds > 0 ? { retryAfterSeconds: seconds } : {}
  return new OpError('Unavailable', `read ${shown(url)}: it answers ${status}`, wait)
}

/** The whole length; Unavailable when the answer is not the part that was asked for. */
function checkRange(response: Response, body: Uint8Array, { range }: SturdyRequest, url: URL): number | undefined {
  if (range === undefined) return undefined
  const [start, end] = range
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '')
  if (response.status !== 206 || match === null)
    throw new OpError('Unavailable', `read ${shown(url)}: it does not answer with parts of a file`)
  const total = match[3] === '*' ? undefined : Number(match[3])
  const until = total === undefined ? end : Math.min(end, total)
  if (Number(match[1]) !== start || Number(match[2]) !== until - 1 || body.byteLength !== until - start)
    throw new OpError(
      'Unavailable',
      `read ${shown(url)}: asked for bytes ${start} to ${end}, got ${body.byteLength} bytes as ${match[0]}`,
    )
  return total
}

/** Without its query: a signed address is a credential. */
const shown = (url: URL): string => `${url.origin}${url.pathname}`

/** One request to one address, with the deadline that moves with every piece that comes. */
class Attempt {
  readonly #options: SturdyFetchOptions
  readonly #url: URL
  readonly #abort = new AbortController()
  readonly #onStop = () => this.#abort.abort()
  #timer: { cancel(): void } | undefined
  #stalled = false

  constructor(options: SturdyFetchOptions, url: URL) {
    this.#options = options
    this.#url = url
    if (options.signal?.aborted === true) this.#abort.abort()
    options.signal?.addEventListener('abort', this.#onStop, { once: true })
    this.#wait()
  }

  ask({ headers, range }: SturdyRequest): Promise<Response> {
    const part = range === undefined ? {} : { range: `bytes=${range[0]}-${range[1] - 1}` }
    return fetch(this.#url, {
      redirect: 'manual',
      signal: this.#abort.signal,
      // Compressed, a part would be the part of something else.
      headers: { 'accept-encoding': 'identity', ...headers, ...part, ...this.#options.headersFor(this.#url) },
    })
  }

  async read(response: Response): Promise<Uint8Array> {
    const pieces: Uint8Array[] = []
    let bytes = 0
    this.#wait()
    for await (const piece of response.body ?? []) {
      this.#wait()
      bytes += (piece as Uint8Array).byteLength
      if (bytes > this.#options.maxBodyBytes)
        throw new OpError('Invalid', `read ${shown(this.#url)}: more than ${this.#options.maxBodyBytes} bytes`)
      pieces.push(piece as Uint8Array)
    }
    return Buffer.concat(pieces)
  }

  drop(): void {
    this.#abort.abort()
  }

  end(): void {
    this.#timer?.cancel()
    this.#options.signal?.removeEventListener('abort', this.#onStop)
    // Ends the connection of an answer that was not read to its end.
    this.#abort.abort()
  }

  explain(error: unknown): unknown {
    if (isOpError(error)) return error
    const what = this.#stalled
      ? `no answer for ${this.#options.stallMs / 1000} s`
      : (certificateProblem(error) ?? 'the connection failed')
    return new OpError(
      'Unavailable',
      `read ${shown(this.#url)}: ${what}`,
      this.#stalled ? {} : { cause: causeOf(error) },
    )
  }

  #wait(): void {
    this.#timer?.cancel()
    this.#timer = this.#options.clock.after(this.#options.stallMs, () => {
      this.#stalled = true
      this.#abort.abort()
    })
  }
}

/** fetch wraps what happened into "fetch failed". */
const causeOf = (error: unknown): unknown => (error instanceof Error && error.cause !== undefined ? error.cause : error)
