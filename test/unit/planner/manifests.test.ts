/** Every file under manifests/ is valid and plans as it says; the three experiments have golden figures (DESIGN §12). */
import { readFileSync, readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { applyDefaults } from '../../../src/api/default.ts'
import type { Model } from '../../../src/api/model.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import { validate } from '../../../src/api/validate.ts'
import { parseManifests } from '../../../src/api/yaml.ts'
import type { PlanItem } from '../../../src/planner/report.ts'
import { planReport } from '../../../src/planner/report.ts'

const root = new URL('../../../manifests/', import.meta.url)
const read = (file: string) => {
  const { manifests, causes } = parseManifests(readFileSync(new URL(file, root)), file)
  const filled = manifests.map((m) => applyDefaults(m.manifest))
  return { filled, causes: [...causes, ...filled.flatMap((m) => validate(m))] }
}
/** Valid and defaulted, so they have the shape of their kinds. */
const ofKind = <T>(files: readonly string[], kind: string): readonly T[] =>
  files.flatMap((file) => read(file).filled.filter((m) => m.kind === kind)) as unknown as readonly T[]

function planOf(nodes: readonly Node[], ...files: string[]): PlanItem {
  const [item] = planReport({
    nodes,
    models: ofKind<Model>(files, 'Model').concat(demoModel),
    deployments: ofKind<ModelDeployment>(files, 'ModelDeployment'),
  }).items
  if (item === undefined) throw new Error('no item')
  return item
}
const minis = ofKind<Node>(['experiments/nodes.yaml'], 'Node')
const near = (actual: number | undefined, expected: number) => {
  expect((actual ?? 0) / expected).toBeGreaterThan(0.995)
  expect((actual ?? 0) / expected).toBeLessThan(1.005)
}
const alternative = (item: PlanItem, strategy: string, degree: number) =>
  item.alternatives.find((a) => a.strategy === strategy && a.degree === degree)

/** What agents report of the demo model: 12/4 heads after padding, exact bytes of its files. */
const demoModel = {
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Model',
  metadata: { name: 'smollm2-135m', uid: '', resourceVersion: '1', generation: 1, creationTimestamp: '' },
  spec: { source: 'file:smollm2-135m' },
  status: {
    shape: {
      architecture: 'ministral3',
      layers: 30,
      hiddenSize: 576,
      intermediateSize: 1536,
      attentionHeads: 12,
      kvHeads: 4,
      headDim: 64,
      vocabSize: 49152,
      tiedEmbeddings: true,
      parameters: 141e6,
      weightBytes: 116_000_000,
      quantization: { bits: 4, groupSize: 32 },
      layerBytes: Array.from({ length: 30 }, () => 2_680_000),
      nonLayerBytes: 35_600_000,
      replicatedBytes: 30 * 4608,
    },
  },
} as const satisfies Model

const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.yaml'))
test.each(files)('manifests/%s is valid', (file) => {
  const { filled, causes } = read(file)
  expect(causes).toEqual([])
  expect(filled.length).toBeGreaterThan(0)
})

test('nodes.yaml holds both Nodes and nothing else', () => {
  expect(read('experiments/nodes.yaml').filled.map((m) => `${m.kind}/${m.metadata.name}`)).toEqual([
    'Node/mini-1',
    'Node/mini-2',
  ])
})

describe('experiment 1: llama-3b', () => {
  const item = planOf(minis, 'experiments/llama-3b.yaml')
  test('one node per replica, both served', () => {
    expect(item).toMatchObject({ name: 'llama-3b', schedulable: true, strategy: 'Single', degree: 1, refusals: [] })
    expect(item.replicas.map((r) => r.ranks.map((rank) => [rank.node, rank.layers]))).toEqual([
      [['mini-1', [0, 28]]],
      [['mini-2', [0, 28]]],
    ])
    near(item.predicted?.decodeTokensPerSecond, 49.3)
    near(item.predicted?.aggregateTokensPerSecond, 98.6)
  })
  test('sharding it is predicted slower', () => {
    near(alternative(item, 'Tensor', 2)?.decodeTokensPerSecond, 33.35)
    near(alternative(item, 'Pipeline', 2)?.decodeTokensPerSecond, 42.05)
    expect(alternative(item, 'Tensor', 2)?.reason).toContain('32 % slower')
    expect(alternative(item, 'Pipeline', 2)?.reason).toContain('15 % slower')
  })
})

describe('experiment 2: deepseek-7b', () => {
  const item = planOf(minis, 'experiments/deepseek-7b.yaml')
  test('Tensor of 2 is chosen, Pipeline of 2 is the slower way', () => {
    expect(item).toMatchObject({ schedulable: true, strategy: 'Tensor', degree: 2, transport: 'Ring' })
    near(item.predicted?.decodeTokensPerSecond, 11.07)
    near(alternative(item, 'Pipeline', 2)?.decodeTokensPerSecond, 6.93)
    expect(alternative(item, 'Pipeline', 2)?.reason).toMatch(/each GPU is busy about half of the time/)
  })
  test('one node is refused with bytes', () => {
    expect(alternative(item, 'Single', 1)).toMatchObject({ schedulable: false })
    expect(item.refusals.map((r) => [r.node, r.reason])).toEqual([
      ['mini-1', 'InsufficientMemory'],
      ['mini-2', 'InsufficientMemory'],
    ])
    expect((item.refusals[0]?.needBytes ?? 0) / 1e9).toBeCloseTo(16.29, 2)
    expect((item.refusals[0]?.haveBytes ?? 0) / 1e9).toBeCloseTo(10.88, 2)
  })
  test('8-bit weights would fit one node', () => {
    expect(item.hints.join()).toMatch(/8-bit weights \(8\.1 GB\) fit one node/)
  })
})

describe('experiment 3: qwen-32b', () => {
  const item = planOf(minis, 'experiments/qwen-32b.yaml')
  test('refused: 11.73 GB needed per node, 10.88 GB there', () => {
    expect(item).toMatchObject({ schedulable: false, replicas: [] })
    expect(item.message).toBe('0/2 nodes are available: 2 Insufficient memory (need 10.9Gi, best free 10.1Gi)')
    for (const refusal of item.refusals) {
      expect((refusal.needBytes ?? 0) / 1e9).toBeCloseTo(11.73, 2)
      expect((refusal.haveBytes ?? 0) / 1e9).toBeCloseTo(10.88, 2)
    }
  })
  test('the ways out that were planned: llama.cpp with fewer tokens, a third node, 3 bits, a higher limit', () => {
    const hints = item.hints.join('\n')
    expect(hints).toMatch(/serving\.contextTokens: 1536 fits as Pipeline of 2/)
    expect(hints).toMatch(/llamacpp .*serving\.contextTokens: 4864 fit/)
    expect(hints).toMatch(/one more node like mini-1 \(Apple M4, 16\.0Gi\) fits as Pipeline of 3/)
    expect(hints).toMatch(/3-bit weights \(14\.3 GB\) fit/)
    expect(hints).toMatch(/iogpu\.wired_limit_mb=\d+ on mini-1, \d+ on mini-2/)
  })
})

describe('the demo on three laboratory minis', () => {
  const three: readonly Node[] = [1, 2, 3].map((n) => ({
    ...(minis[0] as Node),
    metadata: { ...(minis[0] as Node).metadata, name: `node-${n}` },
    status: { nodeInfo: { chip: 'Apple M4', simulated: true }, capacity: { memory: '16Gi' } },
  }))
  const layersOf = (item: PlanItem) => item.replicas.map((r) => r.ranks.map((rank) => [rank.rank, ...rank.layers]))
  test('data: two whole replicas on two nodes', () => {
    const item = planOf(three, 'demo/data.yaml')
    expect(item.strategy).toBe('Single')
    expect(layersOf(item)).toEqual([[[0, 0, 30]], [[0, 0, 30]]])
    expect(new Set(item.replicas.map((r) => r.ranks[0]?.node)).size).toBe(2)
  })
  test('pipeline: 20 layers and 10, the leader holds the last ones', () => {
    const item = planOf(three, 'demo/pipeline.yaml')
    expect(item).toMatchObject({ schedulable: true, strategy: 'Pipeline', degree: 2 })
    expect(layersOf(item)).toEqual([
      [
        [0, 20, 30],
        [1, 0, 20],
      ],
    ])
  })
  test('tensor: every rank holds every layer', () => {
    const item = planOf(three, 'demo/tensor.yaml')
    expect(item).toMatchObject({ schedulable: true, strategy: 'Tensor', degree: 2 })
    expect(layersOf(item)).toEqual([
      [
        [0, 0, 30],
        [1, 0, 30],
      ],
    ])
  })
  test('too-big: refused in bytes though there are no files to miss', () => {
    const withModels = three.map((n) => ({ ...n, status: { ...n.status, models: [] } }))
    const item = planOf(withModels, 'demo/too-big.yaml')
    expect(item.schedulable).toBe(false)
    expect(item.message).toMatch(
      /^0\/3 nodes are available: 3 Insufficient memory \(need \d+\.\dGi, best free 10\.1Gi\)$/,
    )
    expect(item.refusals.every((r) => (r.needBytes ?? 0) > (r.haveBytes ?? 0))).toBe(true)
  })
})
