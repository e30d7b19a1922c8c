import { describe, expect, test } from 'vitest'
import type { LocalModel } from '../../../agent/models.ts'
import type { Action } from '../../../agent/actions.ts'
import { PLANNED_STOP, STOP_AFTER_FAILURE } from '../../../agent/actions.ts'
import type { NodeObservation } from '../../../agent/plan.ts'
import { planNode } from '../../../agent/plan.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { CLUSTER, hostState, localShard, wantedShard } from '../../support/agentworld.ts'

const NOW = 1_000_000

const observed = (changes: Partial<NodeObservation> = {}): NodeObservation => ({
  clusterUid: CLUSTER,
  local: [],
  models: [],
  serverNowMs: NOW,
  failures: new Map(),
  stopsAsked: new Map(),
  started: new Set(),
  busy: new Set(),
  ...changes,
})

/** `stopShard chat-0-e1-0 Deleted`: what a test wants to read. */
function told(action: Action): string {
  if (action.kind === 'stopShard') return `stopShard ${action.shardName} ${action.reason}`
  if (action.kind === 'failShard') return `failShard ${action.shardName} ${action.exit.reason}`
  return `${action.kind} ${'shard' in action ? action.shard.metadata.name : action.shardName}`
}
const plan = (desired: readonly Shard[] | undefined, changes: Partial<NodeObservation> = {}) => {
  const { actions, waits, fenced } = planNode(desired, observed(changes), NOW)
  return { actions: actions.map(told), waits: waits.map((w) => `${w.shardName} ${w.reason}`), fenced, raw: actions }
}

describe('before the list of own shards was read to its end', () => {
  test('nothing is stopped or started', () => {
    const shard = wantedShard()
    const { actions, waits, fenced } = plan(undefined, { local: [localShard(shard, 'Ready')] })
    expect(actions).toEqual([])
    expect(waits).toEqual(['chat-0-e1-0 ListNotRead'])
    expect(fenced).toBe(false)
  })
})

describe('fence', () => {
  const stranger = wantedShard({ group: 'old-0' })
  test('a living process whose uid is not in the list is stopped, and the node is not fenced until it ended', () => {
    const { actions, fenced } = plan([], { local: [localShard(stranger, 'Ready')] })
    expect(actions).toEqual(['stopShard old-0-e1-0 NotInList'])
    expect(fenced).toBe(false)
  })
  test('the same name under another uid is a stranger', () => {
    const wanted = wantedShard({ uid: 'new' })
    const { actions } = plan([wanted], { local: [localShard(wantedShard({ uid: 'old' }), 'Ready')] })
    expect(actions).toContain('stopShard chat-0-e1-0 NotInList')
  })
  test('it is asked to stop once', () => {
    const local = [localShard(stranger, 'Stopping')]
    const stopsAsked = new Map([[stranger.metadata.uid, PLANNED_STOP]])
    const { actions, waits } = plan([], { local, stopsAsked })
    expect(actions).toEqual([])
    expect(waits).toEqual(['old-0-e1-0 Stopping'])
  })
  test.each([
    ['ended', localShard(stranger, 'Exited')],
    ['never started', localShard(stranger)],
    ['lost with its host', localShard(stranger, 'Ready', { lost: true })],
  ])('one that is %s is forgotten, and does not hold the fence', (_, local) => {
    const { actions, fenced } = plan([], { local: [local] })
    expect(actions).toEqual(['forgetShard old-0-e1-0'])
    expect(fenced).toBe(true)
  })
  test("a process of another cluster is not ours to touch, and does not hold this cluster's fence", () => {
    const { actions, waits, fenced } = plan([], { local: [localShard(stranger, 'Ready', { clusterUid: 'other' })] })
    expect(actions).toEqual([])
    expect(waits).toEqual(['old-0-e1-0 ForeignShard'])
    expect(fenced).toBe(true)
  })
  test('a host that was started and has not spoken yet counts as alive', () => {
    const { actions, fenced } = plan([], { local: [localShard(stranger, undefined, { started: true })] })
    expect(actions).toEqual(['stopShard old-0-e1-0 NotInList'])
    expect(fenced).toBe(false)
  })
})

describe('prepare', () => {
  test('a new shard of a model without files is prepared at once', () => {
    expect(plan([wantedShard()], { models: undefined }).actions).toEqual(['prepareShard chat-0-e1-0'])
  })

  const model: LocalModel = { source: 'file:smol', digest: 'sha256:a', state: 'Present', dir: '/models/smol' }
  const withFiles = wantedShard({ source: 'file:smol', digest: 'sha256:a' })
  test('with the verified folder of its model', () => {
    expect(plan([withFiles], { models: [model] }).raw).toEqual([
      { kind: 'prepareShard', shard: withFiles, modelDir: '/models/smol' },
    ])
  })
  test.each([
    ['absent', [], 'ModelNotPresent'],
    ['of another digest', [{ ...model, digest: 'sha256:b' }], 'ModelDigestMismatch'],
    ['not whole', [{ ...model, state: 'Corrupt', problem: 'x is missing' }], 'ModelInvalid'],
  ] as const)('a model that is %s fails the shard', (_, models, reason) => {
    expect(plan([withFiles], { models: models as readonly LocalModel[] }).actions).toEqual([
      `failShard chat-0-e1-0 ${reason}`,
    ])
  })
  test.each([
    ['the first scan of models has not ended', undefined],
    ['its files are still being read', [{ ...model, state: 'Fetching' } as LocalModel]],
  ])('waits while %s', (_, models) => {
    const { actions, waits } = plan([withFiles], { models })
    expect(actions).toEqual([])
    expect(waits).toEqual(['chat-0-e1-0 ModelsNotScanned'])
  })
  test('one action at a time: a shard that is being prepared waits', () => {
    const busy = new Set([wantedShard().metadata.uid])
    expect(plan([wantedShard()], { busy }).waits).toEqual(['chat-0-e1-0 Busy'])
  })
  test.each(['Prepared', 'Starting', 'Loading', 'Ready', 'Stopping'] as const)(
    'a shard that was %s and of which nothing is left here is lost, never prepared again',
    (phase) => {
      expect(plan([wantedShard({ status: { phase } })]).actions).toEqual(['failShard chat-0-e1-0 ShardhostLost'])
    },
  )
})

describe('start', () => {
  const prepared = (shard: Shard) => ({ local: [localShard(shard)] })
  test('waits for the rendezvous', () => {
    const shard = wantedShard({ status: { phase: 'Prepared' } })
    expect(plan([shard], prepared(shard)).waits).toEqual(['chat-0-e1-0 Rendezvous'])
  })
  test.each([
    [NOW + 5000, ['startShard chat-0-e1-0']],
    [NOW, ['startShard chat-0-e1-0']],
    [NOW - 1, ['failShard chat-0-e1-0 StartWindowMissed']],
  ])('start by %d of server time %d', (startByMs, expected) => {
    const shard = wantedShard({ startByMs, status: { phase: 'Prepared' } })
    expect(plan([shard], prepared(shard)).actions).toEqual(expected)
  })
  test("the server's time counts, not the agent's", () => {
    const shard = wantedShard({ startByMs: NOW + 1000 })
    expect(plan([shard], { ...prepared(shard), serverNowMs: NOW + 2000 }).actions).toEqual([
      'failShard chat-0-e1-0 StartWindowMissed',
    ])
    expect(plan([shard], { ...prepared(shard), serverNowMs: undefined }).waits).toEqual([
      'chat-0-e1-0 ServerTimeUnknown',
    ])
  })
  test('a running shard is left as it is', () => {
    const shard = wantedShard({ startByMs: NOW - 99_000, status: { phase: 'Ready' } })
    const { actions, waits, fenced } = plan([shard], { local: [localShard(shard, 'Ready')] })
    expect({ actions, waits, fenced }).toEqual({ actions: [], waits: [], fenced: true })
  })
  test('a started host that has not spoken yet is not started again, nor late', () => {
    const shard = wantedShard({ startByMs: NOW - 1 })
    expect(plan([shard], { ...prepared(shard), started: new Set([shard.metadata.uid]) }).actions).toEqual([])
    expect(plan([shard], { local: [localShard(shard, undefined, { started: true })] }).actions).toEqual([])
  })
})

describe('epochs of one group on one node', () => {
  const old = wantedShard({ epoch: 1, deleted: true })
  const next = wantedShard({ epoch: 2, startByMs: NOW + 5000 })
  test('a rank is not started while an older epoch of its group is alive here', () => {
    const local = [localShard(old, 'Stopping'), localShard(next)]
    expect(plan([old, next], { local }).waits).toContain('chat-0-e2-0 OtherEpochAlive')
  })
  test('nothing is prepared or started beside a process that is not in the list: its bytes count as free', () => {
    const fresh = wantedShard({ group: 'other-0' })
    const { waits, raw } = plan([next, fresh], { local: [localShard(old, 'Ready'), localShard(next)] })
    expect(waits).toEqual(['chat-0-e2-0 NotFenced', 'other-0-e1-0 NotFenced'])
    expect(raw.map((a) => a.kind)).toEqual(['stopShard'])
  })
  test('it starts once the older one has ended', () => {
    const local = [localShard(old, 'Exited'), localShard(next)]
    expect(plan([old, next], { local }).actions).toEqual(['startShard chat-0-e2-0'])
  })
  test('an older epoch is not started beside a newer one', () => {
    const first = wantedShard({ epoch: 1, startByMs: NOW + 5000 })
    const local = [localShard(first), localShard(next, 'Loading')]
    expect(plan([first, next], { local }).actions).toEqual([])
  })
  test('of two epochs that could start in one pass only the newer does', () => {
    const first = wantedShard({ epoch: 1, startByMs: NOW + 5000 })
    expect(plan([first, next], { local: [localShard(first), localShard(next)] }).actions).toEqual([
      'startShard chat-0-e2-0',
    ])
  })
  test('a start of the older epoch that is underway holds the newer one back', () => {
    const first = wantedShard({ epoch: 1, startByMs: NOW + 5000 })
    const busy = new Set([first.metadata.uid])
    expect(plan([first, next], { local: [localShard(first), localShard(next)], busy }).actions).toEqual([])
  })
  test('groups of the same name in two namespaces are strangers', () => {
    const other = wantedShard({ epoch: 1, namespace: 'team-b', uid: 'b', startByMs: NOW + 5000 })
    const local = [localShard(other, 'Ready'), localShard(next)]
    expect(plan([other, next], { local }).actions).toEqual(['startShard chat-0-e2-0'])
  })
})

describe('stop', () => {
  const deleted = wantedShard({ deleted: true })
  const stopsOf = (desired: readonly Shard[], changes: Partial<NodeObservation>) =>
    plan(desired, changes).raw.flatMap((a) => (a.kind === 'stopShard' ? [[a.reason, a.limits]] : []))

  test('a deleted shard drains first', () => {
    expect(stopsOf([deleted], { local: [localShard(deleted, 'Ready')] })).toEqual([['Deleted', PLANNED_STOP]])
  })
  test('after a failure of its group there is nothing to drain', () => {
    const told = wantedShard({ deleted: true, annotations: { 'mctl.dev/stop-reason': 'GroupFailed' } })
    expect(stopsOf([told], { local: [localShard(told, 'Ready')] })).toEqual([['GroupFailed', STOP_AFTER_FAILURE]])
  })
  test('a failed rank on this node tells that the group failed', () => {
    const failed = wantedShard({ rank: 1, deleted: true, status: { phase: 'Failed' } })
    expect(stopsOf([deleted, failed], { local: [localShard(deleted, 'Ready')] })).toEqual([
      ['GroupFailed', STOP_AFTER_FAILURE],
    ])
  })
  test('a stop underway is asked for again only with less time', () => {
    const local = [localShard(deleted, 'Stopping')]
    const uid = deleted.metadata.uid
    expect(stopsOf([deleted], { local, stopsAsked: new Map([[uid, PLANNED_STOP]]) })).toEqual([])
    const failed = wantedShard({ rank: 1, status: { phase: 'Failed' } })
    expect(stopsOf([deleted, failed], { local, stopsAsked: new Map([[uid, PLANNED_STOP]]) })).toHaveLength(1)
    expect(stopsOf([deleted, failed], { local, stopsAsked: new Map([[uid, STOP_AFTER_FAILURE]]) })).toEqual([])
  })
  test('an adopted shard that is already stopping is left to its host', () => {
    expect(stopsOf([deleted], { local: [localShard(deleted, 'Stopping')] })).toEqual([])
  })
  test('a deleted shard that does not live needs no action, and is not forgotten before it left the list', () => {
    for (const local of [[], [localShard(deleted)], [localShard(deleted, 'Exited')]])
      expect(plan([deleted], { local }).actions).toEqual([])
  })
})

describe('a shard that failed', () => {
  const uid = wantedShard().metadata.uid
  const exit = { reason: 'PrepareFailed', message: 'no port', atMs: NOW }
  test.each([
    ['known to the server', wantedShard({ status: { phase: 'Failed' } }), {}],
    ['known to the agent', wantedShard({ startByMs: NOW + 5000 }), { failures: new Map([[uid, exit]]) }],
    ['that stopped unasked', wantedShard({ status: { phase: 'Stopped' } }), {}],
  ] as const)('is never prepared or started in place: %s', (_, shard, changes) => {
    expect(plan([shard], changes).actions).toEqual([])
    expect(plan([shard], { ...changes, local: [localShard(shard)] }).actions).toEqual([])
  })
  test('an engine that exited while wanted is not started again', () => {
    const shard = wantedShard({ startByMs: NOW + 5000, status: { phase: 'Ready' } })
    expect(plan([shard], { local: [localShard(shard, 'Exited')] }).actions).toEqual([])
  })
  test('a living process of a failed shard is stopped', () => {
    const shard = wantedShard({ status: { phase: 'Failed' } })
    expect(plan([shard], { local: [localShard(shard, 'Loading')] }).actions).toEqual([
      'stopShard chat-0-e1-0 ShardFailed',
    ])
  })
})

describe('a stalled engine', () => {
  const shard = wantedShard({ startByMs: NOW - 99_000, status: { phase: 'Ready' } })
  const aged = (progressAgeSeconds: number) =>
    localShard(shard, 'Ready', { state: hostState(shard.metadata.uid, { progressAgeSeconds }) })
  test.each([
    [60, []],
    [61, ['failShard chat-0-e1-0 EngineStalled']],
  ])('that made no step for %d s', (age, expected) => {
    expect(plan([shard], { local: [aged(age)] }).actions).toEqual(expected)
  })
  test('whose host has found out why it is of no use', () => {
    const unwell = { reason: 'CanaryFailed', message: 'no answer' } as const
    const state = hostState(shard.metadata.uid, { unwell })
    expect(plan([shard], { local: [localShard(shard, 'Ready', { state })] }).actions).toEqual([
      'failShard chat-0-e1-0 CanaryFailed',
    ])
  })
  test.each([
    [30, []],
    [31, ['failShard chat-0-e1-0 ShardhostSilent']],
  ])('whose host has answered nothing for %d s', (silentSeconds, expected) => {
    expect(plan([shard], { local: [localShard(shard, 'Ready', { silentSeconds })] }).actions).toEqual(expected)
  })
  test('is stopped once it was given up', () => {
    const failures = new Map([[shard.metadata.uid, { reason: 'EngineStalled', message: '', atMs: NOW }]])
    expect(plan([shard], { local: [aged(70)], failures }).actions).toEqual(['stopShard chat-0-e1-0 ShardFailed'])
  })
})

test('stops come before starts', () => {
  const stopped = wantedShard({ group: 'a-0', deleted: true })
  const shard = wantedShard({ group: 'z-0', startByMs: NOW + 5000 })
  const fresh = wantedShard({ group: 'b-0' })
  const local = [localShard(shard), localShard(stopped, 'Ready')]
  expect(plan([fresh, shard, stopped], { local }).actions).toEqual([
    'stopShard a-0-e1-0 Deleted',
    'startShard z-0-e1-0',
    'prepareShard b-0-e1-0',
  ])
})

test('a plan is pure: the same world gives the same plan', () => {
  const shard = wantedShard({ startByMs: NOW + 1 })
  const world = observed({ local: [localShard(shard, undefined, { state: hostState('x', { phase: 'Ready' }) })] })
  expect(planNode([shard], world, NOW)).toEqual(planNode([shard], world, NOW))
})
