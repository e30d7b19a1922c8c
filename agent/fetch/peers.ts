/** What other nodes' doors say that they have or fetch, and how fast they and the hub were so far. */
import type { Peer } from '../../src/api/peers.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { FetchDoors } from './doors.ts'
import type { ClaimState } from './claims.ts'
import { folderName, isSha256 } from './needed.ts'
import type { WantedModel } from './needed.ts'
import type { FileRequest } from './transfer/transfers.ts'

/** A file that a peer has whole (`Here`), or is getting. */
export interface Offer {
  readonly peer: Peer
  readonly state: 'Here' | ClaimState
}
/** By sha256. */
export type Offers = ReadonlyMap<string, readonly Offer[]>

/** How the list of a door looks on the wire: sha256 → state. */
export interface DoorList {
  readonly files: Readonly<Record<string, Offer['state']>>
}
export const listPath = (model: Pick<WantedModel, 'source' | 'commit'>): string => `/v1/models/${folderName(model)}`
export const filePath = (sha256: string): string => `/v1/files/${sha256}`

const LIST_TIMEOUT_MS = 3_000
/** Peers come and go; who is new is seen at the next look after so long. */
const DIRECTORY_MS = 5_000
/** A peer that broke, or was silent, is left alone for so long. */
const BENCH_MS = 30_000
/** Of shorter transfers, the beginning is most. */
const RATED_BYTES = 4 * 2 ** 20
const RATE_WEIGHT = 0.3

/** Bytes per second of the hub and of each peer, as this agent saw them. */
export class Rates {
  readonly #rates = new Map<string, number>()

  note(name: string, bytes: number, ms: number): void {
    if (bytes < RATED_BYTES || ms <= 0) return
    const now = (bytes / ms) * 1000
    const before = this.#rates.get(name) ?? now
    this.#rates.set(name, before + RATE_WEIGHT * (now - before))
  }

  of(name: string): number | undefined {
    return this.#rates.get(name)
  }
}

type PeerDoors = Pick<FetchDoors, 'peersOf' | 'peers' | 'clock' | 'log'>

/** The peers of one model. */
export class PeerView {
  readonly #doors: PeerDoors
  readonly #model: WantedModel
  readonly #bench: Map<string, number>
  #peers: readonly Peer[] = []
  #listedMs = -Infinity

  /** `bench`: nodes that broke, and until when; all jobs share it. */
  constructor(doors: PeerDoors, model: WantedModel, bench: Map<string, number>) {
    this.#doors = doors
    this.#model = model
    this.#bench = bench
  }

  /** A fresh look at every peer that answers. Never rejects but by the signal: without peers there is the hub. */
  async look(signal: AbortSignal): Promise<Offers> {
    const offers = new Map<string, Offer[]>()
    for (const { peer, files } of await Promise.all((await this.#usable()).map((peer) => this.#ask(peer, signal))))
      for (const [sha256, state] of Object.entries(files)) {
        if (!isSha256(sha256)) continue
        offers.set(sha256, [...(offers.get(sha256) ?? []), { peer, state }])
      }
    signal.throwIfAborted()
    return offers
  }

  request(peer: Peer, sha256: string, from: number): FileRequest {
    const { peers } = this.#doors
    if (peers === undefined) throw new Error('this agent speaks to no peers')
    return peers.request(peer, filePath(sha256), { from })
  }

  /** Leaves the peer alone for a while. */
  bench(peer: Peer): void {
    this.#bench.set(peer.node, this.#doors.clock.monotonicMs() + BENCH_MS)
  }

  async #usable(): Promise<readonly Peer[]> {
    const { peersOf, peers, clock, log } = this.#doors
    if (peersOf === undefined || peers === undefined) return []
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#listedMs >= DIRECTORY_MS) {
      this.#listedMs = nowMs
      try {
        this.#peers = (await peersOf(this.#model)).filter(({ node }) => node !== peers.own)
      } catch (error) {
        log.info('peers are not known', { source: this.#model.source, error: messageOf(error) })
      }
    }
    return this.#peers.filter(({ node }) => (this.#bench.get(node) ?? -Infinity) <= clock.monotonicMs())
  }

  async #ask(peer: Peer, signal: AbortSignal): Promise<{ peer: Peer } & DoorList> {
    const { peers, clock, log } = this.#doors
    const late = new AbortController()
    const timer = clock.after(LIST_TIMEOUT_MS, () => late.abort())
    try {
      const both = AbortSignal.any([signal, late.signal])
      const answer = await peers?.ask(peer, listPath(this.#model), both)
      if (answer?.status === 200) return { peer, files: filesOf(answer.text) }
    } catch (error) {
      if (!signal.aborted) {
        log.info('peer does not answer', { peer: peer.node, error: messageOf(error) })
        this.bench(peer)
      }
    } finally {
      timer.cancel()
    }
    return { peer, files: {} }
  }
}

const states: readonly unknown[] = ['Here', 'Claiming', 'Hub', 'Peer'] satisfies Offer['state'][]

function filesOf(text: string): DoorList['files'] {
  const { files } = JSON.parse(text) as { files?: unknown }
  if (typeof files !== 'object' || files === null) return {}
  return Object.fromEntries(Object.entries(files).filter(([, state]) => states.includes(state)))
}
