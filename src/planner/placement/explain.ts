/** The sentences of a plan: why this candidate, and why not the others. */
import type { GroupStrategy } from '../../api/words.ts'
import { counted } from '../../lib/counted.ts'
import { formatBytes } from '../../lib/quantity.ts'
import { busyShares, chipOfClass } from '../cost.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Attempt } from './attempt.ts'
import type { Candidate, Cut } from './candidates.ts'
import { forecastOf, isKnown, predictAnyway } from './candidates.ts'
import type { Choice } from './choose.ts'
import { GAIN_TO_MOVE, cutKey } from './choose.ts'
import { EXACT_NODES } from './seats.ts'
import type { Trial } from './trial.ts'
import type { Alternative, Demand, NodeView, SearchGap } from './types.ts'

export function whyOf(
  demand: Demand,
  nodes: readonly NodeView[],
  whole: Trial | undefined,
  { best, passedOver }: Choice,
  search: SearchGap | undefined,
): string[] {
  const why = [best.degree === 1 ? whereWhole(best) : whereCut(best)]
  const one = best.degree > 1 ? whole?.made() : undefined
  if (one?.kind === 'Refused') why.push(`one node is not enough: ${one.summary()}`)
  why.push(...(isKnown(best) ? speedTexts(demand, best) : [unknownText(best)]))
  if (passedOver !== undefined) {
    const { candidate, gain } = passedOver
    const elsewhere = `${candidate.strategy} ${candidate.degree} on ${namesOf(candidate)}`
    why.push(
      `stays where it is: ${elsewhere} would gain ${(Math.floor(gain * 1000) / 10).toFixed(1)} %, less than ${percent(GAIN_TO_MOVE - 1)}`,
    )
  }
  const busy = busyText(demand, best)
  if (busy !== undefined) why.push(busy)
  if (best.ring?.link.basis === 'Assumed') why.push('some of its nodes report no links: 1 GbE is assumed between them')
  if (best.siblings > 0) why.push('shares a node with another replica: no other node fits')
  if (search !== undefined && best.degree > 1) why.push(searchText(demand, nodes, search))
  return why
}

function speedTexts({ template, observed }: Demand, best: Candidate): string[] {
  const { decodeTokensPerSecond, aggregateTokensPerSecond, uncertainty = 0 } = best.predicted
  const { contextTokens, concurrency } = template.serving
  const texts = [
    `predicted ${rate(decodeTokensPerSecond)} for one stream with ${contextTokens} tokens in the cache, ` +
      `${rate(aggregateTokensPerSecond)} with ${concurrency} in flight, ± ${percent(uncertainty)}`,
  ]
  const classes = best.seats.filter((s) => s.speed.basis === 'Class')
  if (classes.length > 0) {
    const [first] = classes
    const chip = first?.node.nodeInfo.chip ?? ''
    texts.push(`${chip} is not in the table: it is taken for an ${chipOfClass(chip) ?? ''}, the nearest of its class`)
  }
  if (observed !== undefined && best.samples > 0)
    texts.push(`corrected by ${counted(best.samples, 'observation')} of ${best.strategy} over ${best.linkClass}`)
  return texts
}

function unknownText({ seats }: Candidate): string {
  const unknown = seats
    .filter((s) => !s.speed.known)
    .map((s) => `${s.node.name} (${s.node.nodeInfo.chip || 'no chip reported'})`)
  return `speed is not predicted: the chip of ${unknown.join(', ')} is not in the table`
}

function searchText(
  { template }: Demand,
  nodes: readonly NodeView[],
  { boundTokensPerSecond, gap }: SearchGap,
): string {
  const among = `searched among the ${EXACT_NODES} most promising of ${nodes.length} nodes and their Thunderbolt islands`
  const what = template.parallelism.objective === 'Latency' ? '' : ' at full load'
  return `${among}; no plan can reach more than ${rate(boundTokensPerSecond)}${what}, ${percent(gap)} above this one`
}

const percent = (share: number) => `${Math.round(share * 100)} %`
const namesOf = ({ seats }: Pick<Candidate, 'seats'>) => seats.map((s) => s.node.name).join(', ')
const rate = (tokensPerSecond: number) => `${Number(tokensPerSecond.toPrecision(3))} tokens/s`

function whereWhole({ seats, needs, engine }: Candidate): string {
  const [seat] = seats
  const need = needs.reduce((sum, n) => sum + memoryBytesOf(n), 0)
  return `${seat?.node.name ?? ''} holds the whole model: ${formatBytes(need)} of ${formatBytes(seat?.budgetBytes ?? 0)} free, engine ${engine}`
}

function whereCut({ strategy, degree, seats, ring, transport, engine }: Candidate): string {
  return `${strategy} of ${degree} on ${namesOf({ seats })}, engine ${engine}, ${transport} over ${ring?.linkNames.join(', ') ?? ''}`
}

/** A pipeline works on one stage at a time for one stream: said, for it surprises people who watch their GPUs. */
function busyText(
  { shape, template }: Demand,
  { layout, engine }: Pick<Candidate, 'layout' | 'engine'>,
): string | undefined {
  if (layout.strategy !== 'Pipeline' || layout.stages.some((s) => !s.node.known)) return undefined
  const shares = busyShares({ shape, engine, ...template.serving }, layout).map((s) => Math.round(s * 100))
  const [low, high] = [Math.min(...shares), Math.max(...shares)]
  const fraction = ['half', 'a third', 'a quarter'][shares.length - 2]
  const even = high - low <= 5
  const percent = low === high ? `${low} %` : `${low} to ${high} %`
  const part = even && fraction !== undefined ? `about ${fraction} of the time (${percent})` : `${percent} of the time`
  return `with one stream each GPU is busy ${part}: a pipeline works on one stage at a time`
}

/**
 * Cuts that were not chosen, each with its reason; of a cut that several engines were tried with, the best. `asked`:
 * strategies that the deployment allows.
 */
export function alternativesOf(
  attempts: readonly Attempt[],
  asked: readonly GroupStrategy[],
  choice: Choice | undefined,
): readonly Alternative[] {
  const byCut = new Map<string, Attempt>()
  for (const a of attempts) {
    const known = byCut.get(cutKey(a))
    if (known === undefined || isBetter(a, known)) byCut.set(cutKey(a), a)
  }
  if (choice !== undefined) byCut.delete(cutKey(choice.best))
  return [...byCut.values()].map((a) => alternativeOf(a, asked, choice))
}

const isBetter = (a: Attempt, known: Attempt): boolean =>
  a.kind === 'Fits' && (known.kind === 'Refused' || a.draft.score > known.draft.score)

function alternativeOf(attempt: Attempt, asked: readonly GroupStrategy[], choice: Choice | undefined): Alternative {
  const { demand } = attempt.ground
  const { strategy, degree } = attempt
  const best = choice?.best
  const found = attempt.kind === 'Fits' ? attempt.draft : undefined
  const forecast = found === undefined ? undefined : forecastOf(attempt.ground, found)
  const predicted =
    found === undefined ? predictAnyway(attempt.ground, attempt) : isKnown(found) ? forecast?.predicted : undefined
  const { homeless, share } = together(choice, attempt)
  const alone = predicted?.decodeTokensPerSecond
  const speed = alone === undefined ? undefined : alone / share
  const saturated = predicted?.saturatedTokensPerSecond
  const reasons = [
    attempt.kind === 'Refused' ? attempt.summary() : undefined,
    homeless,
    speed === undefined ? undefined : `predicted ${rate(speed)}${comparison(speed, best)}`,
    alone === undefined || share === 1
      ? undefined
      : `its replicas would share nodes: ${rate(alone)} alone, ${rate(alone / share)} with all at work`,
    best !== undefined && degree > best.degree
      ? `takes ${degree} nodes where ${best.degree} ${best.degree === 1 ? 'is' : 'are'} enough`
      : undefined,
    found !== undefined && best !== undefined && found.siblings > best.siblings
      ? 'shares a node with another replica'
      : undefined,
    asked.includes(strategy) ? undefined : `not asked for (strategy: ${demand.template.parallelism.strategy})`,
    forecast === undefined ? undefined : busyText(demand, { layout: forecast.layout, engine: attempt.ground.engine }),
  ]
  return {
    strategy,
    degree,
    schedulable: found !== undefined && homeless === undefined,
    ...(speed === undefined ? {} : { decodeTokensPerSecond: speed }),
    ...(saturated === undefined ? {} : { saturatedTokensPerSecond: saturated / share }),
    reason: reasons.filter((r) => r !== undefined).join('; '),
  }
}

/** What all replicas of the deployment would have of a cut, next to the chosen one. */
function together(choice: Choice | undefined, cut: Cut): { readonly homeless?: string; readonly share: number } {
  const own = choice?.outlooks?.get(cutKey(cut))
  const chosen = choice === undefined ? undefined : choice.outlooks?.get(cutKey(choice.best))
  if (own === undefined || chosen === undefined) return { share: 1 }
  const share = Math.max(1, own.share / chosen.share)
  if (own.placed >= chosen.placed) return { share }
  return { share, homeless: `only ${own.placed} of ${own.wanted} replicas would find a place` }
}

/** `, 32 % slower` than the chosen one. */
function comparison(tokensPerSecond: number, best: Candidate | undefined): string {
  if (best === undefined || !isKnown(best)) return ''
  const percent = Math.round((tokensPerSecond / best.predicted.decodeTokensPerSecond - 1) * 100)
  if (percent === 0) return ', as fast'
  return percent < 0 ? `, ${-percent} % slower` : `, ${percent} % faster`
}
