/** Manifests that are right, so that each test says only what it bends. */
import { applyDefaults } from '../../../src/api/default.ts'
import type { Manifest } from '../../../src/api/meta.ts'
import { API_VERSION } from '../../../src/api/meta.ts'
import { causeText } from '../../../src/api/causes.ts'
import { validate } from '../../../src/api/validate.ts'

export type Fields = Readonly<Record<string, unknown>>

export const manifestOf = (kind: string, fields: Fields = {}, metadata: Fields = {}): Manifest =>
  ({ apiVersion: API_VERSION, kind, metadata: { name: 'x', ...metadata }, ...fields }) as Manifest

export const deployment = (spec: Fields = {}, metadata: Fields = {}): Manifest =>
  manifestOf('ModelDeployment', { spec: { model: { source: 'file:smollm2' }, ...spec } }, metadata)

export const parts = { weights: 60, kv: 30, runtime: 10 }
export const member = (rank: number): Fields => ({ rank, node: `mini-${rank}`, stage: [0, 2], memoryBytes: 100, parts })
export const epochFields: Fields = {
  epoch: 1,
  revision: 1,
  strategy: 'Pipeline',
  engine: 'mlx',
  transport: 'Ring',
  planHash: 'h',
  members: [member(0), member(1)],
}
export const shardGroup = (spec: Fields = {}): Manifest =>
  manifestOf('ShardGroup', { spec: { deployment: 'd', replica: 0, ...epochFields, next: null, ...spec } })

export const unboundGroup: Fields = { deployment: 'd', replica: 0, epoch: 1, revision: 1, members: [], next: null }

export const shardSpec: Fields = {
  nodeName: 'mini-1',
  deployment: 'd',
  group: 'd-0',
  epoch: 1,
  revision: 1,
  rank: 0,
  worldSize: 2,
  strategy: 'Pipeline',
  transport: 'Ring',
  stage: [0, 2],
  split: [2, 2],
  engine: { name: 'mlx', args: [] },
  model: { source: 'file:smollm2', layers: 4, vocabSize: 258 },
  serving: { servedName: 'd', contextTokens: 128, concurrency: 1, maxOutputTokens: 64 },
  memoryBytes: 100,
  parts,
  rendezvous: null,
}
export const shard = (spec: Fields = {}, status?: Fields): Manifest =>
  manifestOf('Shard', { spec: { ...shardSpec, ...spec }, ...(status === undefined ? {} : { status }) })

export const shape: Fields = {
  architecture: 'qwen2',
  layers: 28,
  hiddenSize: 3584,
  attentionHeads: 28,
  kvHeads: 4,
  headDim: 128,
  vocabSize: 152064,
  parameters: 7616000000,
  weightBytes: 15232000000,
}

export const event: Manifest = manifestOf(
  'Event',
  {
    involvedObject: { apiVersion: API_VERSION, kind: 'Node', name: 'mini-1', uid: 'u' },
    type: 'Normal',
    reason: 'NodeReady',
    message: 'the node is ready',
    count: 1,
    firstTimestamp: '2026-03-01T12:00:00Z',
    lastTimestamp: '2026-03-01T12:00:00Z',
    source: { component: 'node' },
  },
  { name: 'mini-1.17a2b', namespace: 'default' },
)

/** What is wrong with a manifest after defaulting, as lines. */
export const faultsOf = (manifest: unknown): readonly string[] =>
  validate(applyDefaults(manifest as Manifest)).map(causeText)
