import { describe, expect, test } from 'vitest'
import { columnsOf, rowOf } from '../../../src/api/columns.ts'
import { applyDefaults } from '../../../src/api/default.ts'
import { kindNames } from '../../../src/api/kinds.ts'
import type { Related } from '../../../src/api/columns.ts'
import type { Manifest } from '../../../src/api/meta.ts'
import type { AnyObject } from '../../../src/api/objects.ts'
import type { Fields } from './manifests.ts'
import { deployment, event, manifestOf, shape, shard, shardGroup, unboundGroup } from './manifests.ts'

const nowMs = Date.parse('2026-03-01T12:00:00Z')
const made = { creationTimestamp: '2026-03-01T11:00:00Z' }

/** A row as a map from its columns' names. */
function rowMap(manifest: Manifest, related?: Related): Record<string, string | undefined> {
  const object = applyDefaults({ ...manifest, metadata: { ...made, ...manifest.metadata } }) as unknown as AnyObject
  const cells = rowOf(object, nowMs, related)
  const columns = columnsOf(object.kind)
  expect(cells).toHaveLength(columns.length)
  return Object.fromEntries(columns.map(({ name }, index) => [name, cells[index]]))
}
const narrow = (kind: Parameters<typeof columnsOf>[0]) =>
  columnsOf(kind)
    .filter(({ priority }) => priority === 0)
    .map(({ name }) => name)
    .join(' ')

test('each kind shows its columns, name first', () => {
  expect(narrow('Node')).toBe('NAME STATUS CHIP MEMORY SHARDS AGE VERSION')
  expect(narrow('ModelDeployment')).toBe('NAME READY STRATEGY NODES ENDPOINT AGE')
  expect(narrow('Shard')).toBe('NAME STATUS RANK NODE LAYERS MEMORY AGE')
  expect(narrow('Event')).toBe('LAST SEEN TYPE REASON OBJECT MESSAGE')
  for (const kind of kindNames) {
    const priorities = columnsOf(kind).map(({ priority }) => priority)
    expect([...priorities].sort()).toEqual(priorities)
  }
})

describe('nodes', () => {
  const node = (fields: Fields = {}, metadata: Fields = {}) =>
    manifestOf('Node', fields, { name: 'mini-1', ...metadata })
  const status = {
    nodeInfo: { chip: 'Apple M4', agentVersion: '0.1.0', gpuCores: 10, osVersion: '15.3' },
    capacity: { memory: '16Gi' },
    allocatable: { memory: '10376Mi' },
    bound: { memory: '2Gi' },
    conditions: [{ type: 'Ready', status: 'True' }],
    engines: [{ name: 'mlx' }, { name: 'fake' }],
    models: [
      { source: 'file:a', state: 'Present' },
      { source: 'file:b', state: 'Fetching' },
    ],
    addresses: [{ type: 'Internal', address: '10.0.0.1' }],
  }
  test('bound of allocatable, shards by look-up', () => {
    expect(rowMap(node({ status }), { shardsOnNode: (name) => (name === 'mini-1' ? 3 : 0) })).toMatchObject({
      NAME: 'mini-1',
      STATUS: 'Ready',
      CHIP: 'Apple M4',
      MEMORY: '2.0Gi/10.1Gi',
      SHARDS: '3',
      AGE: '60m',
      VERSION: '0.1.0',
      GPU: '10',
      OS: '15.3',
      ADDRESS: '10.0.0.1',
      ENGINES: 'mlx,fake',
      MODELS: 'file:a',
    })
  })
  test('a node that said nothing yet is unknown, not zero', () => {
    expect(rowMap(node())).toMatchObject({
      STATUS: 'Unknown',
      CHIP: '<none>',
      MEMORY: '<unknown>',
      SHARDS: '<unknown>',
    })
  })
  test('not ready, cordoned, going', () => {
    const conditions = [{ type: 'Ready', status: 'False' }]
    expect(rowMap(node({ status: { conditions }, spec: { unschedulable: true } }))).toMatchObject({
      STATUS: 'NotReady,SchedulingDisabled',
    })
    const silent = [{ type: 'Ready', status: 'Unknown' }]
    expect(rowMap(node({ status: { conditions: silent } }))['STATUS']).toBe('NotReady')
    expect(rowMap(node({ status }, { deletionTimestamp: '2026-03-01T12:00:00Z' }))['STATUS']).toBe('Ready,Terminating')
  })
  test('the mark of a laboratory stands at the chip, not at the status', () => {
    const simulated = { ...status, nodeInfo: { ...status.nodeInfo, simulated: true } }
    expect(rowMap(node({ status: simulated }))).toMatchObject({ STATUS: 'Ready', CHIP: 'Apple M4 (simulated)' })
  })
})

describe('deployments', () => {
  test('a fresh one', () => {
    expect(rowMap(deployment({ replicas: 2 }), { nodesOfDeployment: () => [] })).toMatchObject({
      READY: '0/2',
      STRATEGY: 'Auto',
      NODES: '<none>',
      ENDPOINT: '<none>',
      MODEL: 'file:smollm2',
      REASON: '<none>',
    })
  })
  test('a planned one names its nodes and what Auto became, and why it is not ready', () => {
    const status = {
      readyReplicas: 1,
      endpoint: 'http://127.0.0.1:6481/v1',
      plan: { hash: 'h', strategy: 'Pipeline', degree: 2, why: [], rejected: [] },
      conditions: [
        { type: 'Scheduled', status: 'True', reason: 'Placed', message: '' },
        { type: 'Available', status: 'False', reason: 'GroupsStarting', message: '' },
      ],
    }
    const related: Related = { nodesOfDeployment: (namespace, name) => [`${namespace}-${name}`, 'mini-2'] }
    expect(rowMap({ ...deployment(), status }, related)).toMatchObject({
      READY: '1/1',
      STRATEGY: 'Pipeline',
      NODES: 'default-x,mini-2',
      ENDPOINT: 'http://127.0.0.1:6481/v1',
      DEGREE: '2',
      REASON: 'GroupsStarting',
    })
  })
  test('a forced strategy is shown as the user wrote it', () => {
    expect(rowMap(deployment({ parallelism: { strategy: 'Data' } }))['STRATEGY']).toBe('Data')
  })
})

test('groups, shards, models, revisions and events', () => {
  expect(rowMap(shardGroup())).toMatchObject({
    STATUS: 'Pending',
    RANKS: '2',
    NODES: 'mini-0,mini-1',
    MEMORY: '200',
    EPOCH: '1',
  })
  expect(rowMap(manifestOf('ShardGroup', { spec: unboundGroup }))).toMatchObject({ STRATEGY: '<none>', RANKS: '0' })
  expect(rowMap(shard({}, { phase: 'Ready', pid: 7, port: 9000 }))).toMatchObject({
    STATUS: 'Ready',
    RANK: '0/2',
    NODE: 'mini-1',
    LAYERS: '0-2',
    PID: '7',
    PORT: '9000',
  })
  expect(
    rowMap({ ...shard({}, { phase: 'Ready' }), metadata: { name: 'x', deletionTimestamp: 'now' } })['STATUS'],
  ).toBe('Terminating')
  const fetching = { phase: 'Fetching', progress: { doneBytes: 429, totalBytes: 1000 } }
  expect(rowMap(shard({}, fetching))['STATUS']).toBe('Fetching 42%')
  expect(rowMap(manifestOf('Model', { spec: { shape } }))).toMatchObject({
    NODES: '<none>',
    ARCHITECTURE: 'qwen2',
    LAYERS: '28',
    SIZE: '14.2Gi',
  })
  const template = applyDefaults(deployment())['spec']
  expect(rowMap(manifestOf('Revision', { spec: { deployment: 'd', revision: 3, template } }))).toMatchObject({
    DEPLOYMENT: 'd',
    REVISION: '3',
    MODEL: 'file:smollm2',
  })
  expect(
    rowMap({ ...event, count: 14, message: ' two\n lines ', firstTimestamp: '2026-03-01T11:30:00Z' }),
  ).toMatchObject({
    'LAST SEEN': '0s (x14 over 30m)',
    OBJECT: 'node/mini-1',
    MESSAGE: 'two lines',
  })
})
