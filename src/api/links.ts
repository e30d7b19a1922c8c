/** Measuring a link: what the server asks an agent for over its session, and what comes back. */

export interface LinkOrder {
  readonly peer: string
  /** Own address on the link. */
  readonly address: string
  readonly peerAddress: string
  /** Of the peer's measuring door. */
  readonly port: number
}

export interface LinkFigures {
  /** The slower of both directions. */
  readonly bytesPerSecond: number
  /** Of a small message there and back. */
  readonly latencyMicros: number
}

export type LinkMeasurement =
  | ({ readonly kind: 'Measured' } & LinkFigures)
  /** The peer was not reached over this link. */
  | { readonly kind: 'Failed'; readonly message: string }
  /** Says nothing of the link: somebody was busy, or went away. */
  | { readonly kind: 'NotDone'; readonly message: string }
