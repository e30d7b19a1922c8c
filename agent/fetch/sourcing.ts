/**
 * Hands out the files of one job with the origin of each: looks at peers, claims what it takes, and says so to peers
 * that look here, so that of several nodes one asks the hub for a file. One decision at a time; choose.ts makes it.
 */
import type { ModelFile } from '../../src/api/model.ts'
import type { Peer } from '../../src/api/peers.ts'
import { sleep } from '../../src/lib/clock.ts'
import { chooseNext, HUB, isWorthIt, mayAskHub } from './choose.ts'
import type { Choice } from './choose.ts'
import type { Claims, ClaimState } from './claims.ts'
import type { FetchDoors } from './doors.ts'
import type { Origin } from './download.ts'
import { addressOf } from './needed.ts'
import type { WantedModel } from './needed.ts'
import type { Offers, PeerView, Rates } from './peers.ts'

export interface SourcingDoors {
  readonly doors: FetchDoors
  readonly claims: Claims
  readonly rates: Rates
  readonly view: PeerView
}

type Decided = Exclude<Choice, { readonly kind: 'Wait' }>

const LOOK_AGAIN_MS = 100
/** Then the hub is asked, whatever others are about to do: that costs bytes, waiting for ever costs more. */
const MAX_LOOKS = 50

export class Sourcing {
  readonly #deps: SourcingDoors
  readonly #model: WantedModel
  readonly #dir: string
  readonly #queue: ModelFile[]
  readonly #signal: AbortSignal
  #turn: Promise<unknown> = Promise.resolve()

  constructor(deps: SourcingDoors, model: WantedModel, dir: string, files: readonly ModelFile[], signal: AbortSignal) {
    this.#deps = deps
    this.#model = model
    this.#dir = dir
    this.#queue = [...files]
    this.#signal = signal
  }

  /** The next file, and where its first request goes; undefined: every file is handed out. */
  next(): Promise<{ readonly file: ModelFile; readonly origin: Origin } | undefined> {
    return this.#inTurn(async () => {
      if (this.#queue.length === 0) return undefined
      const choice = await this.#decide(this.#queue, true)
      this.#queue.splice(this.#queue.indexOf(choice.file), 1)
      return { file: choice.file, origin: this.#originOf(choice) }
    })
  }

  /** Where a further request for a file goes, after one that broke. */
  again(file: ModelFile, peers: boolean): Promise<Origin> {
    return this.#inTurn(async () => this.#originOf(await this.#decide([file], peers)))
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run)
    this.#turn = turn.catch(() => {})
    return turn
  }

  async #decide(files: readonly ModelFile[], peers: boolean): Promise<Decided> {
    const { rates, view } = this.#deps
    for (let looks = 1; peers; looks += 1) {
      const offers = await view.look(this.#signal)
      this.#signal.throwIfAborted()
      const choice = looks > MAX_LOOKS ? undefined : chooseNext(files, offers, rates)
      if (choice === undefined) break
      if (choice.kind === 'Peer') return choice
      if (choice.kind === 'Hub' && (await this.#won(choice.file))) return choice
      await sleep(this.#deps.doors.clock, LOOK_AGAIN_MS, this.#signal)
      this.#signal.throwIfAborted()
    }
    const [file] = files
    if (file === undefined) throw new Error('there is no file to decide on')
    this.#claim(file, 'Hub')
    return { kind: 'Hub', file }
  }

  /** Says that it wants the file, and looks again: of two that do so, one sees the other. */
  async #won(file: ModelFile): Promise<boolean> {
    const { doors, claims } = this.#deps
    const { sha256 } = file
    if (sha256 === undefined || doors.peers === undefined) return true
    this.#claim(file, 'Claiming')
    let won = false
    try {
      won = await this.#mayAskHub(doors.peers.own, sha256)
    } finally {
      if (!won) claims.end(sha256)
    }
    if (won) this.#claim(file, 'Hub')
    return won
  }

  async #mayAskHub(own: string, sha256: string): Promise<boolean> {
    const { doors, view } = this.#deps
    for (let looks = 1; looks <= MAX_LOOKS; looks += 1) {
      const offers = await view.look(this.#signal)
      // A look that was broken off sees nobody: that is no leave to ask.
      this.#signal.throwIfAborted()
      const verdict = mayAskHub(own, this.#worthIt(offers, sha256))
      if (verdict !== 'Unclear') return verdict === 'Yes'
      await sleep(doors.clock, LOOK_AGAIN_MS, this.#signal)
      this.#signal.throwIfAborted()
    }
    return true
  }

  #worthIt(offers: Offers, sha256: string) {
    return (offers.get(sha256) ?? []).filter(({ peer }) => isWorthIt(peer, this.#deps.rates))
  }

  #claim({ sha256, name, sizeBytes }: ModelFile, state: ClaimState): void {
    if (sha256 === undefined) return
    const { claims } = this.#deps
    const bytes = claims.get(sha256)?.bytes ?? 0
    claims.set(sha256, { state, dir: this.#dir, name, sizeBytes, bytes })
  }

  #originOf(choice: Decided): Origin {
    if (choice.kind === 'Hub') return this.#hub(choice.file)
    this.#claim(choice.file, 'Peer')
    return this.#peer(choice.file, choice.peer)
  }

  #hub(file: ModelFile): Origin {
    const { doors, rates } = this.#deps
    const address = addressOf(doors.endpoint, this.#model, file)
    const ifRange = file.sha256 === undefined && file.etag !== undefined && file.etag !== '' ? file.etag : undefined
    return {
      kind: 'Hub',
      name: new URL(address).origin,
      request: (from) => doors.request(address, { from, ...(ifRange === undefined ? {} : { ifRange }) }),
      report: ({ bytes, ms }) => rates.note(HUB, bytes, ms),
    }
  }

  #peer({ sha256 = '' }: ModelFile, peer: Peer): Origin {
    const { rates, view } = this.#deps
    return {
      kind: 'Peer',
      name: `node ${peer.node}`,
      request: (from) => view.request(peer, sha256, from),
      report: ({ bytes, ms, failed }) => {
        if (failed) view.bench(peer)
        rates.note(peer.node, bytes, ms)
      },
    }
  }
}
