/** One attempt of the search: the best candidate of a cut, or why there is none, in numbers. */
import type { Engine, Refusal } from '../../api/words.ts'
import { counted } from '../../lib/counted.ts'
import type { Candidate, Cut, Draft } from './candidates.ts'
import { bestOf, candidateOf } from './candidates.ts'
import { LLAMACPP_RANKS_MAX, canCut, engineOf, formatRefusal } from './engines.ts'
import type { BriefRefusal } from './filter.ts'
import { cutRefusal, memoryRefusal, memoryShortage, refusalSummary } from './filter.ts'
import type { Ground } from './ground.ts'
import { fitsOn, needBytes, wholeStage } from './ground.ts'
import { isIpv6 } from './links.ts'
import { greedySplit, stagesOf } from './partition.ts'
import { searchCut } from './search.ts'
import type { Crowd, Seat } from './seats.ts'
import { compatible, crowdOf } from './seats.ts'
import type { Demand, NodeView } from './types.ts'

export type Attempt = Cut & { readonly ground: Ground } & (
    | {
        readonly kind: 'Fits'
        readonly draft: Draft
        /** The draft with all its figures, worked out when they are asked for. */
        readonly best: () => Candidate
      }
    | {
        readonly kind: 'Refused'
        /** Asked for only where they are told. */
        readonly refusals: () => readonly Refusal[]
        /** What all of them come to, in a line. */
        readonly summary: () => string
        /** What the worst rank of the nearest set lacks; Infinity when memory is not the matter. */
        readonly shortBytes: () => number
      }
  )

export function attempt(ground: Ground, cut: Cut): Attempt {
  const impossible = cutRefusal(ground.demand.shape, cut.strategy, cut.degree) ?? engineCutRefusal(ground.engine, cut)
  if (impossible !== undefined) return refused(ground, cut, () => [impossible])

  const { able, crowds, unsupported } = fieldOf(ground, cut)
  if (able.length === 0 && ground.seats.length > 0)
    return { ...refused(ground, cut, unsupported), summary: fieldOf(ground, cut).unsupportedInBrief }
  if (able.length < cut.degree) return refused(ground, cut, () => [...unsupported(), tooFew(cut, able.length)])

  const large = crowds.filter(({ seats }) => seats.length >= cut.degree)
  if (large.length === 0) return refused(ground, cut, () => [...unsupported(), ...mismatches(ground.engine, crowds)])

  const draft = bestOf(large.flatMap((crowd) => searchCut(ground, cut, crowd) ?? []))
  return draft === undefined ? short(ground, cut, large) : fits(ground, draft)
}

function fits(ground: Ground, draft: Draft): Attempt {
  const { strategy, degree } = draft
  let best: Candidate | undefined
  return { strategy, degree, ground, kind: 'Fits', draft, best: () => (best ??= candidateOf(ground, draft)) }
}

/** Memory is the matter, or links. */
function short(ground: Ground, cut: Cut, crowds: readonly Crowd[]): Attempt {
  const { able, unsupported } = fieldOf(ground, cut)
  let known: NearestSet | undefined
  const nearest = () => (known ??= nearestSet(ground, cut, crowds))
  return {
    ...refused(ground, cut, () => [...unsupported(), ...shortages(ground, nearest(), able)]),
    shortBytes: () => nearest().shortBytes,
    summary: () => refusalSummary([...unsupported(), ...shortagesInBrief(ground, nearest(), able)]),
  }
}

type Refused = Extract<Attempt, { kind: 'Refused' }>

function refused(ground: Ground, { strategy, degree }: Cut, refusals: () => readonly Refusal[]): Refused {
  const summary = () => refusalSummary(refusals())
  return { strategy, degree, ground, kind: 'Refused', refusals, summary, shortBytes: () => Infinity }
}

export type Fits = Extract<Attempt, { kind: 'Fits' }>

/** Seats of a ground that can run one rank of a cut. */
export interface Field {
  readonly able: readonly Seat[]
  /** Those that may stand in one group. */
  readonly crowds: readonly Crowd[]
  readonly fastestFirst: () => readonly Seat[]
  readonly unsupported: () => readonly Refusal[]
  readonly unsupportedInBrief: () => string
}

/** The same for every degree of a strategy. */
export function fieldOf(ground: Ground, { strategy }: Cut): Field {
  const known = ground.fields.get(strategy)
  if (known !== undefined) return known
  const { demand, engine, seats } = ground
  // Nodes that report no engine at all can do the same.
  let silent: boolean | undefined
  const able = seats.filter(({ node }) =>
    node.engines.length > 0
      ? canTakePart(node, engine, strategy, demand)
      : (silent ??= canTakePart(node, engine, strategy, demand)),
  )
  const field = able.length === seats.length ? wholeField(ground) : partOf(ground, strategy, able)
  ground.fields.set(strategy, field)
  return field
}

/** Of strategies that every seat can take part in: the same crowds, sorted once. */
function wholeField(ground: Ground): Field {
  for (const field of ground.fields.values()) if (field.able === ground.seats) return field
  return { ...crowded(ground, ground.seats), unsupported: () => [], unsupportedInBrief: () => '' }
}

function partOf(ground: Ground, strategy: Cut['strategy'], able: readonly Seat[]): Field {
  let refusals: readonly Refusal[] | undefined
  const unsupported = () => (refusals ??= unable(ground, strategy, able))
  return {
    ...crowded(ground, able),
    unsupported,
    unsupportedInBrief: () => unableInBrief(ground, strategy, unsupported),
  }
}

function unable(ground: Ground, strategy: Cut['strategy'], able: readonly Seat[]): readonly Refusal[] {
  const can = new Set(able)
  return ground.seats.filter((seat) => !can.has(seat)).map((seat) => engineRefusal(ground, strategy, seat))
}

/** Nodes that report no engine are refused in the same words: one of them speaks for all. */
function unableInBrief(ground: Ground, strategy: Cut['strategy'], refusals: () => readonly Refusal[]): string {
  const { seats } = ground
  const [first] = seats
  if (first === undefined || seats.some((s) => s.node.engines.length > 0)) return refusalSummary(refusals())
  return refusalSummary([engineRefusal(ground, strategy, first)], seats.length)
}

function crowded(
  { demand, engine, terrain }: Ground,
  able: readonly Seat[],
): Pick<Field, 'able' | 'crowds' | 'fastestFirst'> {
  const crowds = compatible({ demand, engine, terrain }, able)
  const [only] = crowds
  const all = crowds.length === 1 && only !== undefined ? only : crowdOf(able, terrain)
  return { able, crowds, fastestFirst: all.fastestFirst }
}

function canTakePart(node: NodeView, engine: Engine, strategy: Cut['strategy'], demand: Demand): boolean {
  const info = engineOf(node, engine)
  const { architecture } = demand.shape
  return (
    info !== undefined && formatRefusal(engine, demand) === undefined && canCut(info, engine, strategy, architecture)
  )
}

function engineRefusal({ demand, engine }: Ground, strategy: Cut['strategy'], { node }: Seat): Refusal {
  const refuse = (message: string): Refusal => ({ node: node.name, reason: 'EngineUnsupported', message })
  const format = formatRefusal(engine, demand)
  if (format !== undefined) return refuse(format)
  if (engineOf(node, engine) === undefined) return refuse(`engine ${engine} is not on the node`)
  return refuse(`${engine} cannot run ${demand.shape.architecture} as ${strategy}`)
}

function engineCutRefusal(engine: Engine, { degree }: Cut): Refusal | undefined {
  if (engine !== 'llamacpp' || degree <= LLAMACPP_RANKS_MAX) return undefined
  const message = `llamacpp runs ${LLAMACPP_RANKS_MAX} ranks at most: with more RPC workers it can deadlock`
  return { node: '', reason: 'StrategyUnsupported', message }
}

const tooFew = ({ strategy, degree }: Cut, count: number): Refusal => ({
  node: '',
  reason: 'NotEnoughNodes',
  message: `${degree === 1 ? strategy : `${strategy} of ${degree}`} needs ${counted(degree, 'node')}, ${count} could take part`,
})

/** No build is on enough nodes: those outside the largest class are the odd ones. */
function mismatches(engine: Engine, crowds: readonly Crowd[]): readonly Refusal[] {
  const [main = [], ...others] = crowds.map(({ seats }) => seats).sort((a, b) => b.length - a.length)
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
function nearestSet(ground: Ground, cut: Cut, crowds: readonly Crowd[]): NearestSet {
  const sets = crowds.map((crowd): NearestSet => {
    const set = crowd.roomiestFirst().slice(0, cut.degree)
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
function shortages(ground: Ground, nearest: NearestSet, seats: readonly Seat[]): readonly Refusal[] {
  if (nearest.shortBytes <= 0) return unlinked(ground, nearest)
  return needsOf(nearest, seats).flatMap(([seat, need]) => memoryRefusal(seat.node, need) ?? [])
}

function shortagesInBrief(ground: Ground, nearest: NearestSet, seats: readonly Seat[]): readonly BriefRefusal[] {
  if (nearest.shortBytes <= 0) return unlinked(ground, nearest)
  return needsOf(nearest, seats).flatMap(([seat, need]) => memoryShortage(seat.node, need) ?? [])
}

function needsOf({ set, needs }: NearestSet, seats: readonly Seat[]): readonly (readonly [Seat, number])[] {
  const own = new Map(set.map((seat, i) => [seat, needs[i] ?? 0]))
  const least = Math.min(...needs)
  return seats.map((seat) => [seat, own.get(seat) ?? least] as const)
}

function unlinked({ demand }: Ground, { set }: NearestSet): readonly Refusal[] {
  const { transport } = demand.template.parallelism
  const names = set.map((s) => s.node.name).join(', ')
  const ipv6 = set.some((a) => a.node.links.some((link) => isIpv6(link) && set.some((b) => b.node.name === link.peer)))
  const why = ipv6 ? ' (some of them are joined by IPv6 alone, and MLX speaks IPv4)' : ''
  const message = `no link for transport ${transport} joins ${names}${why}`
  return set.map(({ node }) => ({ node: node.name, reason: 'NoLink', message }))
}
