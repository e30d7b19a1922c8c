/** Connections to the leaders' doors. */
import { Pool } from 'undici'
import type { Replica, RoutingTable } from './routes.ts'

/** One connection pool per leader door, kept while the table names it. */
export class ReplicaPools {
  readonly #pools = new Map<string, Pool>()

  of(replica: Replica): Pool {
    const old = this.#pools.get(replica.shardUid)
    if (old !== undefined) return old
    // A prompt may take minutes to its first byte; stalls are the group's to notice, not the gateway's.
    const pool = new Pool(`http://${replica.address}:${replica.port}`, {
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: 2000 },
      keepAliveTimeout: 30_000,
    })
    this.#pools.set(replica.shardUid, pool)
    return pool
  }

  keepOnly(table: RoutingTable): void {
    const named = new Set([...table.values()].flat().map((r) => r.shardUid))
    for (const [uid, pool] of this.#pools) {
      if (named.has(uid)) continue
      this.#pools.delete(uid)
      // Closes when its last request has ended.
      pool.close().catch(() => {})
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()))
  }
}
