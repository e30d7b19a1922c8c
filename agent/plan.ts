/**
 * What this node does next, decided from what is wanted, what is true here, and the time: pure, level-based, repeated
 * after every change. `executors/` carry the actions out and make no choices.
 */
import type { Shard, ShardExit } from '../src/api/shard.ts'
import type { Action, ActionKind, Step, StopLimits, StopReason, Wait } from './actions.ts'
import { KILL, PLANNED_STOP, STOP_AFTER_FAILURE, fail, isWait, ofShard, stopWithin, waitFor } from './actions.ts'
import type { FetchState } from './fetch/fetcher.ts'
import { wantedModel } from './fetch/needed.ts'
import { findModel } from './findmodel.ts'
import type { LocalShard } from './hosts.ts'
import type { LocalModel } from './models.ts'
import { CRITICAL_MS, leastImportant } from './pressure.ts'

/** What the agent's memory knows of shards beyond hosts and list; lost with the agent, and then found out anew. */
export interface ShardNotes {
  /** Why a shard can never run here, until its next epoch is another shard. */
  readonly failures: ReadonlyMap<string, ShardExit>
  /** Stops that were asked for. */
  readonly stopsAsked: ReadonlyMap<string, StopLimits>
  /** Starts that succeeded; the host may not have spoken yet. */
  readonly started: ReadonlySet<string>
  /** Shards that an executor works on right now. */
  readonly busy: ReadonlySet<string>
}

export interface NodeObservation extends ShardNotes {
  /** The cluster that this agent obeys; '' before it ever met one. */
  readonly clusterUid: string
  readonly local: readonly LocalShard[]
  /** undefined: the first scan of the models folder has not ended. */
  readonly models: readonly LocalModel[] | undefined
  /** How far the models of shards are that have to be fetched; undefined: this agent fetches none. */
  readonly fetches?: ReadonlyMap<string, FetchState>
  /** The server's clock as this node reckons it; undefined before the first Welcome. */
  readonly serverNowMs: number | undefined
  /** How long the machine has been critically short of memory. Absent: it is not. */
  readonly criticalForMs?: number
}

export interface NodePlan {
  readonly actions: readonly Action[]
  readonly waits: readonly Wait[]
  /** The list was read, and nothing of this cluster is alive that is not in it: the node may be Ready. */
  readonly fenced: boolean
}

/** The group's controller may say on a Shard that it deletes why it does: `GroupFailed` shortens the stop. */
export const STOP_REASON_ANNOTATION = 'mctl.dev/stop-reason'

/** A process of this shard lives, or was started and has not spoken yet. */
export function isAlive(local: LocalShard, started: ReadonlySet<string>): boolean {
  if (local.lost === true) return false
  if (local.state !== undefined) return local.state.phase !== 'Exited'
  return local.started === true || started.has(local.shardUid)
}

/**
 * The next actions of this node, stops first. `desired` is the full list of own shards, or undefined as long as it was
 * never read to its end: then nothing is stopped or started. Times: `nowMs` is the agent's clock and only stamps exits.
 */
export function planNode(desired: readonly Shard[] | undefined, observation: NodeObservation, nowMs: number): NodePlan {
  if (desired === undefined) {
    const waits = observation.local.map((l) => waitFor(l, 'ListNotRead', 'the list of own shards was not read yet'))
    return { actions: [], waits, fenced: false }
  }

  const wanted = new Map(desired.map((shard) => [shard.metadata.uid, shard]))
  const localByUid = new Map(observation.local.map((local) => [local.shardUid, local]))
  const strangers = observation.local.filter((local) => !wanted.has(local.shardUid))
  const victim = planPressure(desired, observation, nowMs)
  const steps = [
    victim,
    ...strangers.map((local) => planStranger(local, observation)),
    // Newer epochs first: of two epochs of one group that could start in this pass, the newer one does.
    ...[...desired]
      .sort((a, b) => b.spec.epoch - a.spec.epoch || compare(a.metadata.name, b.metadata.name))
      .map((shard) => planShard({ shard, local: localByUid.get(shard.metadata.uid), desired, observation, nowMs })),
  ].filter((step) => step !== undefined)

  const unfenced = strangers.find((local) => isAlive(local, observation.started) && isOurs(local, observation))
  const held = unfenced === undefined ? steps : steps.map((step) => holdBack(step, unfenced))
  const { actions, waits } = holdBackRivals(held, desired, observation)
  return { actions: inOrder(actions), waits, fenced: unfenced === undefined }
}

/** Memory has been critical for too long: the least important group that lives here goes, one after the other. */
function planPressure(desired: readonly Shard[], observation: NodeObservation, nowMs: number): Step | undefined {
  const { criticalForMs = 0, failures, started, local } = observation
  if (criticalForMs < CRITICAL_MS) return undefined
  const alive = new Set(local.filter((l) => isAlive(l, started)).map((l) => l.shardUid))
  const stopping = local.some(
    (l) => alive.has(l.shardUid) && (l.state?.phase === 'Stopping' || failures.has(l.shardUid)),
  )
  const victim = leastImportant(desired.filter(({ metadata }) => alive.has(metadata.uid)))
  if (victim === undefined || stopping || victim.metadata.deletionTimestamp !== undefined) return undefined
  const seconds = Math.round(criticalForMs / 1000)
  const message = `the machine was critically short of memory for ${seconds} s; of the shards here this one matters least`
  return fail(victim, 'MemoryPressure', message, nowMs)
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const isOurs = (local: LocalShard, { clusterUid }: NodeObservation): boolean => local.clusterUid === clusterUid

const order: readonly ActionKind[] = [
  'stopShard',
  'failShard',
  'forgetShard',
  'startShard',
  'prepareShard',
  'fetchModel',
]
const inOrder = (actions: readonly Action[]): readonly Action[] =>
  [...actions].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))

/** The fence: what is not in the list ends and is forgotten; what belongs to another cluster is not ours to touch. */
function planStranger(local: LocalShard, observation: NodeObservation): Step | undefined {
  if (!isOurs(local, observation))
    return waitFor(local, 'ForeignShard', `the shard belongs to another cluster (${local.clusterUid})`)
  if (isAlive(local, observation.started)) return stop(local, PLANNED_STOP, 'NotInList', observation)
  if (observation.busy.has(local.shardUid)) return waitFor(local, 'Busy', 'an action on it has not ended')
  return { kind: 'forgetShard', shardUid: local.shardUid, shardName: local.shardName }
}

/**
 * Nothing new comes to life beside a process that the server does not know any more (it was restored from a backup, or
 * the Node was deleted): it counts that one's bytes as free. Held at prepare, so that no rendezvous is missed.
 */
function holdBack(step: Step, stranger: LocalShard): Step {
  if (isWait(step) || (step.kind !== 'prepareShard' && step.kind !== 'startShard')) return step
  return waitFor(
    ofShard(step.shard),
    'NotFenced',
    `${stranger.shardName}, which is not in the list, has not ended here`,
  )
}

interface ShardInput {
  readonly shard: Shard
  readonly local: LocalShard | undefined
  readonly desired: readonly Shard[]
  readonly observation: NodeObservation
  readonly nowMs: number
}

/** One wanted shard: stop it, give it up, prepare it, start it, or leave it as it is. */
function planShard(input: ShardInput): Step | undefined {
  const { shard, local, observation } = input
  const alive = local !== undefined && isAlive(local, observation.started)
  if (shard.metadata.deletionTimestamp !== undefined) {
    if (!alive) return undefined
    return groupFailed(input)
      ? stop(local, STOP_AFTER_FAILURE, 'GroupFailed', observation)
      : stop(local, stopWithin(shard.metadata.deletionGracePeriodSeconds), 'Deleted', observation)
  }
  if (isOver(shard, observation)) {
    const silent = observation.failures.get(shard.metadata.uid)?.reason === 'ShardhostSilent'
    return alive ? stop(local, silent ? KILL : STOP_AFTER_FAILURE, 'ShardFailed', observation) : undefined
  }
  const verdict = alive ? verdictOf(local) : undefined
  if (verdict !== undefined)
    return fail(shard, verdict.reason, `${verdict.message}, its process is killed`, input.nowMs)
  if (alive || local?.state !== undefined || local?.lost === true) return undefined
  if (observation.busy.has(shard.metadata.uid)) return waitFor(ofShard(shard), 'Busy', 'an action on it has not ended')
  return local === undefined ? planPrepare(input) : planStart(input)
}

/** A host that answers no ping is stopped with its engine: its door takes requests and answers none. */
export const HOST_SILENT_SECONDS = 30
/** What a host that tells no verdict of its own (of an older release) is judged by. */
const STALL_LIMIT_SECONDS = 60

/** Why a living shard should not be kept; the gang would wait for it for ever. */
function verdictOf({ state, silentSeconds = 0 }: LocalShard): { reason: string; message: string } | undefined {
  if (state === undefined || state.phase === 'Stopping' || state.phase === 'Exited') return undefined
  if (silentSeconds > HOST_SILENT_SECONDS) {
    const message = `the shardhost answered nothing for ${silentSeconds} s (limit ${HOST_SILENT_SECONDS} s)`
    return { reason: 'ShardhostSilent', message }
  }
  if (state.unwell !== undefined) return state.unwell
  const age = Math.round(state.progressAgeSeconds ?? 0)
  return state.phase === 'Ready' && age > STALL_LIMIT_SECONDS
    ? { reason: 'EngineStalled', message: `the engine made no step for ${age} s (limit ${STALL_LIMIT_SECONDS} s)` }
    : undefined
}

/** A shard that failed is never restarted in place: its group re-forms, and the next epoch is another shard. */
const isOver = (shard: Shard, { failures }: NodeObservation): boolean =>
  failures.has(shard.metadata.uid) || shard.status?.phase === 'Failed' || shard.status?.phase === 'Stopped'

function planPrepare({ shard, observation, nowMs }: ShardInput): Step {
  const phase = shard.status?.phase ?? 'Pending'
  if (phase !== 'Pending' && phase !== 'Fetching')
    return fail(
      shard,
      'ShardhostLost',
      `the shard was ${phase}, and this node holds no process and no handle of it`,
      nowMs,
    )
  const { fetches } = observation
  if (fetches !== undefined && wantedModel(shard) !== undefined)
    return planFetched(shard, fetches.get(shard.metadata.uid), nowMs)
  const model = findModel(shard, observation.models)
  if (model.kind === 'Unknown') return waitFor(ofShard(shard), 'ModelsNotScanned', 'the models folder is being read')
  if (model.kind === 'Refused') return fail(shard, model.reason, model.message, nowMs)
  return { kind: 'prepareShard', shard, modelDir: model.dir }
}

/** A model that is fetched is prepared only when every file that the rank needs was verified here. */
function planFetched(shard: Shard, fetch: FetchState | undefined, nowMs: number): Step {
  if (fetch === undefined) return { kind: 'fetchModel', shard }
  switch (fetch.kind) {
    case 'Done':
      return { kind: 'prepareShard', shard, modelDir: fetch.dir }
    case 'Failed':
      return fail(shard, fetch.reason, fetch.message, nowMs)
    case 'Fetching':
    case 'DiskFull': {
      const message = fetch.kind === 'DiskFull' ? fetch.message : 'the files of the model are being fetched'
      const wait = waitFor(ofShard(shard), fetch.kind, message)
      return fetch.progress === undefined ? wait : { ...wait, progress: fetch.progress }
    }
  }
}

function planStart({ shard, observation, nowMs }: ShardInput): Step {
  const phase = shard.status?.phase ?? 'Pending'
  if (phase === 'Starting' || phase === 'Loading' || phase === 'Ready' || phase === 'Stopping')
    return fail(shard, 'ShardhostLost', `the shard was ${phase}, and its shardhost is gone without a trace`, nowMs)
  const { rendezvous } = shard.spec
  if (rendezvous === null) return waitFor(ofShard(shard), 'Rendezvous', 'not every rank of the group is Prepared')
  const { serverNowMs } = observation
  if (serverNowMs === undefined) return waitFor(ofShard(shard), 'ServerTimeUnknown', 'the server has not told its time')
  const lateMs = serverNowMs - rendezvous.startByMs
  if (lateMs > 0)
    return fail(
      shard,
      'StartWindowMissed',
      `the rank had to start ${Math.ceil(lateMs)} ms earlier (server time)`,
      nowMs,
    )
  return { kind: 'startShard', shard }
}

/** Is the shard deleted because its group failed? The controller says so, or a rank on this node did. */
function groupFailed({ shard, desired, observation }: ShardInput): boolean {
  if (shard.metadata.annotations?.[STOP_REASON_ANNOTATION] === 'GroupFailed') return true
  const ranks = desired.filter((s) => groupOf(s) === groupOf(shard) && s.spec.epoch === shard.spec.epoch)
  return ranks.some((s) => s.status?.phase === 'Failed' || observation.failures.has(s.metadata.uid))
}

/** A stop is asked for once, and again only with less time. */
function stop(local: LocalShard, limits: StopLimits, reason: StopReason, observation: NodeObservation): Step {
  const asked = observation.stopsAsked.get(local.shardUid)
  const underway = asked === undefined ? local.state?.phase === 'Stopping' : totalMs(asked) <= totalMs(limits)
  return underway
    ? waitFor(local, 'Stopping', 'the engine is stopping')
    : { kind: 'stopShard', shardUid: local.shardUid, shardName: local.shardName, limits, reason }
}

const totalMs = ({ drainMs, graceMs }: StopLimits): number => drainMs + graceMs

const groupOf = (shard: Shard): string => `${shard.metadata.namespace ?? ''}/${shard.spec.group}`

/** `<group>-e<epoch>-<rank>`: all that a shard which is no longer in the list tells about itself. */
const namePattern = /^(?<group>.+)-e(?<epoch>\d+)-\d+$/

/**
 * Never two epochs of a group alive on one node: a start waits while another epoch of its group lives here or is being
 * started. `steps` come newest epoch first, so the newer of two startable epochs wins.
 */
function holdBackRivals(steps: readonly Step[], desired: readonly Shard[], observation: NodeObservation) {
  const running = runningEpochs(desired, observation)
  const actions: Action[] = []
  const waits: Wait[] = []
  for (const step of steps) {
    if (isWait(step)) waits.push(step)
    else if (step.kind !== 'startShard') actions.push(step)
    else {
      const { group, epoch } = step.shard.spec
      const rival = running.find((r) => r.epoch !== epoch && (r.group === groupOf(step.shard) || r.group === group))
      if (rival === undefined) {
        running.push({ group: groupOf(step.shard), epoch })
        actions.push(step)
      } else waits.push(waitFor(ofShard(step.shard), 'OtherEpochAlive', `epoch ${rival.epoch} of the group lives here`))
    }
  }
  return { actions, waits }
}

/** Groups with a live process here. Of a shard that left the list only the name is known, so its group has no namespace. */
function runningEpochs(desired: readonly Shard[], observation: NodeObservation): { group: string; epoch: number }[] {
  const wanted = new Map(desired.map((shard) => [shard.metadata.uid, shard]))
  const running = observation.local.filter((l) => isAlive(l, observation.started) || observation.busy.has(l.shardUid))
  return running.flatMap((local) => {
    const shard = wanted.get(local.shardUid)
    if (shard !== undefined) return [{ group: groupOf(shard), epoch: shard.spec.epoch }]
    const { group, epoch } = namePattern.exec(local.shardName)?.groups ?? {}
    return group === undefined ? [] : [{ group, epoch: Number(epoch) }]
  })
}
