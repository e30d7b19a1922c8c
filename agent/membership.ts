/** Who this agent is to its server: by certificate where there is one or a token gets one, else as a neighbour on loopback. */
import type { Clock, Random } from '../src/lib/clock.ts'
import { OpError } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import { connect } from '../src/rpc/grpcclient.ts'
import type { Client } from '../src/rpc/messages.ts'
import { swappable } from '../src/rpc/swap.ts'
import type { Credentials } from './credentials.ts'
import {
  FreshCredentials,
  addressTowards,
  credentialsFile,
  isOutdatedBy,
  joinCluster,
  readCredentials,
} from './credentials.ts'

/** IPv4 address under which this node's shards listen while the cluster has no identities. */
const LOOPBACK = '127.0.0.1'

export interface MembershipOptions {
  /** `host:port` of the server. */
  readonly server: string
  readonly name: string
  readonly dataDir: string
  /** Of `mctl join-token create`; needed once, until the agent has credentials of its own. */
  readonly token?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Ends the joining, and the renewal of certificates. */
  readonly signal: AbortSignal
}

export interface Membership {
  readonly client: Client
  /** Under which the gateway and the other ranks reach this node. */
  readonly address: string
  /** Absent: the cluster has no identities, as far as this agent knows. */
  readonly credentialsFile?: string
  readonly identity?: {
    readonly fresh: FreshCredentials
    /** Renews from now on, and tells when the client calls as somebody new. */
    readonly keep: (onFresh: () => void) => void
  }
}

/** undefined: `signal` ended it. Rejects with OpError Invalid when the folder holds the credentials of another node. */
export async function membership(options: MembershipOptions): Promise<Membership | undefined> {
  const { server, name: node, dataDir, token, labels = {}, clock, random, log, signal } = options
  const doors = { dataDir, server, node, labels, clock, random, log, signal }
  const kept = readCredentials(dataDir)
  if (kept !== undefined && kept.node !== node)
    throw new OpError(
      'Invalid',
      `start agent "${node}": ${dataDir} holds the credentials of node "${kept.node}". Give each node a --data-dir of its own`,
    )
  const standing = kept !== undefined && isOutdatedBy(kept, token) ? undefined : kept
  const credentials = standing ?? (token === undefined ? undefined : await joinCluster(doors, token))
  if (signal.aborted) return undefined
  if (credentials === undefined) return { client: connect(server, { node }), address: LOOPBACK }
  const connected = ({ authorityPem, certificatePem, keyPem }: Credentials) =>
    connect(server, { tls: { authorityPem, own: { certificatePem, keyPem } } })
  const client = swappable(connected(credentials))
  const address = await addressTowards(doors, credentials)
  const fresh = new FreshCredentials(doors, readCredentials(dataDir) ?? credentials)
  const keep = (onFresh: () => void) =>
    void fresh.keep((next) => {
      client.swap(connected(next))
      onFresh()
    })
  return { client, address, credentialsFile: credentialsFile(dataDir), identity: { fresh, keep } }
}

/** Read anew, for they are renewed. OpError Unauthorized where there are none. */
export function ownCredentials(dataDir: string): Credentials {
  const credentials = readCredentials(dataDir)
  if (credentials === undefined) throw new OpError('Unauthorized', `${dataDir} holds no credentials of this node`)
  return credentials
}
