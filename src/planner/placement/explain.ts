/** The sentences of a plan: why this candidate, and why not the others. */
import type { GroupStrategy } from '../../api/words.ts'
import { formatBytes } from '../../lib/quantity.ts'
import { busyShares } from '../cost.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Attempt } from './attempt.ts'
import type { Candidate } from './candidates.ts'
import { isKnown, predictAnyway } from './candidates.ts'
import { refusalSummary } from './filter.ts'
import { EXACT_NODES } from './seats.ts'
import type { Alternative, Demand, NodeView } from './types.ts'

export function whyOf(
  demand: Demand,
  nodes: readonly NodeView[],
  attempts: readonly Attempt[],
  best: Candidate,
): string[] {
  const { serving } = demand.template
  const why = [best.degree === 1 ? whereWhole(best) : whereCut(best)]
  const smaller = attempts.find((a) => a.degree === 1)
  if (best.degree > 1 && smaller?.kind === 'Refused')
    why.push(`one node is not enough: ${refusalSummary(smaller.refusals())}`)
  if (isKnown(best)) {
    const { decodeTokensPerSecond, aggregateTokensPerSecond } = best.predicted
    const context = `with ${serving.contextTokens} tokens in the cache`
    why.push(
      `predicted ${rate(decodeTokensPerSecond)} for one stream ${context}, ${rate(aggregateTokensPerSecond)} with ${serving.concurrency} in flight`,
    )
  } else {
    const unknown = best.seats
      .filter((s) => !s.speed.known)
      .map((s) => `${s.node.name} (${s.node.nodeInfo.chip || 'no chip reported'})`)
    why.push(`speed is not predicted: the chip of ${unknown.join(', ')} is not in the table`)
  }
  const busy = busyText(demand, best)
  if (busy !== undefined) why.push(busy)
  if (best.ring?.assumed === true) why.push('some of its nodes report no links: 1 GbE is assumed between them')
  if (best.siblings > 0) why.push('shares a node with another replica: no other node fits')
  if (best.degree > 1 && nodes.length > EXACT_NODES)
    why.push(`searched among the ${EXACT_NODES} most promising of ${nodes.length} nodes and their Thunderbolt islands`)
  return why
}

const rate = (tokensPerSecond: number) => `${Number(tokensPerSecond.toPrecision(3))} tokens/s`

function whereWhole({ seats, needs, engine }: Candidate): string {
  const [seat] = seats
  const need = needs.reduce((sum, n) => sum + memoryBytesOf(n), 0)
  return `${seat?.node.name ?? ''} holds the whole model: ${formatBytes(need)} of ${formatBytes(seat?.budgetBytes ?? 0)} free, engine ${engine}`
}

function whereCut({ strategy, degree, seats, ring, transport, engine }: Candidate): string {
  const names = seats.map((s) => s.node.name).join(', ')
  return `${strategy} of ${degree} on ${names}, engine ${engine}, ${transport} over ${ring?.linkNames.join(', ') ?? ''}`
}

/** A pipeline works on one stage at a time for one stream: said, for it surprises people who watch their GPUs. */
function busyText({ shape, template }: Demand, { layout, engine }: Candidate): string | undefined {
  if (layout.strategy !== 'Pipeline' || layout.stages.some((s) => !s.node.known)) return undefined
  const shares = busyShares({ shape, engine, ...template.serving }, layout).map((s) => Math.round(s * 100))
  const [low, high] = [Math.min(...shares), Math.max(...shares)]
  const fraction = ['half', 'a third', 'a quarter'][shares.length - 2]
  const even = high - low <= 5
  const percent = low === high ? `${low} %` : `${low} to ${high} %`
  const part = even && fraction !== undefined ? `about ${fraction} of the time (${percent})` : `${percent} of the time`
  return `with one stream each GPU is busy ${part}: a pipeline works on one stage at a time`
}

/** Attempts that were not chosen, each with its reason. `asked`: strategies that the deployment allows. */
export function alternativesOf(
  attempts: readonly Attempt[],
  asked: readonly GroupStrategy[],
  best: Candidate | undefined,
): readonly Alternative[] {
  const seen = new Set(best === undefined ? [] : [`${best.strategy} ${best.degree}`])
  const alternatives: Alternative[] = []
  for (const a of attempts) {
    const key = `${a.strategy} ${a.degree}`
    if (seen.has(key)) continue
    seen.add(key)
    alternatives.push(alternativeOf(a, asked, best))
  }
  return alternatives
}

function alternativeOf(attempt: Attempt, asked: readonly GroupStrategy[], best: Candidate | undefined): Alternative {
  const { demand } = attempt.ground
  const { strategy, degree } = attempt
  const found = attempt.kind === 'Fits' ? attempt.best : undefined
  const predicted =
    found === undefined ? predictAnyway(attempt.ground, attempt) : isKnown(found) ? found.predicted : undefined
  const speed = predicted?.decodeTokensPerSecond
  const reasons = [
    attempt.kind === 'Refused' ? refusalSummary(attempt.refusals()) : undefined,
    speed === undefined ? undefined : `predicted ${rate(speed)}${comparison(speed, best)}`,
    best !== undefined && degree > best.degree
      ? `takes ${degree} nodes where ${best.degree} ${best.degree === 1 ? 'is' : 'are'} enough`
      : undefined,
    asked.includes(strategy) ? undefined : `not asked for (strategy: ${demand.template.parallelism.strategy})`,
    found === undefined ? undefined : busyText(demand, found),
  ]
  return {
    strategy,
    degree,
    schedulable: found !== undefined,
    ...(speed === undefined ? {} : { decodeTokensPerSecond: speed }),
    reason: reasons.filter((r) => r !== undefined).join('; '),
  }
}

/** `, 32 % slower` than the chosen one. */
function comparison(tokensPerSecond: number, best: Candidate | undefined): string {
  if (best === undefined || !isKnown(best)) return ''
  const percent = Math.round((tokensPerSecond / best.predicted.decodeTokensPerSecond - 1) * 100)
  if (percent === 0) return ', as fast'
  return percent < 0 ? `, ${-percent} % slower` : `, ${percent} % faster`
}
