/** One attempt of the search: the best candidate of a cut, or why there is none, in numbers. */
import type { Engine, Refusal } from '../../api/words.ts'
import type { Candidate, Cut } from './candidates.ts'
import { bestOf, candidatesOf } from './candidates.ts'
import { canCut, engineOf } from './engines.ts'
import { cutRefusal, memoryRefusal } from './filter.ts'
import type { Ground } from './ground.ts'
import { fitsOn, needBytes, wholeStage } from './ground.ts'
import { greedySplit, stagesOf } from './partition.ts'
import type { Seat } from './seats.ts'
import { byBudget, compatible } from './seats.ts'

export type Attempt = Cut & { readonly ground: Ground } & (
    | { readonly kind: 'Fits'; readonly best: Candidate }
    | {
        readonly kind: 'Refused'
        /** Asked for only where it is told. */
        readonly refusals: () => readonly Refusal[]
        /** What the worst rank of the nearest set lacks; Infinity when memory is not the matter. */
        readonly shortBytes: number
      }
  )

export function attempt(ground: Ground, cut: Cut): Attempt {
  const refused = (refusals: () => readonly Refusal[], shortBytes = Infinity): Attempt => ({
    ...cut,
    ground,
    kind: 'Refused',
    refusals,
    shortBytes,
  })
  const impossible = cutRefusal(ground.demand.shape, cut.strategy, cut.degree)
  if (impossible !== undefined) return refused(() => [impossible])

  const unsupported = ground.seats.flatMap((seat) => engineRefusal(ground, cut, seat) ?? [])
  const out = new Set(unsupported.map((r) => r.node))
  const able = ground.seats.filter((seat) => !out.has(seat.node.name))
  if (able.length === 0 && out.size > 0) return refused(() => unsupported)
  if (able.length < cut.degree) return refused(() => [...unsupported, tooFew(cut, able.length)])

  const classes = compatible(ground.demand, ground.engine, able)
  const large = classes.filter((seats) => seats.length >= cut.degree)
  if (large.length === 0) return refused(() => [...unsupported, ...mismatches(ground.engine, classes)])

  const best = bestOf(large.flatMap((seats) => candidatesOf(ground, cut, seats)))
  if (best !== undefined) return { ...cut, ground, kind: 'Fits', best }
  const nearest = nearestSet(ground, cut, large)
  return refused(() => [...unsupported, ...shortages(ground, nearest, able)], nearest.shortBytes)
}

function engineRefusal({ demand, engine }: Ground, { strategy }: Cut, { node }: Seat): Refusal | undefined {
  const refuse = (message: string): Refusal => ({ node: node.name, reason: 'EngineUnsupported', message })
  const info = engineOf(node, engine)
  if (info === undefined) return refuse(`engine ${engine} is not on the node`)
  const { architecture } = demand.shape
  if (canCut(info, engine, strategy, architecture)) return undefined
  return refuse(`${engine} cannot run ${architecture} as ${strategy}`)
}

const tooFew = ({ strategy, degree }: Cut, count: number): Refusal => ({
  node: '',
  reason: 'NotEnoughNodes',
  message: `${strategy} of ${degree} needs ${degree} nodes, ${count} could take part`,
})

/** No build is on enough nodes: those outside the largest class are the odd ones. */
function mismatches(engine: Engine, classes: readonly (readonly Seat[])[]): readonly Refusal[] {
  const [main = [], ...others] = [...classes].sort((a, b) => b.length - a.length)
  const version = (seat: Seat | undefined) => {
    const info = seat === undefined ? undefined : engineOf(seat.node, engine)
    return [info?.version, info?.lmVersion, info?.build].filter((v) => v !== undefined).join(' ')
  }
  const names = main.map((s) => s.node.name).join(', ')
  return others.flat().map((seat) => ({
    node: seat.node.name,
    reason: 'EngineMismatch',
    message: `${engine} ${version(seat)} here, ${version(main[0])} on ${names}; one group needs one build and the same files`,
  }))
}

interface NearestSet {
  readonly set: readonly Seat[]
  /** Bytes that each seat of the set would have to hold. */
  readonly needs: readonly number[]
  readonly shortBytes: number
}

/** Of the roomiest seats of each class, those that lack the least. */
function nearestSet(ground: Ground, cut: Cut, classes: readonly (readonly Seat[])[]): NearestSet {
  const sets = classes.map((seats): NearestSet => {
    const set = [...seats].sort(byBudget).slice(0, cut.degree)
    const needs = nearestNeeds(ground, cut, set)
    return { set, needs, shortBytes: Math.max(...set.map((seat, i) => (needs[i] ?? 0) - seat.budgetBytes)) }
  })
  return sets.reduce((best, s) => (s.shortBytes < best.shortBytes ? s : best))
}

/** Needs by seat of the cut that comes nearest to fitting, roomiest seat first. */
function nearestNeeds(ground: Ground, cut: Cut, set: readonly Seat[]): readonly number[] {
  const whole = wholeStage(ground)
  if (cut.strategy !== 'Pipeline') return set.map(() => needBytes(ground, cut.strategy, cut.degree, whole))
  const { split } = ground.demand.template.parallelism
  const bytesOf = (counts: readonly number[]) => stagesOf(counts).map(([start, end]) => ground.stageBytes(start, end))
  if (split.length > 0) return [...bytesOf(split)].sort((a, b) => b - a)

  // The least extra room on every node with which the layers would go in, to a millionth of the model.
  let [low, high] = [0, ground.stageBytes(...whole)]
  let counts = greedySplit(whole[1], set.length, fitsOn(ground, set, high)) ?? []
  const closeEnough = high / 2 ** 20
  while (high - low > closeEnough) {
    const extra = (low + high) / 2
    const found = greedySplit(whole[1], set.length, fitsOn(ground, set, extra))
    if (found === undefined) low = extra
    else [high, counts] = [extra, found]
  }
  return bytesOf(counts)
}

/** What every seat lacks: those of the nearest set for their own rank, others for the least of its ranks. */
function shortages(
  { demand }: Ground,
  { set, needs, shortBytes }: NearestSet,
  seats: readonly Seat[],
): readonly Refusal[] {
  if (shortBytes <= 0) {
    const { transport } = demand.template.parallelism
    const names = set.map((s) => s.node.name).join(', ')
    return set.map(({ node }) => ({
      node: node.name,
      reason: 'NoLink',
      message: `no link for transport ${transport} joins ${names}`,
    }))
  }
  const own = new Map(set.map((seat, i) => [seat, needs[i] ?? 0]))
  const least = Math.min(...needs)
  return seats.flatMap((seat) => memoryRefusal(seat.node, own.get(seat) ?? least) ?? [])
}
