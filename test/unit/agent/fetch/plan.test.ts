import { describe, expect, test } from 'vitest'
import { retryAfterMs } from '../../../../agent/fetch/download.ts'
import type { FetchState } from '../../../../agent/fetch/fetcher.ts'
import { checkWanted, folderName, neededFiles, smallFiles, wantedModel } from '../../../../agent/fetch/needed.ts'
import { keptFree, missingBytes } from '../../../../agent/fetch/room.ts'
import { planNode } from '../../../../agent/plan.ts'
import { isDue, shardStatus, statusPatch } from '../../../../agent/shardstatus.ts'
import type { ShardStatus } from '../../../../src/api/shard.ts'
import { CLUSTER, wantedShard } from '../../../support/agentworld.ts'

const GIB = 2 ** 30
const file = (name: string) => ({ name, sizeBytes: 10, sha256: 'a'.repeat(64) })
const commit = 'c'.repeat(40)
const fetchable = (status?: ShardStatus) =>
  wantedShard({
    source: 'hf://org/name',
    revision: commit,
    files: [file('config.json'), file('model.safetensors')],
    ...(status === undefined ? {} : { status }),
  })

const notes = { failures: new Map(), stopsAsked: new Map(), started: new Set<string>(), busy: new Set<string>() }
function next(fetch: FetchState | undefined, shard = fetchable()) {
  const fetches = new Map(fetch === undefined ? [] : [[shard.metadata.uid, fetch]])
  const observation = { ...notes, clusterUid: CLUSTER, local: [], models: [], fetches, serverNowMs: 0 }
  const plan = planNode([shard], observation, 1000)
  const wait = plan.waits[0]
  return { action: plan.actions[0], wait, status: shardStatus({ shard, local: undefined, notes, wait, nowMs: 1000 }) }
}

describe('a shard whose model the node can fetch', () => {
  test('has it fetched first, also after its agent restarted', () => {
    expect(next(undefined).action).toMatchObject({ kind: 'fetchModel' })
    expect(next(undefined, fetchable({ phase: 'Fetching' })).action).toMatchObject({ kind: 'fetchModel' })
  })
  test('is Fetching with its progress meanwhile', () => {
    const progress = { doneBytes: 5, totalBytes: 20 }
    const { action, status } = next({ kind: 'Fetching', progress })
    expect(action).toBeUndefined()
    expect(status).toMatchObject({ phase: 'Fetching', progress, conditions: [{ type: 'Ready', reason: 'Fetching' }] })
  })
  test('stays Fetching when there is no room, and says so', () => {
    const { action, status } = next({ kind: 'DiskFull', message: 'no room' })
    expect(action).toBeUndefined()
    expect(status).toMatchObject({ phase: 'Fetching', conditions: [{ reason: 'DiskFull', message: 'no room' }] })
  })
  test('is prepared only from the folder where everything was verified', () => {
    expect(next({ kind: 'Done', dir: '/m/hf/x' }).action).toMatchObject({ kind: 'prepareShard', modelDir: '/m/hf/x' })
  })
  test('fails with the reason of the fetch', () => {
    const { action } = next({ kind: 'Failed', reason: 'ModelFileCorrupt', message: 'x' })
    expect(action).toMatchObject({ kind: 'failShard', exit: { reason: 'ModelFileCorrupt', message: 'x' } })
  })
  test('of which no list of files is known must have its files here', () => {
    const { action } = next(undefined, wantedShard({ source: 'hf://org/name' }))
    expect(action).toMatchObject({ kind: 'failShard', exit: { reason: 'ModelNotPresent' } })
  })
})

test('progress of a fetch is written every 10 s or 5 %', () => {
  const status = (doneBytes: number) => next({ kind: 'Fetching', progress: { doneBytes, totalBytes: 100 } }).status
  const held = status(10)
  const due = (doneBytes: number, sinceMs: number) => {
    const patch = statusPatch(held, status(doneBytes) ?? {})
    return patch !== undefined && isDue(held, patch, sinceMs)
  }
  expect([due(14, 9_000), due(14, 10_000), due(15, 0), due(10, 60_000)]).toEqual([false, true, true, false])
})

describe('the files that a rank needs', () => {
  const files = ['config.json', 'tokenizer.model', 'a.safetensors', 'b.safetensors', 'c.safetensors'].map(file)
  const weightMap = {
    'lm_head.weight': 'c.safetensors',
    'model.layers.0.w': 'a.safetensors',
    'model.layers.1.w': 'a.safetensors',
    'model.layers.2.w': 'b.safetensors',
    'model.layers.10.w': 'b.safetensors',
  }
  const names = (stage?: readonly [number, number], map: Readonly<Record<string, string>> | undefined = weightMap) =>
    neededFiles(files, stage, map).map((f) => f.name[0])
  test('are all of them without a stage, and without an index that would tell them apart', () => {
    expect(names()).toHaveLength(5)
    expect(neededFiles(files, [0, 1], undefined)).toHaveLength(5)
  })
  test('are those of its layers [start, end), of what is outside of layers, and all small ones', () => {
    expect(names([0, 2])).toEqual(['c', 't', 'a', 'c'])
    expect(names([2, 11])).toEqual(['c', 't', 'b', 'c'])
    expect(names([1, 3])).toEqual(['c', 't', 'a', 'b', 'c'])
  })
  test('small are all but weights', () => {
    expect(smallFiles(files).map((f) => f.name)).toEqual(['config.json', 'tokenizer.model'])
  })
  test('only a pipeline rank is content with less than the whole', () => {
    const shard = fetchable()
    const model = (strategy: 'Single' | 'Tensor' | 'Pipeline') =>
      wantedModel({ ...shard, spec: { ...shard.spec, strategy, stage: [1, 2] } })
    expect([model('Single')?.stage, model('Tensor')?.stage, model('Pipeline')?.stage]).toEqual([
      undefined,
      undefined,
      [1, 2],
    ])
  })
})

describe('names that the server gives', () => {
  const model = { source: 'hf://org/name', commit, digest: undefined, files: [], stage: undefined }
  test('make one folder per repository and commit', () => {
    expect(folderName(model)).toBe('hf/org--name@cccccccccccc')
  })
  test.each(['../x', 'a/b', '/etc/x', '.mctl.json', '', 'a\\b', 'a\0b'])('%j is no file of ours', (name) => {
    expect(() => checkWanted({ ...model, files: [file(name)] })).toThrow('has no plain name')
  })
  test.each(['main', '../../x', ''])('%j is no commit', (bad) => {
    expect(() => checkWanted({ ...model, commit: bad })).toThrow('is no commit')
  })
})

describe('room', () => {
  test('a tenth of the volume stays free, at most 5 GiB', () => {
    expect(keptFree({ freeBytes: 0, totalBytes: 20 * GIB })).toBe(2 * GIB)
    expect(keptFree({ freeBytes: 0, totalBytes: 500 * GIB })).toBe(5 * GIB)
  })
  test('what is missing is told to the byte', () => {
    const volume = { freeBytes: 9 * GIB, totalBytes: 500 * GIB }
    expect(missingBytes(volume, 4 * GIB)).toBe(0)
    expect(missingBytes(volume, 4 * GIB + 1)).toBe(1)
  })
})

test('Retry-After is seconds or a date, never more than two minutes', () => {
  const after = (value: string | undefined) => retryAfterMs(value, Date.parse('2026-01-01T00:00:00Z'))
  expect(after('7')).toBe(7_000)
  expect(after('Thu, 01 Jan 2026 00:00:09 GMT')).toBe(9_000)
  expect(after('86400')).toBe(120_000)
  expect([after(undefined), after('soon')]).toEqual([undefined, undefined])
})
