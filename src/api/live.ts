/**
 * What is true of this moment alone and never stored: an agent's reading of its machine, which goes up with each
 * heartbeat, and a gateway's traffic. The server keeps the last word of each in memory.
 */

/** What a heartbeat says of its machine; what it cannot tell is absent. A simulated node tells nothing but that. */
export interface LiveReading {
  /** Live headroom: what could still be had, our own shards not counted as others. */
  readonly freeBytes?: number
  readonly pressure?: 'Normal' | 'Warn' | 'Critical'
  /** Memory that the system cannot take back: MLX wires its weights. */
  readonly wiredBytes?: number
  /** Memory in use, less what the system may drop at once, such as the file cache. */
  readonly usedBytes?: number
  /** Share of the time that the GPU is busy, 0 to 1. */
  readonly gpuBusy?: number
  readonly simulated?: boolean
}

export interface LiveNode {
  readonly name: string
  /** Since anything was last heard of its agent; absent: not since the server started. */
  readonly heardAgoMs?: number
  /** Its agent is in session. */
  readonly connected: boolean
  /** Of its last heartbeat in this session. */
  readonly reading?: LiveReading
}

/** What one gateway does now; names are those that it routes by. */
export interface Traffic {
  /** Another one at each start of a gateway. */
  readonly gateway: string
  readonly replicas: readonly ReplicaTraffic[]
  readonly queues: readonly { readonly servedName: string; readonly waiting: number }[]
  /** Fingerprints of the authorities that it trusts; absent without identities, and of a gateway that is too old to tell. */
  readonly trusts?: readonly string[]
}
export interface ReplicaTraffic {
  /** The leader's. */
  readonly shardUid: string
  readonly inFlight: number
  /** Over the last ten seconds. */
  readonly tokensPerSecond: number
}

/** The traffic of a group, of all gateways together. */
export interface LiveGroup {
  readonly namespace: string
  readonly name: string
  readonly deployment: string
  readonly nodes: readonly string[]
  readonly inFlight: number
  readonly tokensPerSecond: number
}

/** Requests that wait for a place at a replica of the deployment. */
export interface LiveQueue {
  readonly namespace: string
  readonly deployment: string
  readonly waiting: number
}
