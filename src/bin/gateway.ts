/** Composition root of `mctl gateway`: mirrors of the server's state → routing table → the OpenAI door. */
import { readFileSync } from 'node:fs'
import type { KindName } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import { GATEWAY_USER } from '../api/trust.ts'
import type { ApiKey } from '../api/trust.ts'
import type { GatewayFlags } from '../cli/context.ts'
import { startGateway } from '../gateway/gateway.ts'
import type { GatewayTls } from '../gateway/pools.ts'
import type { RoutingWorld } from '../gateway/routes.ts'
import { deriveRoutes } from '../gateway/routes.ts'
import { nextTurn, systemClock, systemRandom } from '../lib/clock.ts'
import { startTimeOf } from '../lib/process.ts'
import { connect } from '../rpc/grpcclient.ts'
import { mirror } from '../rpc/mirror.ts'
import { writeGatewayRecord } from './gatewayrecord.ts'
import { makeLogger } from './logger.ts'
import { NEEDS_IDENTITIES, requireLoopback } from './loopback.ts'
import type { Signals } from './signals.ts'

const DRAIN_MS = 60_000
const routingKinds = ['ModelDeployment', 'ShardGroup', 'Shard', 'Node'] as const satisfies readonly KindName[]

export async function runGateway(flags: GatewayFlags, signals: Signals): Promise<number> {
  const credentials = flags.credentials === undefined ? undefined : readGatewayCredentials(flags.credentials)
  if (credentials === undefined) requireLoopback(flags.listen, 'the gateway address', NEEDS_IDENTITIES)
  const log = makeLogger('gateway', process.env['MCTL_LOG'])
  const client = connect(flags.server, credentials === undefined ? { user: GATEWAY_USER } : callerOf(credentials))
  let clusterUid = ''
  const gateway = await startGateway({
    listen: flags.listen,
    clock: systemClock,
    log,
    clusterUid: () => clusterUid,
    ...(credentials === undefined ? {} : { tls: credentials }),
  })
  const followed = follow(client, signals.first, log, {
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
        })
    },
  })
  log.info('gateway serves', { address: gateway.address, server: flags.server })
  await signals.stopped()
  signals.second.addEventListener('abort', () => process.exit(1))
  await gateway.stop(DRAIN_MS)
  await followed
  client.close()
  return 0
}

const readGatewayCredentials = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as GatewayTls

const callerOf = ({ authorityPem, certificatePem, keyPem }: GatewayTls) => ({
  tls: { authorityPem, own: { certificatePem, keyPem } },
})

interface Follower {
  readonly withKeys: boolean
  readonly onKeys: (keys: readonly ApiKey[]) => void
  readonly onTable: (table: ReturnType<typeof deriveRoutes>) => void
  readonly onCluster: (uid: string) => void
}

async function follow(
  client: ReturnType<typeof connect>,
  signal: AbortSignal,
  log: ReturnType<typeof makeLogger>,
  follower: Follower,
): Promise<void> {
  const state = new Map<KindName, ReadonlyMap<string, MctlObject>>()
  let due = false
  const kinds: readonly KindName[] = follower.withKeys ? [...routingKinds, 'ApiKey'] : routingKinds
  const derive = () => {
    due = false
    // Half a world would look like one in which nothing is ready.
    if (state.size < kinds.length) return
    follower.onTable(deriveRoutes(worldOf(state)))
    follower.onKeys([...(state.get('ApiKey')?.values() ?? [])] as readonly ApiKey[])
  }
  await Promise.all(
    kinds.map((kind) =>
      mirror({
        client,
        kind,
        clock: systemClock,
        random: systemRandom,
        log,
        signal,
        onHeader: (header) => follower.onCluster(header.clusterUid),
        onChange: (objects) => {
          state.set(kind, objects)
          if (!due) nextTurn(derive)
          due = true
        },
      }),
    ),
  )
}

function worldOf(state: ReadonlyMap<KindName, ReadonlyMap<string, MctlObject>>): RoutingWorld {
  const listOf = (kind: KindName) => [...(state.get(kind)?.values() ?? [])]
  return {
    deployments: listOf('ModelDeployment'),
    groups: listOf('ShardGroup'),
    shards: listOf('Shard'),
    nodes: listOf('Node'),
  } as unknown as RoutingWorld
}
