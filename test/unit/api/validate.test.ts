import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { applyDefaults } from '../../../src/api/default.ts'
import type { Manifest } from '../../../src/api/meta.ts'
import { kindNames } from '../../../src/api/kinds.ts'
import { validate } from '../../../src/api/validate.ts'
import {
  deployment,
  epochFields,
  event,
  faultsOf,
  manifestOf,
  member,
  parts,
  shape,
  shard,
  shardGroup,
  unboundGroup,
} from './manifests.ts'

describe('what is right passes', () => {
  test.each([
    ['a deployment with a model only', deployment()],
    ['Single, as another word for Data', deployment({ parallelism: { strategy: 'Single', degree: 1 } })],
    ['a split with Pipeline', deployment({ parallelism: { strategy: 'Pipeline', degree: 2, split: [20, 10] } })],
    ['a name that begins with a digit', deployment({}, { name: '7b-chat' })],
    ['no replicas', deployment({ replicas: 0 })],
    ['a thin node', manifestOf('Node', { status: { nodeInfo: { chip: 'Apple M4' }, capacity: { memory: '16Gi' } } })],
    ['a node with memory as a number', manifestOf('Node', { status: { capacity: { memory: 4e9 } } })],
    [
      'a node with a bare condition',
      manifestOf('Node', { status: { conditions: [{ type: 'Ready', status: 'False' }] } }),
    ],
    [
      'a node with two links to one peer',
      manifestOf('Node', {
        status: {
          links: [
            { peer: 'mini-2', type: 'Thunderbolt4', transport: 'TCP' },
            { peer: 'mini-2', type: 'Ethernet2.5G', transport: 'TCP' },
          ],
        },
      }),
    ],
    ['a model of shape only', manifestOf('Model', { spec: { shape } })],
    ['a group without members', shardGroup({ members: [] })],
    ['a group that is not bound yet', manifestOf('ShardGroup', { spec: unboundGroup })],
    ['a group with a successor', shardGroup({ next: { ...epochFields, epoch: 2 } })],
    ['a shard before its rendezvous', shard()],
    ['a shard with a rendezvous', shard({ rendezvous: { startByMs: 5, hosts: [['127.0.0.1:1'], ['127.0.0.1:2']] } })],
    ['an event with a dotted name', event],
    [
      'a revision',
      manifestOf('Revision', {
        spec: { deployment: 'x', revision: 1, template: { ...templateParts() } },
      }),
    ],
    [
      'an object as the server hands it out',
      deployment(
        {},
        {
          uid: 'u',
          resourceVersion: '7',
          generation: 2,
          creationTimestamp: '2026-03-01T12:00:00Z',
          finalizers: ['mctl.dev/children'],
          ownerReferences: [{ kind: 'Node', name: 'n', uid: 'o' }],
          managedFields: [
            { manager: 'mctl', operation: 'Apply', time: '2026-03-01T12:00:00Z', fieldsV1: { 'f:spec': { '.': {} } } },
          ],
        },
      ),
    ],
  ])('%s', (_, manifest) => {
    expect(faultsOf(manifest)).toEqual([])
  })
})

function templateParts() {
  const { model, servedName, parallelism, serving, engine, placement } = applyDefaults(deployment())['spec'] as Record<
    string,
    unknown
  >
  return { model, servedName, parallelism, serving, engine, placement }
}

describe('what is wrong is said in the words of Kubernetes', () => {
  test.each([
    [{ replicas: -1 }, 'spec.replicas: Invalid value: -1: must be greater than or equal to 0'],
    [{ replicas: 1.5 }, 'spec.replicas: Invalid value: 1.5: must be an integer'],
    [{ replicas: '2' }, 'spec.replicas: Invalid value: "2": must be an integer'],
    [{ paused: 'yes' }, 'spec.paused: Invalid value: "yes": must be true or false'],
    [{ repilcas: 1 }, 'unknown field "spec.repilcas", did you mean "spec.replicas"?'],
    [{ color: 'red' }, 'unknown field "spec.color"'],
    [
      { parallelism: { strategy: 'Fast' } },
      'spec.parallelism.strategy: Unsupported value: "Fast": supported values: "Auto", "Data", "Pipeline", "Tensor", "Single"',
    ],
    [{ parallelism: [] }, 'spec.parallelism: Invalid value: []: must be a map'],
    [{ model: {} }, 'spec.model: Required value: exactly one of `source` and `name` must be set'],
    [{ model: { source: 'file:a', name: 'b' } }, 'spec.model.name: Forbidden: may not be set together with `source`'],
    [
      { model: { name: 'b', revision: 'main' } },
      'spec.model.revision: Forbidden: belongs to `source`; a Model has its own',
    ],
    [
      { model: { source: 'file:a', revision: 'main' } },
      'spec.model.revision: Forbidden: may only be set for an hf:// source',
    ],
    [
      { parallelism: { strategy: 'Data', degree: 2 } },
      'spec.parallelism.degree: Invalid value: 2: must be 1 when strategy is Data: every replica is whole on one node (for more copies set spec.replicas)',
    ],
    [
      { parallelism: { strategy: 'Tensor', degree: 1 } },
      'spec.parallelism.degree: Invalid value: 1: must be greater than or equal to 2 when strategy is Tensor',
    ],
    [
      { parallelism: { strategy: 'Tensor', split: [2, 2] } },
      'spec.parallelism.split: Forbidden: may only be set when strategy is Pipeline or Auto',
    ],
    [
      { parallelism: { strategy: 'Pipeline', degree: 3, split: [2, 2] } },
      'spec.parallelism.split: Invalid value: [2,2]: must have as many stages as degree says ranks: 3, not 2',
    ],
    [
      { parallelism: { split: [2, 0] } },
      'spec.parallelism.split[1]: Invalid value: 0: must be greater than or equal to 1',
    ],
    [
      { serving: { contextTokens: 100, maxOutputTokens: 101 } },
      'spec.serving.maxOutputTokens: Invalid value: 101: must be less than or equal to contextTokens, 100',
    ],
    [
      { serving: { contextTokens: 0 } },
      'spec.serving.contextTokens: Invalid value: 0: must be greater than or equal to 1',
    ],
    [
      { update: { maxUnavailable: 0 } },
      'spec.update.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0',
    ],
    [{ placement: { nodes: ['a', 'b', 'a'] } }, 'spec.placement.nodes[2]: Duplicate value: "a"'],
    [{ placement: { tolerations: [{ key: '' }] } }, 'spec.placement.tolerations[0].key: Required value'],
    [
      { placement: { tolerations: [{ value: 'a' }] } },
      'spec.placement.tolerations[0].key: Required value: may only be absent when `operator` is Exists',
    ],
    [
      { placement: { tolerations: [{ key: 'a', operator: 'Exists', value: 'b' }] } },
      'spec.placement.tolerations[0].value: Forbidden: must be absent when `operator` is Exists, which accepts every value',
    ],
    [
      { placement: { tolerations: [{ key: 'a', operator: 'Like' }] } },
      'spec.placement.tolerations[0].operator: Unsupported value: "Like": supported values: "Exists", "Equal"',
    ],
    [
      { engine: { args: ['--temp=1'] } },
      'spec.engine.args: Forbidden: may only be set with an engine by name, because flags differ from engine to engine',
    ],
    [
      { engine: { name: 'mlx', args: ['--trust-remote-code'] } },
      'spec.engine.args[0]: Unsupported value: "--trust-remote-code": supported values: "--prefill-step-size=N", "--beat-seconds=N"',
    ],
    [
      { engine: { name: 'fake', args: ['--hang=1'] } },
      'spec.engine.args[0]: Invalid value: "--hang=1": --hang takes no value',
    ],
    [
      { engine: { name: 'mlx', args: ['--prefill-step-size=0'] } },
      'spec.engine.args[0]: Invalid value: "--prefill-step-size=0": must be --prefill-step-size=N with a whole number from 1 to 99999',
    ],
    [{ servedName: '' }, 'spec.servedName: Required value'],
  ])('%j', (spec, fault) => {
    expect(faultsOf(deployment(spec))).toEqual([fault])
  })

  test('every cause is reported at once', () => {
    const faults = faultsOf(
      deployment(
        { replicas: -1, repilcas: 2, model: { source: 'ftp://x' }, update: { maxUnavailable: 0 } },
        { labels: { 'a b': 'c' }, owner: 'me' },
      ),
    )
    expect(faults).toHaveLength(6)
  })

  test('a rule between fields waits until its fields are sound, so that one slip makes one cause', () => {
    expect(faultsOf(deployment({ parallelism: { strategy: 'Data', degree: 'two' } }))).toEqual([
      'spec.parallelism.degree: Invalid value: "two": must be an integer',
    ])
  })
})

describe('names', () => {
  test('a deployment name leaves room for the numbers of groups and shards', () => {
    expect(faultsOf(deployment({}, { name: 'a'.repeat(40) }))).toEqual([])
    expect(faultsOf(deployment({}, { name: 'a'.repeat(41) }))).toEqual([
      'metadata.name: Too long: must have at most 40 characters, because groups and shards put their numbers behind the name',
    ])
  })
  test.each(['Big', 'under_score', '-a', 'a-', 'a.b', 'ä', 'a b', '../x'])('%j is no name', (name) => {
    expect(faultsOf(manifestOf('Node', {}, { name }))[0]).toMatch(
      /^metadata.name: Invalid value: ".*": a lowercase RFC 1123 label/,
    )
  })
  test('a name has at most 63 characters', () => {
    expect(faultsOf(manifestOf('Node', {}, { name: 'a'.repeat(64) }))).toEqual([
      'metadata.name: Too long: must have at most 63 characters',
    ])
  })
  test('a name that is missing or empty is required', () => {
    expect(faultsOf(manifestOf('Node', {}, { name: undefined }))).toEqual(['metadata.name: Required value'])
    expect(faultsOf(manifestOf('Node', {}, { name: '' }))).toContain('metadata.name: Required value')
  })
  test('a kind without a namespace takes none', () => {
    expect(faultsOf(manifestOf('Node', {}, { namespace: 'default' }))).toEqual([
      'metadata.namespace: Forbidden: not allowed on this type',
    ])
  })
})

describe('labels and annotations', () => {
  test.each([
    [{ 'mctl.dev/chip': 'm4' }, 0],
    [{ a: '' }, 0],
    [{ '/a': 'b' }, 1],
    [{ 'A.com/x': 'b' }, 1],
    [{ 'a/b/c': 'd' }, 1],
    [{ a: 'x y' }, 1],
    [{ a: 'x'.repeat(64) }, 1],
    [{ ['k'.repeat(64)]: 'v' }, 1],
    [JSON.parse('{"__proto__": "v"}') as object, 1],
    [{ a: 1 }, 1],
  ])('labels %j have %i faults', (labels, count) => {
    expect(faultsOf(manifestOf('Node', {}, { labels }))).toHaveLength(count)
  })
  test('annotations hold any text, but only so much of it', () => {
    expect(faultsOf(manifestOf('Node', {}, { annotations: { note: 'any text\n✓' } }))).toEqual([])
    expect(faultsOf(manifestOf('Node', {}, { annotations: { note: 'x'.repeat(262144) } }))).toEqual([
      'metadata.annotations: Too long: must have at most 262144 bytes',
    ])
  })
})

describe('sources', () => {
  test.each([
    'hf://mlx-community/Qwen2.5-32B-Instruct-4bit',
    'file:smollm2',
    'file:Qwen2.5-7B.gguf',
    'https://example.com/a/b.gguf?download=true',
  ])('%s is one', (source) => {
    expect(faultsOf(deployment({ model: { source } }))).toEqual([])
  })
  test.each([
    'smollm2',
    'hf://only-org',
    'hf://a/b/c',
    'hf://../etc',
    'hf://a/..',
    'file:',
    'file:../secret',
    'file:a/b',
    'file:..',
    'file:a\\b',
    'file:/etc/passwd',
    'http://example.com/a.gguf',
    'https://example.com/a.bin',
    'https://user:secret@example.com/a.gguf',
    'https://',
  ])('%s is none', (source) => {
    expect(faultsOf(deployment({ model: { source } }))).toHaveLength(1)
  })
})

describe('nodes and models', () => {
  test.each([
    [
      { spec: { systemReserve: '4 apples' } },
      'spec.systemReserve: Invalid value: "4 apples": must be a quantity of bytes',
    ],
    [{ status: { capacity: { memory: '0' } } }, 'status.capacity.memory: Invalid value: "0": must be greater than'],
    [
      { status: { capacity: { memory: '9999999Pi' } } },
      'status.capacity.memory: Invalid value: "9999999Pi": must be less',
    ],
    [{ status: { capacity: { memory: '-1Gi' } } }, 'status.capacity.memory: Invalid value: "-1Gi": must be a quantity'],
    [{ spec: { taints: [{ key: 'a' }, { key: 'a' }] } }, 'spec.taints[1]: Duplicate value: "a:NoSchedule"'],
    [
      { status: { links: [{ peer: 'x', type: 'WiFi' }] } },
      'status.links[0].peer: Invalid value: "x": must be another node',
    ],
    [
      { status: { links: [{ peer: 'y', type: 'Carrier pigeon' }] } },
      'status.links[0].type: Unsupported value: "Carrier pigeon"',
    ],
    [{ status: { engines: [{ name: 'mlx' }, { name: 'mlx' }] } }, 'status.engines[1]: Duplicate value: "mlx"'],
  ])('a node with %j', (fields, fault) => {
    const faults = faultsOf(manifestOf('Node', fields))
    expect(faults).toHaveLength(1)
    expect(faults[0]).toContain(fault)
  })
  test('a model says something', () => {
    expect(faultsOf(manifestOf('Model', { spec: {} }))).toEqual([
      'spec: Required value: at least one of `source` and `shape` must be set',
    ])
  })
  test.each([
    [{ layerBytes: [1, 2] }, 'spec.shape.layerBytes'],
    [{ activeParameters: 7616000001 }, 'spec.shape.activeParameters'],
    [{ kvHeads: 29 }, 'spec.shape.kvHeads'],
    [{ experts: { count: 2, perToken: 3 } }, 'spec.shape.experts.perToken'],
    [{ weightBytes: 2 ** 60 }, 'spec.shape.weightBytes'],
  ])('a shape that contradicts itself by %j is refused', (bent, field) => {
    expect(faultsOf(manifestOf('Model', { spec: { shape: { ...shape, ...bent } } }))[0]).toContain(
      `${field}: Invalid value`,
    )
  })
})

describe('what mctl writes itself', () => {
  test('the ledger counts memoryBytes, so it is the sum of its parts', () => {
    const members = [{ ...member(0), memoryBytes: 99 }, member(1)]
    expect(faultsOf(shardGroup({ members }))).toEqual([
      'spec.members[0].memoryBytes: Invalid value: 99: must be the sum of its parts, 100',
    ])
    expect(faultsOf(shard({ parts: { ...parts, kv: 31 } }))).toHaveLength(1)
  })
  test('a group has each rank once', () => {
    expect(faultsOf(shardGroup({ members: [member(0), { ...member(1), rank: 0 }] }))).toEqual([
      'spec.members[1]: Duplicate value: "rank 0"',
    ])
  })
  test('a binding is whole: who has members says how they are cut and joined', () => {
    expect(faultsOf(manifestOf('ShardGroup', { spec: { ...unboundGroup, members: [member(0)] } }))).toEqual(
      ['strategy', 'engine', 'transport', 'planHash'].map(
        (name) => `spec.${name}: Required value: is part of a binding`,
      ),
    )
  })
  test('a successor has a later epoch', () => {
    expect(faultsOf(shardGroup({ next: epochFields }))).toEqual([
      'spec.next.epoch: Invalid value: 1: must be greater than spec.epoch, 1',
    ])
  })
  test('a rank is below the world size, a stage is not empty, a rendezvous has one entry per rank', () => {
    expect(
      faultsOf(shard({ rank: 2, stage: [2, 2], rendezvous: { startByMs: 1, hosts: [['127.0.0.1:1']] } })),
    ).toHaveLength(3)
  })
})

describe('apiVersion and kind', () => {
  test.each([
    [{}, ['apiVersion: Required value', 'kind: Required value']],
    [
      { apiVersion: 'v1', kind: 'Node' },
      ['apiVersion: Unsupported value: "v1": supported values: "mctl.dev/v1alpha1"'],
    ],
    [null, ['must be a map with apiVersion, kind and metadata']],
    [
      { apiVersion: 'mctl.dev/v1alpha1', kind: 'toString' },
      [expect.stringMatching(/^kind: Unsupported value: "toString"/)],
    ],
  ])('%j', (value, faults) => {
    expect(
      validate(value as Manifest).map(({ field, message }) => (field === '' ? message : `${field}: ${message}`)),
    ).toEqual(faults)
  })
})

test('any JSON value gets an answer, never an exception, and never more than about a hundred causes', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...kindNames),
      fc.jsonValue(),
      fc.jsonValue(),
      fc.jsonValue(),
      (kind, spec, status, metadata) => {
        const manifest = { apiVersion: 'mctl.dev/v1alpha1', kind, metadata, spec, status } as unknown as Manifest
        const causes = validate(applyDefaults(manifest))
        return causes.length <= 101 && causes.every((cause) => cause.message.length < 2000)
      },
    ),
  )
  const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`k${i}`, i]))
  expect(faultsOf(deployment(many))).toHaveLength(101)
})

test('a field bent to any other value is either accepted or named by its own path', () => {
  const fields = [
    'replicas',
    'parallelism',
    'serving',
    'engine',
    'placement',
    'update',
    'recovery',
    'priority',
    'servedName',
  ]
  fc.assert(
    fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) => {
      const faults = faultsOf(deployment({ [field]: value }))
      return faults.every((fault) => fault.includes(`spec.${field}`))
    }),
  )
})
