/** Measuring a link: what the server asks an agent for over its session, and what comes back. */

export interface LinkOrder {
  readonly peer: string
  /** Own address on the link. */
  readonly address: string
  readonly peerAddress: string
  /** Of the peer's measuring door. */
  readonly port: number
  /** Through the engine, too: both ends have it, and nothing is bound there. */
  readonly engine?: boolean
}

export interface LinkFigures {
  /** The slower of both directions. */
  readonly bytesPerSecond: number
  /** Of a small message there and back. */
  readonly latencyMicros: number
}

/** What ranks of an engine wait for over the link. */
export interface EngineFigures {
  /** One all-reduce of two ranks inside a model, without what its bytes take. */
  readonly allReduceMicros: number
  /** One border between two pipeline stages. */
  readonly hopMicros: number
}

export type EngineMeasurement =
  | ({ readonly kind: 'Measured' } & EngineFigures)
  /** The engine's two ranks said nothing. */
  | { readonly kind: 'Failed'; readonly message: string }
  /** Says nothing of the link: somebody was busy, or a shard was wanted. */
  | { readonly kind: 'NotDone'; readonly message: string }

export type LinkMeasurement =
  | ({
      readonly kind: 'Measured'
      /** Absent: nobody asked for it. */
      readonly engine?: EngineMeasurement
    } & LinkFigures)
  /** The peer was not reached over this link. */
  | { readonly kind: 'Failed'; readonly message: string }
  /** Says nothing of the link: somebody was busy, or went away. */
  | { readonly kind: 'NotDone'; readonly message: string }
