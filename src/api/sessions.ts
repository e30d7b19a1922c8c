/** What the server's node sessions know and the store must not: who is in contact, and the live memory of heartbeats. */

import type { LinkMeasurement, LinkOrder } from './links.ts'

export interface NodeSessions {
  /**
   * When anything was last heard from the node's agent, in the clock's monotonic ms; undefined: never since this server
   * started. Stays what it was when the session ends.
   */
  lastSeenMs(node: string): number | undefined
  /** Its session of now has said Synced: it runs exactly its bound shards. False without a session. */
  synced(node: string): boolean
  /** node → live headroom in bytes from heartbeats, 0 under memory pressure; nodes that report none are not in it. */
  headroomBytes(): ReadonlyMap<string, number>
  /** Asks the node's agent to measure a link. Resolves within a minute; NotDone without a session. */
  measureLink(node: string, order: LinkOrder): Promise<LinkMeasurement>
  /** Called with the node's name when a session opens, says Synced or ends; the answer unsubscribes. */
  onChange(listener: (node: string) => void): () => void
}
