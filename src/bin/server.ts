/** Composition root of `mctl server`: store, sessions, controllers, gRPC door, and a gateway beside it. */
import { join } from 'node:path'
import type { ServerFlags } from '../cli/context.ts'
import { DEFAULT_HUB } from '../api/modelhub.ts'
import { startControllers } from '../controllers/start.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { systemClock, systemRandom } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { userDataDir } from '../lib/userdata.ts'
import { OpError, messageOf } from '../lib/errors.ts'
import { serve } from '../rpc/grpcserver.ts'
import { makeHandlers } from '../server/handlers.ts'
import { GatewayTraffic } from '../server/live.ts'
import { createHub } from '../server/hub/hub.ts'
import { checkedEndpoint } from '../server/hub/refusals.ts'
import { createServerMetrics } from '../server/metrics.ts'
import { openMetricsDoor } from '../server/metricsdoor.ts'
import { createSessions } from '../server/sessions.ts'
import { openStore } from '../store/sqlite.ts'
import type { Store } from '../store/store.ts'
import { followParent, tellUp } from './child.ts'
import { GatewayBeside } from './gatewaychild.ts'
import { startFollowing } from './gitops.ts'
import { gatewayTls } from './gatewaytls.ts'
import { makeLogger } from './logger.ts'
import { METRICS_BY_PROXY, NEEDS_IDENTITIES, requireLoopback, WEBHOOKS_BY_PROXY } from './loopback.ts'
import { beside, cutRevoked, followAuthorities, openIdentities, writeAdminContext } from './identities.ts'
import { planLive } from './planlive.ts'
import type { Signals } from './signals.ts'
import { aborted } from './signals.ts'
import { version } from './version.ts'

type Env = Readonly<Record<string, string | undefined>>

const GRACE_MS = 3000

/** Where the cluster is kept. */
export const serverDataDir = (given: string | undefined, env: Env): string =>
  given ?? env['MCTL_DATA_DIR'] ?? join(userDataDir(env, process.platform), 'server')

export async function runServer(flags: ServerFlags, env: Env, signals: Signals): Promise<number> {
  const { webhooks = 'none', metrics = 'none' } = flags
  if (metrics !== 'none') requireLoopback(metrics, 'the address of metrics', METRICS_BY_PROXY)
  if (webhooks !== 'none') requireLoopback(webhooks, 'the address for webhooks', WEBHOOKS_BY_PROXY)
  const parent = followParent()
  const log = makeLogger('server', env['MCTL_LOG'])
  const dataDir = serverDataDir(flags.dataDir, env)
  const { store, stop } = await start(flags, env, { dataDir, clock: systemClock, random: systemRandom, log })

  const failure = await Promise.race([signals.stopped(), aborted(parent.stop), store.failed])
  if (failure instanceof OpError) {
    // Nothing can be said or done without the store: as after a crash, the next start finds out what it holds.
    log.error('the store failed, the server ends', { error: messageOf(failure), dataDir })
    return 1
  }
  log.info('server stops', { revision: store.stats().revision })
  await stop()
  return 0
}

interface Doors {
  readonly dataDir: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

interface RunningServer {
  readonly store: Store
  /** In order: no more than GRACE_MS for calls that are under way. */
  readonly stop: () => Promise<void>
}

async function start(flags: ServerFlags, env: Env, doors: Doors): Promise<RunningServer> {
  const { listen, gateway: gatewayAt, webhooks = 'none', metrics: metricsAt = 'none' } = flags
  const { dataDir, log } = doors
  const hub = createHub({
    endpoint: checkedEndpoint(env['HF_ENDPOINT'] || DEFAULT_HUB),
    ...(env['HF_TOKEN'] ? { token: env['HF_TOKEN'] } : {}),
    ...doors,
  })
  const store = await openStore(doors)
  const { identityOf, trust } = await openIdentities({ store, listen, ...doors })
  if (gatewayAt !== 'none' && trust === undefined) requireLoopback(gatewayAt, 'the gateway address', NEEDS_IDENTITIES)
  const ending = new AbortController()
  const { signal } = ending
  const tls = await gatewayTls(flags, trust?.authority, { ...doors, signal })
  const gateway = new GatewayBeside()
  const gatewayUrl = () => gateway.url()
  const sessions = createSessions({ store, serverVersion: version, authority: () => trust?.authority, ...doors })
  const traffic = new GatewayTraffic(doors.clock)
  const metrics = metricsAt === 'none' ? undefined : createServerMetrics(store, sessions)
  const handlers = makeHandlers({
    store,
    sessions,
    ...doors,
    planReport: (request, snapshot) => planLive(request, snapshot, sessions.headroomBytes(), hub),
    serverVersion: version,
    gatewayUrl,
    authority: trust?.authority,
    traffic,
  })
  const secured = trust === undefined ? {} : { tls: trust.tls }
  const server = await serve(handlers, { listen, identityOf, log, onCall: metrics?.onCall, ...secured })
  if (trust !== undefined) {
    cutRevoked(store, server)
    followAuthorities(trust, { store, ...doors, server, signal })
    await writeAdminContext({ store, dataDir }, trust.authority, server.address)
  }
  const gateways = () => traffic.now()
  const controllers = startControllers({
    store,
    sessions,
    ...doors,
    gatewayUrl,
    hub,
    gateways,
    onPass: metrics?.onPass,
  })
  const following = await startFollowing({ store, ...doors, env, webhooks })
  const measured = metrics && (await openMetricsDoor([metrics.text, following.metrics], metricsAt, log))
  if (measured !== undefined) log.info('metrics are told', { address: measured.address })
  log.info('server listens', { address: server.address, dataDir, version, revision: store.stats().revision })
  if (gatewayAt !== 'none') {
    const { clusterUid } = store
    const own = { server: beside(server.address), credentials: trust?.gatewayCredentials }
    await gateway.start({ ...own, dataDir, listen: gatewayAt, tls, clusterUid, log }, signal)
    if (trust !== undefined && tls !== undefined) tellProgrammers(log, trust.authorityFile, gateway.url())
  }
  tellUp({ gatewayUrl: gateway.url() })
  const stop = async () => {
    ending.abort()
    // With a planned stop; after a crash it serves on, and the next server adopts it.
    await gateway.stop()
    await measured?.stop()
    await following.stop()
    await controllers.stop()
    sessions.close()
    await server.stop(GRACE_MS)
    await store.close()
  }
  return { store, stop }
}

const tellProgrammers = (log: Logger, authorityFile: string, url: string | undefined): void =>
  log.info('programs reach the gateway over TLS', {
    try: `curl --cacert ${authorityFile} -H "authorization: Bearer $KEY" ${url}/v1/models`,
    key: 'mctl api-key create NAME',
  })
