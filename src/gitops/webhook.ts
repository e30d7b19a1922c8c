/**
 * The door for webhooks: `POST /hooks/sync/NAME`, signed with the Sync's secret (HMAC-SHA256 over the body, as GitHub and
 * Gitea sign; or GitLab's token). A call says only "look": its body is never read for anything else.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { Clock } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { HttpDoor } from '../lib/httplisten.ts'
import { listenHttp, sayHttp } from '../lib/httplisten.ts'
import type { Logger } from '../lib/log.ts'
import type { Store } from '../store/store.ts'
import { readSecret } from './credentials.ts'
import { credentialsFolder } from './reader.ts'

export interface WebhookDoors {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly dataDir: string
  readonly hint: (sync: string) => void
}

export const MAX_BODY_BYTES = 1024 * 1024
/** Calls per Sync and minute, and unsigned ones of all together. */
const MAX_PER_MINUTE = 30
const MINUTE_MS = 60_000
/** `listen` is `host:port`. */
export function openWebhookDoor(doors: WebhookDoors, listen: string): Promise<HttpDoor> {
  const rate = new Rate(doors.clock)
  const server = createServer((request, response) => {
    answer(doors, rate, request, response).catch((error: unknown) => {
      doors.log.warn('a webhook failed', { error: messageOf(error) })
      if (!response.headersSent) sayHttp(response, 500, 'the call failed')
    })
  })
  return listenHttp(server, listen)
}

async function answer(
  doors: WebhookDoors,
  rate: Rate,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  const [, name] = /^\/hooks\/sync\/([a-z0-9-]{1,63})$/.exec(pathname) ?? []
  if (name === undefined) return sayHttp(response, 404, 'there is POST /hooks/sync/NAME')
  if (request.method !== 'POST') return sayHttp(response, 405, 'a webhook is a POST')
  if (!rate.allows('')) return sayHttp(response, 429, 'too many calls: the source is looked at by its interval, too')
  const body = await bodyOf(request)
  if (body === undefined) return sayHttp(response, 413, `the body must have at most ${MAX_BODY_BYTES} bytes`)
  // A Sync that is not there, one without a secret and a wrong signature are told alike.
  if (!isSigned(request, body, secretOf(doors, name)))
    return sayHttp(response, 401, 'the call is not signed with the secret')
  if (!rate.allows(name))
    return sayHttp(response, 429, 'too many calls for this Sync: it is looked at by its interval, too')
  doors.hint(name)
  sayHttp(response, 202, 'the source is looked at')
}

function secretOf({ store, dataDir, log }: WebhookDoors, name: string): string | undefined {
  const reference = store.snapshot().get('Sync', '', name)?.spec.webhookSecret
  if (reference === undefined) return undefined
  try {
    return readSecret(credentialsFolder(dataDir), reference, 'webhook-secret')
  } catch (error) {
    log.warn('a webhook secret cannot be used', { sync: name, error: messageOf(error) })
    return undefined
  }
}

/** Whether the call shows that its sender knows the secret. */
export function isSigned(
  request: Pick<IncomingMessage, 'headers'>,
  body: Uint8Array,
  secret: string | undefined,
): boolean {
  const header = (name: string) => {
    const value = request.headers[name]
    return typeof value === 'string' ? value : ''
  }
  // The same work without a secret, so that time does not tell whether there is one.
  const hmac = createHmac('sha256', secret ?? 'none')
    .update(body)
    .digest('hex')
  const isGithub = same(header('x-hub-signature-256'), `sha256=${hmac}`)
  const isGitea = same(header('x-gitea-signature'), hmac)
  const isGitlab = same(header('x-gitlab-token'), secret ?? '')
  return secret !== undefined && secret !== '' && (isGithub || isGitea || isGitlab)
}

function same(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** undefined when it is larger than is read. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return undefined
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) return undefined
    parts.push(chunk)
  }
  return Buffer.concat(parts)
}

/** So many calls in a minute, by name; '' counts all. */
class Rate {
  readonly #clock: Clock
  readonly #calls = new Map<string, number[]>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  allows(name: string): boolean {
    const nowMs = this.#clock.monotonicMs()
    const recent = (this.#calls.get(name) ?? []).filter((ms) => nowMs - ms < MINUTE_MS)
    const limit = name === '' ? 10 * MAX_PER_MINUTE : MAX_PER_MINUTE
    if (recent.length < limit) recent.push(nowMs)
    else return false
    this.#calls.set(name, recent)
    return true
  }
}
