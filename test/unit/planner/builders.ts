/** Demands and nodes in few words for placement tests: sizes in GiB, an unknown reserve, one chip unless said. */
import type { ModelShape } from '../../../src/api/model.ts'
import type { DeploymentTemplate } from '../../../src/api/modeldeployment.ts'
import type { Demand, NodeView } from '../../../src/planner/placement/types.ts'

export const GiB = 2 ** 30

export interface NodeWish extends Partial<NodeView> {
  readonly freeGiB?: number
}
/** A Ready M4 without links, engines or a list of models: nothing speaks against it but its bytes. */
export function aNode(name: string, { freeGiB = 10, ...wish }: NodeWish = {}): NodeView {
  return {
    name,
    labels: {},
    ready: true,
    unschedulable: false,
    taints: [],
    allocatableBytes: Math.round(freeGiB * GiB),
    boundBytes: 0,
    nodeInfo: { chip: 'Apple M4', gpuCores: 10 },
    memoryBytes: Math.round(freeGiB * GiB),
    engines: [],
    links: [],
    models: undefined,
    ...wish,
  }
}

export interface DemandWish {
  readonly parallelism?: Partial<DeploymentTemplate['parallelism']>
  readonly serving?: Partial<DeploymentTemplate['serving']>
  readonly placement?: Partial<DeploymentTemplate['placement']>
  readonly engine?: DeploymentTemplate['engine']['name']
  readonly source?: string
  readonly digest?: string
  readonly siblingNodes?: readonly string[]
}
export function aDemand(shape: ModelShape, wish: DemandWish = {}): Demand {
  return {
    shape,
    source: wish.source,
    digest: wish.digest,
    siblingNodes: wish.siblingNodes ?? [],
    template: {
      model: { source: wish.source ?? 'file:x' },
      servedName: 'x',
      parallelism: { strategy: 'Auto', objective: 'Latency', transport: 'Auto', split: [], ...wish.parallelism },
      serving: { contextTokens: 256, concurrency: 1, maxOutputTokens: 256, ...wish.serving },
      engine: { name: wish.engine ?? 'mlx', args: [] },
      placement: { nodeSelector: {}, nodes: [], tolerations: [], spread: 'Prefer', ...wish.placement },
    },
  }
}

/** A qwen2 of so many GiB of layers, 0 bytes of ends and next to no KV: needs are then easy to count. */
export function aModel(weightsGiB: number, layers = 12, change: Partial<ModelShape> = {}): ModelShape {
  return {
    architecture: 'qwen2',
    layers,
    hiddenSize: 1024,
    intermediateSize: 4096,
    attentionHeads: 16,
    kvHeads: 8,
    headDim: 64,
    vocabSize: 1000,
    tiedEmbeddings: true,
    parameters: weightsGiB * GiB,
    weightBytes: weightsGiB * GiB,
    layerBytes: Array.from({ length: layers }, () => (weightsGiB * GiB) / layers),
    nonLayerBytes: 0,
    replicatedBytes: 0,
    kvBytesPerTokenPerLayer: Array.from({ length: layers }, () => 1),
    ...change,
  }
}

/** Every subset of so many, each in the order of `items`. */
export function subsets<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  if (size === 0) return [[]]
  return items.flatMap((item, i) => subsets(items.slice(i + 1), size - 1).map((rest) => [item, ...rest]))
}
