/** Nodes that can hand files of a model to another node, as the server tells an agent that asks. */

export interface Peer {
  readonly node: string
  /** Of its models door. */
  readonly address: string
  readonly port: number
  /** Of the link to it, when that was measured. */
  readonly bytesPerSecond?: number
}
