/** Connections to the leaders' doors. */
import { Pool } from 'undici'
import { nodeDnsName } from '../api/trust.ts'
import type { Replica, RoutingTable } from './routes.ts'

/** How the gateway shows the doors that it is the gateway, and knows each door by its node. Absent: plain, on loopback. */
export interface GatewayTls {
  readonly authorityPem: string
  readonly certificatePem: string
  readonly keyPem: string
}

/** One connection pool per leader door, kept while the table names it. */
export class ReplicaPools {
  readonly #pools = new Map<string, Pool>()
  #tls: GatewayTls | undefined

  constructor(tls?: GatewayTls) {
    this.#tls = tls
  }

  of(replica: Replica): Pool {
    const old = this.#pools.get(replica.shardUid)
    if (old !== undefined) return old
    // A prompt may take minutes to its first byte; stalls are the group's to notice, not the gateway's.
    const tls = this.#tls
    const secured =
      tls === undefined
        ? {}
        : { ca: tls.authorityPem, cert: tls.certificatePem, key: tls.keyPem, servername: nodeDnsName(replica.node) }
    const pool = new Pool(`${tls === undefined ? 'http' : 'https'}://${hostOf(replica)}`, {
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: 2000, ...secured },
      keepAliveTimeout: 30_000,
    })
    this.#pools.set(replica.shardUid, pool)
    return pool
  }

  /** For connections from now on; requests under way end on those that they have. */
  setTls(tls: GatewayTls): void {
    this.#tls = tls
    for (const uid of [...this.#pools.keys()]) this.#leave(uid)
  }

  keepOnly(table: RoutingTable): void {
    const named = new Set([...table.values()].flat().map((r) => r.shardUid))
    for (const uid of [...this.#pools.keys()]) if (!named.has(uid)) this.#leave(uid)
  }

  /** Closes the pool when its last request has ended. */
  #leave(uid: string): void {
    this.#pools
      .get(uid)
      ?.close()
      .catch(() => {})
    this.#pools.delete(uid)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()))
  }
}

const hostOf = ({ address, port }: Replica): string => `${address.includes(':') ? `[${address}]` : address}:${port}`
