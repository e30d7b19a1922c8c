/**
 * From where a file comes: from a peer that has it, from the hub, or from a peer that is getting it from there. Pure.
 * docs/decisions/0004-files-from-peers.md says why.
 */
import type { ModelFile } from '../../src/api/model.ts'
import type { Peer } from '../../src/api/peers.ts'
import type { Offer, Offers } from './peers.ts'

export type Choice =
  | { readonly kind: 'Hub'; readonly file: ModelFile }
  | { readonly kind: 'Peer'; readonly file: ModelFile; readonly peer: Peer }
  /** Another node is about to ask the hub for everything that is left: look again soon. */
  | { readonly kind: 'Wait' }

export interface Speeds {
  /** Bytes per second of the hub or a node, as measured; undefined: not yet. */
  readonly of: (name: string) => number | undefined
}
/** Stands for the hub among the names of Speeds; no node can be called so. */
export const HUB = '(hub)'

/** Measurements differ by chance: the hub has to be so much faster before a peer is passed by. */
const CLEARLY_FASTER = 1.5

/**
 * The next of the files (at least one): what a peer has whole, then what nobody asks the hub for, then what is coming to
 * a peer. A peer that the hub is clearly faster than is passed by; one that was never tried is tried.
 */
export function chooseNext(files: readonly ModelFile[], offers: Offers, speeds: Speeds): Choice {
  const offersOf = ({ sha256 }: ModelFile): readonly Offer[] =>
    (sha256 === undefined ? [] : (offers.get(sha256) ?? [])).filter(({ peer }) => isWorthIt(peer, speeds))
  for (const file of files) {
    const here = fastest(
      offersOf(file).filter(({ state }) => state === 'Here'),
      speeds,
    )
    if (here !== undefined) return { kind: 'Peer', file, peer: here }
  }
  const free = files.find((file) => !offersOf(file).some(({ state }) => state === 'Claiming' || state === 'Hub'))
  if (free !== undefined) return { kind: 'Hub', file: free }
  for (const file of files) {
    const coming = fastest(
      offersOf(file).filter(({ state }) => state === 'Hub'),
      speeds,
    )
    if (coming !== undefined) return { kind: 'Peer', file, peer: coming }
  }
  return { kind: 'Wait' }
}

/**
 * May this node ask the hub for a file that it has claimed, now that it sees the others' claims? `No`: it comes from a
 * peer, or the node whose name is first takes it. `Unclear`: another claim is not decided yet, and ours is first.
 */
export function mayAskHub(own: string, offers: readonly Offer[]): 'Yes' | 'No' | 'Unclear' {
  const claiming = offers.filter(({ state }) => state === 'Claiming')
  if (offers.some(({ state }) => state === 'Here' || state === 'Hub')) return 'No'
  if (claiming.some(({ peer }) => peer.node < own)) return 'No'
  return claiming.length === 0 ? 'Yes' : 'Unclear'
}

const rateOf = (peer: Peer, speeds: Speeds): number => speeds.of(peer.node) ?? peer.bytesPerSecond ?? Infinity

export const isWorthIt = (peer: Peer, speeds: Speeds): boolean =>
  (speeds.of(HUB) ?? 0) <= CLEARLY_FASTER * rateOf(peer, speeds)

function fastest(offers: readonly Offer[], speeds: Speeds): Peer | undefined {
  const [best] = [...offers].sort(
    (a, b) => rateOf(b.peer, speeds) - rateOf(a.peer, speeds) || (a.peer.node < b.peer.node ? -1 : 1),
  )
  return best?.peer
}
