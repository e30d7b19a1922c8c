/** What this agent is fetching right now, for peers that need the same: so that the hub is asked once for each file. */

/** Claiming: about to ask the hub, unless a peer does. Hub, Peer: bytes are coming from there. */
export type ClaimState = 'Claiming' | 'Hub' | 'Peer'

export interface Claim {
  readonly state: ClaimState
  readonly dir: string
  readonly name: string
  readonly sizeBytes: number
  /** Bytes of the part that can be read. */
  readonly bytes: number
}

/** By sha256: the same file is the same bytes, whatever model it is of. */
export class Claims {
  readonly #claims = new Map<string, Claim>()
  readonly #waiters = new Map<string, Set<() => void>>()

  get(sha256: string): Claim | undefined {
    return this.#claims.get(sha256)
  }

  /** Claims of files in this folder. */
  in(dir: string): readonly (readonly [sha256: string, claim: Claim])[] {
    return [...this.#claims].filter(([, claim]) => claim.dir === dir)
  }

  set(sha256: string, claim: Claim): void {
    this.#claims.set(sha256, claim)
    this.#tell(sha256)
  }

  change(sha256: string, change: Partial<Pick<Claim, 'state' | 'bytes'>>): void {
    const claim = this.#claims.get(sha256)
    if (claim !== undefined) this.set(sha256, { ...claim, ...change })
  }

  /** The file is here, or nobody fetches it any more. */
  end(sha256: string): void {
    this.#claims.delete(sha256)
    this.#tell(sha256)
  }

  /** Resolves when the claim changes or ends. */
  next(sha256: string): Promise<void> {
    const waiters = this.#waiters.get(sha256) ?? new Set()
    this.#waiters.set(sha256, waiters)
    return new Promise((resolve) => void waiters.add(resolve))
  }

  #tell(sha256: string): void {
    const waiters = this.#waiters.get(sha256)
    this.#waiters.delete(sha256)
    for (const resolve of waiters ?? []) resolve()
  }
}
