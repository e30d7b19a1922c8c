/**
 * Has a rank of the current epoch failed, and which one failed first? What the survivors report afterwards (a lost
 * peer, an abort inside a collective) is secondary and never takes the first cause's place.
 */
import type { Shard } from '../api/shard.ts'
import { bytesToLoad } from '../api/shard.ts'
import type { FirstCause } from '../api/shardgroup.ts'
import { isBeingDeleted } from './actions.ts'
import { isReady } from './nodelife.ts'
import type { GroupScene } from './groupscene.ts'

/** After startByMs a rank that started has had this long to say so. */
const START_REPORT_MS = 8_000
/** The agent holds the same startup deadline; the group only steps in when the agent's own verdict does not come. */
const DEADLINE_MARGIN_MS = 30_000
const LOAD_BYTES_PER_MS = 200_000
const LOAD_BASE_MS = 120_000

/** bytes / 200 MB/s + 120 s, in ms (DESIGN §10a). */
export const startupDeadlineMs = (bytes: number): number => Math.ceil(bytes / LOAD_BYTES_PER_MS) + LOAD_BASE_MS

/** The first cause of a failure of the current epoch, or undefined while every rank is on its way or Ready. */
export function failureOf(scene: GroupScene): FirstCause | undefined {
  return firstExit(scene.current, scene.group.spec.epoch) ?? lostRank(scene) ?? lateRank(scene)
}

/** The exit that happened first, among ranks that ended though they were wanted. */
function firstExit(shards: readonly Shard[], epoch: number): FirstCause | undefined {
  const causes = shards
    .filter((s) => s.status?.phase === 'Failed' || s.status?.phase === 'Stopped')
    .map((s) => causeOfExit(s, epoch))
  return causes.sort(byPrecedence)[0]
}

const LEFT_BY_A_PEER =
  /connection to a peer was lost|Remote RPC server crashed|Failed to connect to|the other ranks? did not come/
const COULD_NOT_MEET = /Couldn.t connect/
const waitsForOthers = new Set(['EngineStalled', 'StartDeadline'])

/**
 * How likely an end is another rank's doing. 0: it failed on its own; 1: it may have waited for another one; 2: it says
 * that another one left it; 3: it was asked to stop. Clocks of two Macs differ by more than the time between a death
 * and what its neighbours say of it, so this counts before the time does.
 */
function remoteness({ reason, message, lastLogLines = [] }: FirstCause): number {
  if (reason === 'Stopped') return 3
  const text = [message, ...lastLogLines.slice(-5)].join('\n')
  if (LEFT_BY_A_PEER.test(text)) return 2
  return waitsForOthers.has(reason) || COULD_NOT_MEET.test(text) ? 1 : 0
}

const byPrecedence = (a: FirstCause, b: FirstCause): number =>
  remoteness(a) - remoteness(b) || a.atMs - b.atMs || a.rank - b.rank

/** Nothing points at another rank. */
export const isItsOwn = (cause: FirstCause): boolean => remoteness(cause) === 0

/** The cause of this Shard's end where it takes the place of the known first cause of the same epoch. */
export function earlierCause(shard: Shard, known: FirstCause | undefined): FirstCause | undefined {
  const { phase, exit } = shard.status ?? {}
  const ended = (phase === 'Failed' || phase === 'Stopped') && exit !== undefined
  if (!ended || known === undefined || known.epoch !== shard.spec.epoch) return undefined
  const cause = causeOfExit(shard, known.epoch)
  return byPrecedence(cause, known) < 0 ? cause : undefined
}

function causeOfExit(shard: Shard, epoch: number): FirstCause {
  const { exit, lastLogLines, phase } = shard.status ?? {}
  return {
    ...causeAt(
      shard,
      epoch,
      exit?.reason ?? `Shard${phase ?? 'Failed'}`,
      exit?.message ?? 'the rank ended without a reason',
      exit?.atMs ?? Infinity,
    ),
    ...(exit?.code === undefined ? {} : { code: exit.code }),
    ...(exit?.signal === undefined ? {} : { signal: exit.signal }),
    ...(lastLogLines === undefined ? {} : { lastLogLines }),
  }
}

/** A rank whose Shard was deleted, by a person or with its node. */
function lostRank({ group, current, nowMs }: GroupScene): FirstCause | undefined {
  const deleted = current.find(isBeingDeleted)
  if (deleted !== undefined) return causeAt(deleted, group.spec.epoch, 'ShardDeleted', 'the shard was deleted', nowMs)
  const missing = group.spec.members.find((m) => !current.some((s) => s.spec.rank === m.rank))
  if (missing === undefined) return undefined
  const { node, rank } = missing
  const shard = `${group.metadata.name}-e${group.spec.epoch}-${rank}`
  return {
    shard,
    node,
    rank,
    epoch: group.spec.epoch,
    reason: 'ShardGone',
    message: 'the shard was removed',
    atMs: nowMs,
  }
}

/** A rank on a reachable node that missed the start window or the startup deadline. */
function lateRank(scene: GroupScene): FirstCause | undefined {
  for (const { shard, deadlineMs, reason, message } of deadlines(scene))
    if (scene.nowMs >= deadlineMs) return causeAt(shard, scene.group.spec.epoch, reason, message, scene.nowMs)
  return undefined
}

interface Deadline {
  readonly shard: Shard
  readonly deadlineMs: number
  readonly reason: string
  readonly message: string
}

/** Silence of a node is judged by nodeLossSeconds, not by these. */
function deadlines({ current, nodeOf }: GroupScene): readonly Deadline[] {
  return current.flatMap((shard): Deadline[] => {
    const startByMs = shard.spec.rendezvous?.startByMs
    const phase = shard.status?.phase
    if (startByMs === undefined || phase === 'Ready' || !isReady(nodeOf(shard.spec.nodeName))) return []
    if (phase === 'Prepared' || phase === 'Pending' || phase === undefined) {
      const message = 'the rank did not start within the rendezvous window'
      return [{ shard, deadlineMs: startByMs + START_REPORT_MS, reason: 'StartWindowMissed', message }]
    }
    const allowedMs = startupDeadlineMs(bytesToLoad(shard, shard.spec.memoryBytes))
    const message = `the rank was not ready ${Math.round(allowedMs / 1000)} s after its start`
    return [{ shard, deadlineMs: startByMs + allowedMs + DEADLINE_MARGIN_MS, reason: 'StartDeadline', message }]
  })
}

/** When, in wall ms, time alone could make a rank late; undefined: never. */
export function nextDeadlineMs(scene: GroupScene): number | undefined {
  const times = deadlines(scene).map((d) => d.deadlineMs)
  return times.length === 0 ? undefined : Math.min(...times)
}

/**
 * Reports of two agents race. While the failed epoch's Shards still exist, one among them whose end comes before the
 * one that was taken for the first cause takes its place.
 */
export function refineCause({ group, older }: GroupScene): { firstCause?: FirstCause } {
  const known = group.status?.firstCause
  if (known === undefined) return {}
  const firstCause = older.reduce((first, shard) => earlierCause(shard, first) ?? first, known)
  return { firstCause }
}

function causeAt(shard: Shard, epoch: number, reason: string, message: string, atMs: number): FirstCause {
  const { nodeName: node, rank } = shard.spec
  return { shard: shard.metadata.name, node, rank, epoch, reason, message, atMs }
}

/** `rank 1 on mini-2 (epoch 3): EngineCrashed: killed by SIGKILL` */
export function describeCause(cause: FirstCause): string {
  const how =
    cause.signal !== undefined ? ` (${cause.signal})` : cause.code !== undefined ? ` (exit code ${cause.code})` : ''
  return `rank ${cause.rank} on ${cause.node}, epoch ${cause.epoch}: ${cause.reason}${how}: ${cause.message}`
}
