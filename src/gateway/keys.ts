/** The keys that open the gateway's door: looked up by hash, limited by the minute. The list follows the watch. */
import { hashOfSecret } from '../api/trust.ts'
import type { ApiKey } from '../api/trust.ts'
import type { Clock } from '../lib/clock.ts'
import { TokenBucket } from '../lib/tokenbucket.ts'
import type { ApiError } from './errors.ts'

interface Known {
  readonly name: string
  readonly limit: { readonly perMinute: number; readonly bucket: TokenBucket } | undefined
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
    this.#byHash = new Map(
      keys.map(({ metadata, spec }) => {
        const perMinute = spec.requestsPerMinute
        const standing = old.get(spec.secretHash)
        const known = standing?.limit?.perMinute === perMinute ? standing : undefined
        return [spec.secretHash, known ?? { name: metadata.name, limit: this.#limit(perMinute) }]
      }),
    )
  }

  #limit(perMinute: number | undefined): Known['limit'] {
    return perMinute === undefined
      ? undefined
      : { perMinute, bucket: new TokenBucket(this.#clock, perMinute, perMinute / 60) }
  }

  /** Why a request with this Authorization header is not served; undefined: it is. Counts it. */
  refusal(authorization: string | undefined): ApiError | undefined {
    const secret = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (secret === undefined)
      return denied('an API key is needed: send the header Authorization: Bearer KEY; `mctl api-key create` makes one')
    // A hash of 244 random bits is looked up, not compared: its timing tells nothing of any key.
    const known = this.#byHash.get(hashOfSecret(secret))
    if (known === undefined) return denied('the API key is not known here: it was mistyped, or revoked')
    const waitSeconds = known.limit?.bucket.take() ?? 0
    if (waitSeconds === 0) return undefined
    const message = `API key "${known.name}" may send ${known.limit?.perMinute} requests in a minute`
    return { status: 429, code: 'rate_limit_exceeded', message, retryAfterSeconds: Math.ceil(waitSeconds) }
  }
}

const denied = (message: string): ApiError => ({ status: 401, code: 'invalid_api_key', message })
