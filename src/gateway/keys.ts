/** The keys that open the gateway's door: looked up by hash, limited by the minute. The list follows the watch. */
import { hashOfSecret } from '../api/trust.ts'
import type { ApiKey } from '../api/trust.ts'
import type { Clock } from '../lib/clock.ts'
import type { ApiError } from './errors.ts'

const MINUTE_MS = 60_000

interface Known {
  readonly name: string
  readonly perMinute: number | undefined
  /** Requests that may come now; fills with time. */
  left: number
  atMs: number
}

export class ApiKeys {
  readonly #clock: Clock
  #byHash = new Map<string, Known>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A key that stays keeps its count. */
  set(keys: readonly ApiKey[]): void {
    const old = this.#byHash
    const atMs = this.#clock.monotonicMs()
    this.#byHash = new Map(
      keys.map(({ metadata, spec }) => {
        const perMinute = spec.requestsPerMinute
        const standing = old.get(spec.secretHash)
        const known = standing?.perMinute === perMinute ? standing : undefined
        return [spec.secretHash, known ?? { name: metadata.name, perMinute, left: perMinute ?? 0, atMs }]
      }),
    )
  }

  /** Why a request with this Authorization header is not served; undefined: it is. Counts it. */
  refusal(authorization: string | undefined): ApiError | undefined {
    const secret = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (secret === undefined)
      return denied('an API key is needed: send the header Authorization: Bearer KEY; `mctl api-key create` makes one')
    // A hash of 244 random bits is looked up, not compared: its timing tells nothing of any key.
    const known = this.#byHash.get(hashOfSecret(secret))
    if (known === undefined) return denied('the API key is not known here: it was mistyped, or revoked')
    return this.#counted(known)
  }

  #counted(known: Known): ApiError | undefined {
    const { perMinute } = known
    if (perMinute === undefined) return undefined
    const nowMs = this.#clock.monotonicMs()
    known.left = Math.min(perMinute, known.left + ((nowMs - known.atMs) / MINUTE_MS) * perMinute)
    known.atMs = nowMs
    if (known.left >= 1) {
      known.left -= 1
      return undefined
    }
    const retryAfterSeconds = Math.ceil(((1 - known.left) / perMinute) * 60)
    const message = `API key "${known.name}" may send ${perMinute} requests in a minute`
    return { status: 429, code: 'rate_limit_exceeded', message, retryAfterSeconds }
  }
}

const denied = (message: string): ApiError => ({ status: 401, code: 'invalid_api_key', message })
