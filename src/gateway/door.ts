/** What the gateway does with one request: read, route, forward, retry before the first byte, refuse with the reason. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Balancer, Lease, NoLease } from './balancer.ts'
import { readBody } from './body.ts'
import type { ApiError } from './errors.ts'
import { sendError } from './errors.ts'
import { forward } from './forward.ts'
import type { ApiKeys } from './keys.ts'
import type { GatewayMetrics } from './metrics.ts'
import type { ReplicaPools } from './pools.ts'
import type { Pace } from './pace.ts'
import type { Replica, RoutingTable } from './routes.ts'
import { topLevelString } from './scan.ts'

export interface DoorOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly clusterUid: () => string
  readonly onStaleTable?: () => void
  /** Told how fast an answer came that had its replica to itself. */
  readonly onPace: (replica: Replica, pace: Pace) => void
  /** Told of tokens as they come from the replica. */
  readonly onTokens: (replica: Replica, tokens: number) => void
  readonly bodyBytesMax: number
  /** Absent: nobody needs a key. */
  readonly keys?: ApiKeys
}

const paths = new Set(['/v1/chat/completions', '/v1/completions'])
/** Says nothing that a key would protect. */
const HEALTH = '/healthz'
const RETRY_AFTER_SECONDS = 2
/** A shard that stops for its successor says so before the table that names the successor is here: so long that one is waited for. */
const HANDOVER_MS = 2_000
/** Unserved: the door turned the request away. Failed: nothing came back. Over: it was answered, or it cannot be tried again. */
type Try = 'Unserved' | 'Failed' | 'Over'
/** A reason of our own spares the making of a DOMException, stack and all. */
const CLIENT_GONE = 'the client went away'

export class Door {
  draining = false
  readonly #options: DoorOptions
  readonly #balancer: Balancer
  readonly #pools: ReplicaPools
  readonly #metrics: GatewayMetrics

  constructor(options: DoorOptions, balancer: Balancer, pools: ReplicaPools, metrics: GatewayMetrics) {
    this.#options = options
    this.#balancer = balancer
    this.#pools = pools
    this.#metrics = metrics
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    this.#route(request, response).catch((error: unknown) => {
      this.#options.log.error('request failed', { error: String(error) })
      sendError(response, {
        status: 500,
        code: 'internal_error',
        message: 'the gateway failed on this request; its log says why',
      })
    })
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
    const unkeyed = path === HEALTH ? undefined : this.#options.keys?.refusal(request.headers.authorization)
    if (unkeyed !== undefined) return sendError(response, unkeyed)
    if (request.method === 'GET') return this.#get(path, response)
    if (request.method !== 'POST' || !paths.has(path))
      return sendError(response, {
        status: 404,
        code: 'not_found',
        message: `no such address: ${request.method} ${path}; the gateway serves ${[...paths].join(', ')} and /v1/models`,
      })
    if (this.draining)
      return sendError(response, {
        status: 503,
        code: 'draining',
        message: 'the gateway is stopping',
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    const body = await readBody(request, this.#options.bodyBytesMax)
    if (body.kind === 'ClientGone') return
    if (body.kind === 'TooLarge') {
      response.setHeader('connection', 'close')
      return sendError(response, {
        status: 413,
        code: 'request_too_large',
        message: `the request body is over the limit of ${this.#options.bodyBytesMax} bytes`,
      })
    }
    const model = topLevelString(body.bytes, 'model')
    if (model === undefined)
      return sendError(response, {
        status: 400,
        code: 'model_required',
        message: 'the body must be a JSON object with a string "model"; GET /v1/models lists what is served',
      })
    await this.#serve(request, response, body.bytes, model)
  }

  async #serve(request: IncomingMessage, response: ServerResponse, body: Buffer, model: string): Promise<void> {
    const gone = new AbortController()
    response.once('close', () => {
      if (!response.writableFinished) gone.abort(CLIENT_GONE)
    })
    const startedMs = this.#options.clock.monotonicMs()
    const onFirstByte = () =>
      this.#metrics.firstByteSeconds.observe({ model }, (this.#options.clock.monotonicMs() - startedMs) / 1000)
    const tried = new Set<string>()
    let last: Try | undefined
    for (;;) {
      const lease = await this.#balancer.acquire(model, tried, gone.signal)
      if (lease.kind !== 'Lease') {
        const leftMs = startedMs + HANDOVER_MS - this.#options.clock.monotonicMs()
        if (last !== 'Unserved' || lease.kind !== 'NoReplica' || leftMs <= 0)
          return this.#refuse(response, model, lease, tried.size)
        await this.#balancer.nextTable(leftMs, gone.signal)
        continue
      }
      last = await this.#try(
        {
          request,
          response,
          body,
          replica: lease.replica,
          pool: this.#pools.of(lease.replica),
          clock: this.#options.clock,
          signal: gone.signal,
          onFirstByte,
          onTokens: (tokens) => this.#options.onTokens(lease.replica, tokens),
        },
        lease,
        model,
      )
      if (last === 'Over') return
      tried.add(lease.replica.shardUid)
      this.#metrics.retries.inc({ model })
    }
  }

  /** One try at the leased replica. */
  async #try(job: Parameters<typeof forward>[0], lease: Lease, model: string): Promise<Try> {
    const { log, onStaleTable, onPace } = this.#options
    const end = await forward(job)
    if (end.kind === 'NotStarted') {
      log.warn('replica failed before its first byte', {
        group: lease.replica.group,
        shard: lease.replica.shardUid,
        error: end.cause,
      })
      this.#balancer.suspect(lease.replica)
      if (end.stale) onStaleTable?.()
    }
    if (end.kind === 'BrokenOff') {
      log.warn('answer broke off', { group: lease.replica.group, shard: lease.replica.shardUid, error: end.cause })
      this.#metrics.brokenOff.inc({ model })
      this.#balancer.suspect(lease.replica)
      sendError(job.response, {
        status: 502,
        code: 'replica_failed',
        message: `the answer broke off: ${end.cause}. The group restarts by itself; send the request again.`,
      })
    }
    if (end.kind === 'Done' && end.pace !== undefined && lease.isAlone()) onPace(lease.replica, end.pace)
    lease.release()
    if (end.kind === 'Done') this.#metrics.requests.inc({ model, code: String(end.status) })
    if (end.kind !== 'NotStarted') return 'Over'
    return end.unserved ? 'Unserved' : 'Failed'
  }

  #refuse(response: ServerResponse, model: string, why: NoLease, tried: number): void {
    if (why.kind === 'ClientGone') return
    const error = refusal(model, why, tried, this.#balancer.table)
    // Names that nobody deployed stay out of the label: clients could fill the registry with them.
    this.#metrics.requests.inc({ model: why.kind === 'UnknownModel' ? '' : model, code: String(error.status) })
    sendError(response, error)
  }

  async #get(path: string, response: ServerResponse): Promise<void> {
    if (path === '/v1/models') return sendJson(response, modelList(this.#balancer.table))
    if (path === HEALTH) return sendJson(response, { status: 'ok', clusterUid: this.#options.clusterUid() })
    if (path === '/metrics') {
      response.writeHead(200, { 'content-type': this.#metrics.registry.contentType })
      response.end(await this.#metrics.registry.metrics())
      return
    }
    sendError(response, { status: 404, code: 'not_found', message: `no such address: GET ${path}` })
  }
}

function refusal(
  model: string,
  why: Exclude<NoLease, { kind: 'ClientGone' }>,
  tried: number,
  table: RoutingTable,
): ApiError {
  if (why.kind === 'UnknownModel') {
    const served = [...table.keys()].sort().join(', ')
    return {
      status: 404,
      code: 'model_not_found',
      message: `The model \`${model}\` does not exist. ${served === '' ? 'Nothing is deployed yet.' : `Deployed: ${served}.`}`,
    }
  }
  if (why.kind === 'QueueFull')
    return {
      status: 429,
      code: 'queue_full',
      message: `${why.waiting} requests for \`${model}\` are waiting already; try again later`,
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    }
  const failed = tried === 0 ? '' : ` (${tried} tried and failed)`
  return {
    status: 503,
    code: 'no_replica_ready',
    message: `No replica of \`${model}\` is ready${failed}. \`mctl describe md\` says why.`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  }
}

const modelList = (table: RoutingTable) => ({
  object: 'list',
  data: [...table]
    .filter(([, replicas]) => replicas.length > 0)
    .map(([id]) => ({ id, object: 'model', created: 0, owned_by: 'mctl' })),
})

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value))
}
