/** What feeds a gateway: mirrors of the kinds that routes (and keys) are made of, and a new table when one of them changed. */
import type { KindName } from '../api/kinds.ts'
import type { MctlObject } from '../api/meta.ts'
import type { ApiKey } from '../api/trust.ts'
import type { RoutingTable, RoutingWorld } from '../gateway/routes.ts'
import { deriveRoutes } from '../gateway/routes.ts'
import type { Clock, Random } from '../lib/clock.ts'
import { nextTurn } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Client } from '../rpc/messages.ts'
import { mirror } from '../rpc/mirror.ts'

const routingKinds = ['ModelDeployment', 'ShardGroup', 'Shard', 'Node'] as const satisfies readonly KindName[]

export interface RouteFeed {
  readonly client: Client
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly signal: AbortSignal
  /** Keys are read by a gateway with identities alone. */
  readonly withKeys: boolean
  readonly onKeys: (keys: readonly ApiKey[]) => void
  readonly onTable: (table: RoutingTable) => void
  readonly onCluster: (uid: string) => void
}

/** Runs until the signal aborts. The last table stays in force while the server is away. */
export async function followRoutes({ withKeys, onKeys, onTable, onCluster, ...doors }: RouteFeed): Promise<void> {
  const kinds: readonly KindName[] = withKeys ? [...routingKinds, 'ApiKey'] : routingKinds
  const state = new Map<KindName, ReadonlyMap<string, MctlObject>>()
  let due = false
  const derive = () => {
    due = false
    // Half a world would look like one in which nothing is ready.
    if (state.size < kinds.length) return
    onTable(deriveRoutes(worldOf(state)))
    onKeys([...(state.get('ApiKey')?.values() ?? [])] as readonly ApiKey[])
  }
  await Promise.all(
    kinds.map((kind) =>
      mirror({
        ...doors,
        kind,
        onHeader: (header) => onCluster(header.clusterUid),
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
