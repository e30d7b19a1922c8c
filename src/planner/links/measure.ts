/**
 * Who measures which link now, and whether through the engine, too. One link of a node at a time, and none while engines
 * live at either end: a measurement takes the whole link for seconds, and would be wrong beside traffic. Pure.
 */
import { findCondition } from '../../api/conditions.ts'
import type { Node, NodeLink } from '../../api/node.ts'
import type { Shard, ShardPhase } from '../../api/shard.ts'
import type { ShardGroup } from '../../api/shardgroup.ts'
import type { LinkMeasurement } from '../../api/links.ts'
import { isReady } from '../nodelife.ts'
import type { EnginePart } from './engine.ts'
import { boundNodes, enginePart } from './engine.ts'
import { internalAddress } from './match.ts'

export interface LinkEnds {
  readonly from: string
  readonly to: string
  readonly address: string
  readonly peerAddress: string
}

/** What is remembered of a link since the server started, by `triedKey`. */
export interface Tried {
  readonly atMs: number
  /** Measurements in a row that did not reach the peer, or did not say all that was asked. */
  readonly failures: number
}

export interface MeasureScene {
  readonly nodes: readonly Node[]
  readonly shards: readonly Shard[]
  readonly groups: readonly ShardGroup[]
  readonly running: readonly LinkEnds[]
  readonly tried: ReadonlyMap<string, Tried>
  readonly nowMs: number
}

export interface Start extends LinkEnds {
  readonly port: number
  readonly engine: EnginePart
}

export interface MeasurePlan {
  readonly start: readonly Start[]
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
/** An engine that fails on a link so often in a row is asked again with the next measurement. */
const ENGINE_TRIES = 3

export const endsKey = ({ from, to, address, peerAddress }: LinkEnds): string =>
  `${from} ${to} ${address} ${peerAddress}`

/** With the engine it is another measurement: what was tried without says nothing of it. */
export const triedKey = ({ engine, ...ends }: LinkEnds & Pick<Start, 'engine'>): string =>
  engine.kind === 'Wanted' ? `${endsKey(ends)} engine` : endsKey(ends)

export function planMeasurements(scene: MeasureScene): MeasurePlan {
  const { running, nowMs } = scene
  const busy = new Set([...running.flatMap(({ from, to }) => [from, to]), ...servingNodes(scene.shards)])
  // Never measured comes before measured long ago.
  const links = [...linksToMeasure(scene)].sort((a, b) => measuredMs(a) - measuredMs(b))
  const start: Start[] = []
  let nextMs = Infinity
  for (const candidate of links) {
    const { from, to, address, peerAddress, port, engine } = candidate
    const at = dueMs(candidate, scene)
    if (at > nowMs) nextMs = Math.min(nextMs, at)
    if (at > nowMs || busy.has(from) || busy.has(to)) continue
    busy.add(from).add(to)
    start.push({ from, to, address, peerAddress, port, engine })
  }
  return { start, ...(nextMs === Infinity ? {} : { waitMs: nextMs - nowMs }) }
}

/** Phases in which an engine, or a fetch of model files, may use a node's links. */
const quiet: readonly (ShardPhase | undefined)[] = ['Stopped', 'Failed', 'Pending', undefined]

const servingNodes = (shards: readonly Shard[]): readonly string[] =>
  shards.filter(({ status }) => !quiet.includes(status?.phase)).map(({ spec }) => spec.nodeName)

interface Candidate extends Start {
  readonly link: NodeLink
  /** When both ends have been there for a moment. */
  readonly settledMs: number
}

/** -Infinity: never. */
const measuredMs = ({ link }: Candidate): number =>
  link.measuredAt === undefined ? -Infinity : Date.parse(link.measuredAt)

/** Each link once, from the end whose name comes first, where both ends are Ready and have a measuring door. */
function linksToMeasure({ nodes, shards, groups }: MeasureScene): readonly Candidate[] {
  const byName = new Map(nodes.map((node) => [node.metadata.name, node]))
  const bound = boundNodes(shards, groups)
  return nodes.flatMap((node) => {
    const from = node.metadata.name
    if (!isReady(node) || doorOf(node) === undefined) return []
    return (node.status?.links ?? []).flatMap((link): readonly Candidate[] => {
      const { peer: to, address, peerAddress, transport } = link
      const peer = byName.get(to)
      if (transport !== 'TCP' || address === undefined || peerAddress === undefined) return []
      // Of IPv6's link-local ones: nothing runs over them.
      if (address.includes('%')) return []
      if (from > to || peer === undefined || !isReady(peer)) return []
      const port = doorOf(peer)
      const settledMs = Math.max(readySinceMs(node), readySinceMs(peer)) + SETTLE_MS
      const engine = enginePart(node, peer, bound)
      return port === undefined ? [] : [{ from, to, address, peerAddress, port, engine, link, settledMs }]
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
  const { settledMs, engine, link } = candidate
  const last = tried.get(triedKey(candidate))
  if (last === undefined && engine.kind === 'Wanted' && link.allReduceMicros === undefined) return settledMs
  if (last === undefined) return Math.max(settledMs, measuredMs(candidate) + MEASURE_EVERY_MS)
  if (last.failures === 0) return last.atMs + MEASURE_EVERY_MS
  return last.atMs + Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** (last.failures - 1))
}

/** What is remembered after a measurement. Being busy is no failure of the link, but is waited out like one. */
export function afterMeasurement(before: Tried | undefined, found: LinkMeasurement, nowMs: number): Tried {
  const failures = before?.failures ?? 0
  if (found.kind === 'Failed') return { atMs: nowMs, failures: failures + 1 }
  if (found.kind === 'NotDone') return { atMs: nowMs, failures: Math.max(1, failures) }
  const { engine } = found
  const again = engine?.kind === 'NotDone' || (engine?.kind === 'Failed' && failures + 1 < ENGINE_TRIES)
  return { atMs: nowMs, failures: again ? failures + 1 : 0 }
}
