/** Composition root of `mctl gateway`: mirrors of the server's state → routing table → the OpenAI door. */
import { readFileSync } from 'node:fs'
import { GATEWAY_USER } from '../api/trust.ts'
import type { GatewayFlags } from '../cli/context.ts'
import { startGateway } from '../gateway/gateway.ts'
import type { GatewayTls } from '../gateway/pools.ts'
import { every, systemClock, systemRandom } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import { startTimeOf } from '../lib/process.ts'
import { fingerprintsIn } from '../lib/x509.ts'
import { connect } from '../rpc/grpcclient.ts'
import { swappable } from '../rpc/swap.ts'
import { writeGatewayRecord } from './gatewayrecord.ts'
import { makeLogger } from './logger.ts'
import { NEEDS_IDENTITIES, requireLoopback } from './loopback.ts'
import type { ServingDoors } from './gatewaytls.ts'
import { PLAIN_OVER_NETWORK, followTls, givenTls, readTls } from './gatewaytls.ts'
import { followRoutes } from './routefeed.ts'
import type { Signals } from './signals.ts'

type FollowDoors = Omit<ServingDoors, 'dataDir'>

const DRAIN_MS = 60_000
const TELL_TIMEOUT_MS = 2_000

export async function runGateway(flags: GatewayFlags, signals: Signals): Promise<number> {
  const credentials = flags.credentials === undefined ? undefined : readGatewayCredentials(flags.credentials)
  if (credentials === undefined) requireLoopback(flags.listen, 'the gateway address', NEEDS_IDENTITIES)
  const files = givenTls(flags)
  if (files === undefined && flags.insecureHttp !== true)
    requireLoopback(flags.listen, 'the gateway address', PLAIN_OVER_NETWORK)
  const log = makeLogger('gateway', process.env['MCTL_LOG'])
  const client = swappable(
    connect(flags.server, credentials === undefined ? { user: GATEWAY_USER } : callerOf(credentials)),
  )
  let trusts = trustsOf(credentials)
  let clusterUid = ''
  const id = systemRandom.uuid()
  const gateway = await startGateway({
    listen: flags.listen,
    clock: systemClock,
    log,
    clusterUid: () => clusterUid,
    ...(credentials === undefined ? {} : { tls: credentials }),
    serving: files && readTls(files),
    tellTraffic: (traffic) =>
      client.observe({ speeds: [], traffic: { gateway: id, ...trusts, ...traffic } }, { timeoutMs: TELL_TIMEOUT_MS }),
    tellSpeeds: (speeds) => client.observe({ speeds }, { timeoutMs: TELL_TIMEOUT_MS }),
  })
  const followed = followRoutes({
    client,
    clock: systemClock,
    random: systemRandom,
    log,
    signal: signals.first,
    withKeys: credentials !== undefined,
    onTable: gateway.setTable,
    onKeys: gateway.setKeys,
    onCluster: (uid) => {
      clusterUid = uid
      if (flags.record !== undefined)
        writeGatewayRecord(flags.record, {
          pid: process.pid,
          startTime: startTimeOf(process.pid) ?? '',
          address: gateway.address,
          clusterUid: uid,
          tls: files?.cert,
        })
    },
  })
  const doors = { clock: systemClock, log, signal: signals.first }
  if (files !== undefined) void followTls(files, doors, gateway.setServing)
  if (flags.credentials !== undefined)
    void followCredentials(flags.credentials, doors, (fresh) => {
      gateway.setTls(fresh)
      client.swap(connect(flags.server, callerOf(fresh)))
      trusts = trustsOf(fresh)
    })
  log.info('gateway serves', { address: gateway.address, server: flags.server })
  await signals.stopped()
  signals.second.addEventListener('abort', () => process.exit(1))
  await gateway.stop(DRAIN_MS)
  await followed
  client.close()
  return 0
}

const CREDENTIALS_LOOK_MS = 2_000

/** Tells of new credentials until the signal aborts: the server writes them when its authorities change. */
async function followCredentials(
  file: string,
  { clock, log, signal }: FollowDoors,
  onFresh: (credentials: GatewayTls) => void,
): Promise<void> {
  let known = readFileSync(file, 'utf8')
  await every(clock, CREDENTIALS_LOOK_MS, signal, () => {
    try {
      const now = readFileSync(file, 'utf8')
      if (now === known) return
      onFresh(JSON.parse(now) as GatewayTls)
      known = now
      log.info('the gateway took new credentials', { file })
    } catch (error) {
      log.error('the gateway keeps its credentials', { file, error: messageOf(error) })
    }
  })
}

/** For the server to know: a change of authority waits for the gateway. */
const trustsOf = (credentials: GatewayTls | undefined) =>
  credentials === undefined ? {} : { trusts: fingerprintsIn(credentials.authorityPem) }

const readGatewayCredentials = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as GatewayTls

const callerOf = ({ authorityPem, certificatePem, keyPem }: GatewayTls) => ({
  tls: { authorityPem, own: { certificatePem, keyPem } },
})
