/**
 * Who measures which link now. One link of a node at a time, and none while engines live at either end: a measurement
 * takes the whole link for seconds, and would be wrong beside traffic. Pure.
 */
import { findCondition } from '../../api/conditions.ts'
import type { Node, NodeLink } from '../../api/node.ts'
import type { Shard, ShardPhase } from '../../api/shard.ts'
import type { LinkFigures, LinkMeasurement } from '../../api/links.ts'
import { isReady } from '../nodelife.ts'
import { internalAddress } from './match.ts'

export interface LinkEnds {
  readonly from: string
  readonly to: string
  readonly address: string
  readonly peerAddress: string
}

/** What is remembered of a link since the server started, by `endsKey`. */
export interface Tried {
  readonly atMs: number
  /** Measurements in a row that did not reach the peer. */
  readonly failures: number
}

export interface MeasureScene {
  readonly nodes: readonly Node[]
  readonly shards: readonly Shard[]
  readonly running: readonly LinkEnds[]
  readonly tried: ReadonlyMap<string, Tried>
  readonly nowMs: number
}

export interface MeasurePlan {
  readonly start: readonly (LinkEnds & { readonly port: number })[]
  /** Look again after so long although nothing changed; absent: nothing is due by time alone. */
  readonly waitMs?: number
}

/** Figures of a link that does not change are taken anew after so long. */
export const MEASURE_EVERY_MS = 24 * 3_600_000
/** After one that said nothing or did not reach the peer: twice as long each time, at most ten minutes. */
const RETRY_MS = 30_000
const RETRY_MAX_MS = 600_000
/** An agent that has just come looks for its engines first, and its machine is busy with that. */
const SETTLE_MS = 5_000
/** Once may be an agent that starts anew. */
const FAILURES_THAT_COUNT = 2

export const endsKey = ({ from, to, address, peerAddress }: LinkEnds): string =>
  `${from} ${to} ${address} ${peerAddress}`

export function planMeasurements(scene: MeasureScene): MeasurePlan {
  const { nodes, running, nowMs } = scene
  const busy = new Set([...running.flatMap(({ from, to }) => [from, to]), ...servingNodes(scene.shards)])
  // Never measured comes before measured long ago.
  const links = [...linksToMeasure(nodes)].sort((a, b) => measuredMs(a) - measuredMs(b))
  const start: (LinkEnds & { port: number })[] = []
  let nextMs = Infinity
  for (const candidate of links) {
    const { from, to, address, peerAddress, port } = candidate
    const at = dueMs(candidate, scene)
    if (at > nowMs) nextMs = Math.min(nextMs, at)
    if (at > nowMs || busy.has(from) || busy.has(to)) continue
    busy.add(from).add(to)
    start.push({ from, to, address, peerAddress, port })
  }
  return { start, ...(nextMs === Infinity ? {} : { waitMs: nextMs - nowMs }) }
}

/** Phases in which an engine, or a fetch of model files, may use a node's links. */
const quiet: readonly (ShardPhase | undefined)[] = ['Stopped', 'Failed', 'Pending', undefined]

const servingNodes = (shards: readonly Shard[]): readonly string[] =>
  shards.filter(({ status }) => !quiet.includes(status?.phase)).map(({ spec }) => spec.nodeName)

interface Candidate extends LinkEnds {
  readonly port: number
  readonly link: NodeLink
  /** When both ends have been there for a moment. */
  readonly settledMs: number
}

/** -Infinity: never. */
const measuredMs = ({ link }: Candidate): number =>
  link.measuredAt === undefined ? -Infinity : Date.parse(link.measuredAt)

/** Each link once, from the end whose name comes first, where both ends are Ready and have a measuring door. */
function linksToMeasure(nodes: readonly Node[]): readonly Candidate[] {
  const byName = new Map(nodes.map((node) => [node.metadata.name, node]))
  return nodes.flatMap((node) => {
    const from = node.metadata.name
    if (!isReady(node) || doorOf(node) === undefined) return []
    return (node.status?.links ?? []).flatMap((link): readonly Candidate[] => {
      const { peer: to, address, peerAddress, transport } = link
      const peer = byName.get(to)
      if (transport !== 'TCP' || address === undefined || peerAddress === undefined) return []
      if (from > to || peer === undefined || !isReady(peer)) return []
      const port = doorOf(peer)
      const settledMs = Math.max(readySinceMs(node), readySinceMs(peer)) + SETTLE_MS
      return port === undefined ? [] : [{ from, to, address, peerAddress, port, link, settledMs }]
    })
  })
}

/** Of an agent that measures nothing there is none. */
const doorOf = (node: Node): number | undefined =>
  internalAddress(node) === undefined ? undefined : node.status?.addresses?.find(({ type }) => type === 'Links')?.port

function readySinceMs({ status }: Node): number {
  const sinceMs = Date.parse(findCondition(status?.conditions, 'Ready')?.lastTransitionTime ?? '')
  return Number.isNaN(sinceMs) ? -Infinity : sinceMs
}

function dueMs(candidate: Candidate, { tried }: MeasureScene): number {
  const last = tried.get(endsKey(candidate))
  if (last === undefined) return Math.max(candidate.settledMs, measuredMs(candidate) + MEASURE_EVERY_MS)
  if (last.failures === 0) return last.atMs + MEASURE_EVERY_MS
  return last.atMs + Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** (last.failures - 1))
}

/** What is remembered after a measurement. Being busy is no failure of the link, but is waited out like one. */
export function afterMeasurement(before: Tried | undefined, { kind }: LinkMeasurement, nowMs: number): Tried {
  if (kind === 'Measured') return { atMs: nowMs, failures: 0 }
  return { atMs: nowMs, failures: kind === 'Failed' ? (before?.failures ?? 0) + 1 : Math.max(1, before?.failures ?? 0) }
}

/** A change under these is noise, and not written. */
const BANDWIDTH_SHARE = 0.15
const LATENCY_SHARE = 0.5
const LATENCY_MICROS = 200

/** The link with what was found, or the same object when that is nothing new. */
export function withMeasurement(link: NodeLink, found: LinkMeasurement, tried: Tried, measuredAt: string): NodeLink {
  const { failure, ...plain } = link
  if (found.kind === 'Measured')
    return failure === undefined && isNoise(link, found) ? link : { ...plain, ...figuresOf(found), measuredAt }
  if (found.kind === 'NotDone' || tried.failures < FAILURES_THAT_COUNT || failure !== undefined) return link
  return { ...link, failure: found.message.slice(0, 1000) }
}

const figuresOf = ({ bytesPerSecond, latencyMicros }: LinkFigures) => ({
  bandwidthGBps: Number((bytesPerSecond / 1e9).toPrecision(3)),
  latencyMicros: Math.round(latencyMicros),
})

function isNoise({ bandwidthGBps, latencyMicros }: NodeLink, found: LinkFigures): boolean {
  if (bandwidthGBps === undefined || latencyMicros === undefined) return false
  const bandwidth = Math.abs(found.bytesPerSecond / 1e9 - bandwidthGBps) / bandwidthGBps
  const latency = Math.abs(found.latencyMicros - latencyMicros)
  return bandwidth <= BANDWIDTH_SHARE && latency <= Math.max(LATENCY_MICROS, LATENCY_SHARE * latencyMicros)
}
