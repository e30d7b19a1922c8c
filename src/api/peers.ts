/** What the server tells agents of each other: nodes that can hand on files of a model, and whose certificates count. */

export interface Peer {
  readonly node: string
  /** Of its models door. */
  readonly address: string
  readonly port: number
  /** Of the link to it, when that was measured. */
  readonly bytesPerSecond?: number
}

/** A node of the cluster: only certificates that were issued for its Node, and not before a reset, are its own. */
export interface Member {
  readonly node: string
  /** Of the Node. */
  readonly uid: string
  readonly validFromMs?: number
}
