/**
 * The OpenAI door: one address for all models. It routes, queues, limits, forwards and tells the truth, nothing else:
 * 404 unknown model, 503 + Retry-After while no replica is ready, 429 when the queue is full, 413 for a large body.
 */
import { createServer } from 'node:http'
import type { RequestListener, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { ObservedSpeed } from '../api/speed.ts'
import type { Clock } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { OpError } from '../lib/errors.ts'
import { joinHostPort, splitHostPort } from '../lib/hostport.ts'
import type { Logger } from '../lib/log.ts'
import { Balancer } from './balancer.ts'
import { Door } from './door.ts'
import { makeMetrics } from './metrics.ts'
import type { RoutingTable } from './routes.ts'
import type { ApiKey } from '../api/trust.ts'
import { ApiKeys } from './keys.ts'
import type { GatewayTls } from './pools.ts'
import { ReplicaPools } from './pools.ts'
import { Speeds } from './speeds.ts'
import type { TrafficOptions } from './traffic.ts'
import { TrafficTeller } from './traffic.ts'

export interface GatewayOptions {
  /** `host:port`; port 0 lets the system choose. */
  readonly listen: string
  readonly clock: Clock
  readonly log: Logger
  /** What `/healthz` answers, so that a restarted server knows its own gateway again. */
  readonly clusterUid: () => string
  /** Told when a replica answered 421: its table is old. */
  readonly onStaleTable?: () => void
  /** Takes what was seen of the groups' speeds to the server; a failure is told again with the next. Absent: nobody asks. */
  readonly tellSpeeds?: (speeds: readonly ObservedSpeed[]) => Promise<unknown>
  /** Takes what goes on now to the server. Absent: nobody asks. */
  readonly tellTraffic?: TrafficOptions['tell']
  readonly bodyBytesMax?: number
  readonly queueMax?: number
  readonly suspectMs?: number
  /** PEM of the certificate (and those that signed it) and key that clients see. Absent: plain HTTP. */
  readonly serving?: ServingPems | undefined
  /** Absent: the cluster has no identities; doors are plain and nobody needs a key. */
  readonly tls?: GatewayTls
}

export interface ServingPems {
  readonly cert: string
  readonly key: string
}

export interface Gateway {
  /** `host:port` as bound. */
  readonly address: string
  setTable(table: RoutingTable): void
  /** The keys that open the door; without identities they are not asked for. */
  setKeys(keys: readonly ApiKey[]): void
  /** How it shows the doors who it is, for connections from now on. */
  setTls(tls: GatewayTls): void
  /** For connections from now on. */
  setServing(pems: ServingPems): void
  /** Refuses new requests, waits for those in flight up to `drainMs`, then cuts them. */
  stop(drainMs: number): Promise<void>
}

const BODY_BYTES_MAX = 16 * 2 ** 20

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { clock, log, tellSpeeds, tellTraffic } = options
  const speeds = tellSpeeds === undefined ? undefined : new Speeds({ clock, log, tell: tellSpeeds })
  const balancer = new Balancer({ clock, queueMax: options.queueMax ?? 256, suspectMs: options.suspectMs ?? 3000 })
  const traffic = tellTraffic === undefined ? undefined : new TrafficTeller({ clock, balancer, tell: tellTraffic })
  const pools = new ReplicaPools(options.tls)
  const keys = options.tls === undefined ? undefined : new ApiKeys(clock)
  const door = new Door(
    {
      ...options,
      ...(keys === undefined ? {} : { keys }),
      bodyBytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX,
      onPace: ({ shardUid }, pace) => speeds?.add(shardUid, pace),
      onTokens: ({ shardUid }, tokens) => traffic?.count(shardUid, tokens),
    },
    balancer,
    pools,
    makeMetrics(balancer),
  )
  const onRequest: RequestListener = (request, response) => door.answer(request, response)
  const http = { noDelay: true, keepAliveTimeout: 60_000 }
  const secured =
    options.serving && createTlsServer({ ...http, ...options.serving, handshakeTimeout: 10_000 }, onRequest)
  const server = secured ?? createServer(http, onRequest)
  const address = await listen(server, options.listen)
  return {
    address,
    setTable(table) {
      balancer.setTable(table)
      pools.keepOnly(table)
    },
    setKeys: (list) => keys?.set(list),
    setTls: (tls) => pools.setTls(tls),
    setServing: (pems) => secured?.setSecureContext({ ...pems }),
    async stop(drainMs) {
      door.draining = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      await Promise.race([closed, sleep(clock, drainMs)])
      server.closeAllConnections()
      await closed
      await pools.close()
      traffic?.stop()
      await speeds?.stop()
    },
  }
}

function listen(server: Server, address: string): Promise<string> {
  const { host, port } = splitHostPort(address)
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new OpError(
          'Unavailable',
          `start the gateway on ${address}: the address is not free; choose another one with --gateway HOST:PORT`,
          { cause },
        ),
      ),
    )
    server.listen(port, host, () => resolve(joinHostPort(host, (server.address() as AddressInfo).port)))
  })
}
