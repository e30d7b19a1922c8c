/**
 * What a decision costs, in CPU time: one plan on 8 nodes, many deployments on 64, a thousand groups on 100, and how time
 * and memory grow with the nodes. Clusters are made up: four chips in turn, islands of four joined by Thunderbolt cables.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { applyDefaults } from '../../src/api/default.ts'
import type { Manifest } from '../../src/api/meta.ts'
import type { Model, ModelShape } from '../../src/api/model.ts'
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import type { LinkType, Node } from '../../src/api/node.ts'
import { parseManifests } from '../../src/api/yaml.ts'
import type * as Report from '../../src/planner/report.ts'
import { root } from '../support/processes.ts'
import { atBits, llama3b, qwen32b, qwen7b } from '../unit/planner/models.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

type PlanInput = Report.PlanInput

// What is shipped is measured, not what the loader of this file makes of it: that one names each closure at run time.
const { planReport } = (await import(join(root, 'dist/src/planner/report.js'))) as typeof Report

const CURVE_NODES = [4, 8, 16, 32, 64, 128, 256]
const ISLAND = 4
const machines = [
  { chip: 'Apple M4', gpuCores: 10, memory: '16Gi' },
  { chip: 'Apple M4', gpuCores: 10, memory: '32Gi' },
  { chip: 'Apple M4 Pro', gpuCores: 20, memory: '48Gi' },
  { chip: 'Apple M4 Pro', gpuCores: 20, memory: '64Gi' },
] as const
const shapes: Readonly<Record<string, ModelShape>> = {
  tiny: { ...atBits({ ...llama3b, layers: 16, hiddenSize: 2048, parameters: 1.236e9 }, 4) },
  small: atBits(llama3b, 4),
  middle: atBits(qwen7b, 16),
  large: atBits(qwen32b, 8),
}

export function benchPlan(): Row[] {
  return [
    {
      what: 'plan of a 32B model on 3 nodes, p50 (p99)',
      value: spread(timesOf(200, { ...experiment(), independent: true })),
      aim: '≤ 10 ms',
    },
    {
      what: 'one plan on 8 nodes, every cut tried, p50 (p99)',
      value: spread(timesOf(200, { ...cluster(8, 'mesh'), deployments: deployments(1, 1) })),
      aim: '≤ 5 ms',
    },
    {
      what: '50 deployments on 64 nodes, p50 (p99)',
      value: spread(timesOf(20, { ...cluster(64, 'mesh'), deployments: deployments(50, 1) })),
      aim: '≤ 100 ms',
    },
    {
      what: '1,000 groups on 100 nodes planned anew, p50',
      value: ms(percentile(timesOf(6, { ...cluster(100, 'mesh'), deployments: deployments(1000, 1, 'tiny') }), 0.5)),
      aim: '≤ 1,000 ms',
    },
    ...CURVE_NODES.map((nodes): Row => {
      const input = { ...cluster(nodes, 'islands'), deployments: deployments(20, 1) }
      const times = timesOf(5, input)
      return {
        what: `20 deployments on ${nodes} nodes, p50, and heap`,
        value: `${ms(percentile(times, 0.5))}, ${heapOf(input)}`,
        aim: 'near-linear',
      }
    }),
  ]
}

const spread = (sorted: readonly number[]): string => `${ms(percentile(sorted, 0.5))} (${ms(percentile(sorted, 0.99))})`

/** CPU milliseconds of each round, the fastest first; the first rounds, in which code is compiled, are not counted. */
function timesOf(rounds: number, input: PlanInput): number[] {
  const times: number[] = []
  const warmUp = Math.max(3, Math.ceil(rounds / 3))
  for (let round = -warmUp; round < rounds; round++) {
    const start = process.cpuUsage()
    planReport(input)
    const { user, system } = process.cpuUsage(start)
    if (round >= 0) times.push((user + system) / 1000)
  }
  return sortedOf(times)
}

/** What one plan leaves on the heap before any of it is collected. */
function heapOf(input: PlanInput): string {
  const before = process.memoryUsage().heapUsed
  planReport(input)
  const grown = process.memoryUsage().heapUsed - before
  return grown < 0 ? 'heap collected meanwhile' : `${(grown / 2 ** 20).toFixed(1)} MiB`
}

function experiment(): PlanInput {
  const read = (name: string): Manifest[] => {
    const file = join(root, 'manifests/experiments', name)
    return parseManifests(readFileSync(file), file).manifests.map((m) => applyDefaults(m.manifest))
  }
  const nodes = read('nodes.yaml')
  const third = { ...nodes[0], metadata: { name: 'mini-3' } } as Manifest
  const objects = [...nodes, third, ...read('qwen-32b.yaml')]
  const ofKind = (kind: string) => objects.filter((object) => object.kind === kind) as never
  return { nodes: ofKind('Node'), models: ofKind('Model'), deployments: ofKind('ModelDeployment') }
}

/** `mesh`: besides the cables, every node reports Ethernet to every other one, so that its links grow with the square. */
function cluster(count: number, network: 'mesh' | 'islands'): Pick<PlanInput, 'nodes' | 'models'> {
  const names = Array.from({ length: count }, (_, i) => `mini-${String(i).padStart(3, '0')}`)
  const nodes = names.map((name, i): Node => {
    const { memory, ...nodeInfo } = machines[i % machines.length] as (typeof machines)[number]
    const links = names.flatMap((peer, j) => {
      const cabled = Math.floor(i / ISLAND) === Math.floor(j / ISLAND)
      const types: LinkType[] = [
        ...(cabled ? ['Thunderbolt4' as const] : []),
        ...(network === 'mesh' ? ['Ethernet10G' as const] : []),
      ]
      return i === j ? [] : types.map((type) => ({ peer, type, transport: 'TCP' as const }))
    })
    const status = { nodeInfo, capacity: { memory }, links }
    return { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name }, spec: {}, status } as unknown as Node
  })
  const models = Object.entries(shapes).map(
    ([name, shape]) =>
      ({ apiVersion: 'mctl.dev/v1alpha1', kind: 'Model', metadata: { name }, spec: { shape } }) as Model,
  )
  return { nodes: nodes.map((node) => applyDefaults(node as never) as unknown as Node), models }
}

/** Models in turn, or one of them; contexts short enough that many fit. */
function deployments(count: number, replicas: number, model?: string): readonly ModelDeployment[] {
  const names = ['small', 'middle', 'large']
  return Array.from({ length: count }, (_, i) => {
    const manifest = {
      apiVersion: 'mctl.dev/v1alpha1',
      kind: 'ModelDeployment',
      metadata: { name: `chat-${String(i).padStart(4, '0')}` },
      spec: {
        model: { name: model ?? names[(i + 1) % names.length] },
        replicas,
        serving: { contextTokens: 1024, concurrency: 1 },
      },
    }
    return applyDefaults(manifest as never) as unknown as ModelDeployment
  })
}
