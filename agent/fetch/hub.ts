/** The real hub over HTTP: ranges, redirects, and a token that leaves this process only towards the hub itself. */
import { Agent, request } from 'undici'
import { OpError } from '../../src/lib/errors.ts'
import type { HubAnswer, HubGet } from './doors.ts'

export interface HubOptions {
  /** As HF_ENDPOINT: scheme and host, perhaps a path. */
  readonly endpoint: string
  /** As HF_TOKEN. Never logged, never in an error. */
  readonly token?: string
}

export const DEFAULT_ENDPOINT = 'https://huggingface.co'
const MAX_REDIRECTS = 5
const CONNECT_TIMEOUT_MS = 15_000
const HEADERS_TIMEOUT_MS = 30_000

/** The endpoint without its last slash; OpError Invalid when it is no http(s) address. */
export function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new OpError(
      'Invalid',
      `HF_ENDPOINT must be an http or https address without a user, for example ${DEFAULT_ENDPOINT}`,
    )
  return text.replace(/\/+$/, '')
}

export function hubGet({ endpoint, token }: HubOptions): HubGet {
  // A body may take hours: whoever reads it watches over its pauses.
  const dispatcher = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: HEADERS_TIMEOUT_MS,
    bodyTimeout: 0,
  })
  const home = new URL(endpoint).origin
  return async (path, from, signal) => {
    let url = new URL(`${endpoint}${path}`)
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const own = url.origin === home && token !== undefined && token !== ''
      const headers = {
        'accept-encoding': 'identity',
        'user-agent': 'mctl',
        ...(from > 0 ? { range: `bytes=${from}-` } : {}),
        ...(own ? { authorization: `Bearer ${token}` } : {}),
      }
      const answer = await request(url, { dispatcher, headers, signal })
      const location = answer.headers['location']
      if (answer.statusCode < 300 || answer.statusCode >= 400 || typeof location !== 'string') return toAnswer(answer)
      drop(answer)
      url = new URL(location, url)
      if (!/^https?:$/.test(url.protocol)) break
    }
    throw new OpError('Unavailable', `the hub redirects without end, at last to ${url.origin}`)
  }
}

type Answer = Awaited<ReturnType<typeof request>>

const toAnswer = (answer: Answer): HubAnswer => ({
  status: answer.statusCode,
  header: (name) => {
    const value = answer.headers[name]
    return Array.isArray(value) ? value[0] : value
  },
  body: answer.body as AsyncIterable<Uint8Array>,
  drop: () => drop(answer),
})

function drop({ body }: Answer): void {
  body.on('error', () => {}) // what is let go of may break
  body.destroy()
}
