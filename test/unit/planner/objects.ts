/** Stored objects in few words, for tests that plan whole reports. */
import { applyDefaults } from '../../../src/api/default.ts'
import type { Model, ModelShape, ModelStatus } from '../../../src/api/model.ts'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node, NodeLink, NodePort } from '../../../src/api/node.ts'

const apiVersion = 'mctl.dev/v1alpha1'
/** Thin manifests have no server-made metadata. */
const filled = <T>(manifest: object): T => applyDefaults(manifest as never) as unknown as T

export interface MacWish {
  readonly chip?: string
  readonly gpuCores?: number
  readonly memory?: string
  readonly gpuMemory?: string
  readonly links?: readonly NodeLink[]
  readonly anyCut?: boolean
}

export function aMac(name: string, wish: MacWish = {}): Node {
  const { chip = 'Apple M4', gpuCores, memory = '16Gi', gpuMemory, links = [] } = wish
  const engine = { name: 'mlx', version: '1', transports: ['Ring', 'Jaccl'], pipeline: ['*'], tensor: ['*'] }
  return filled({
    apiVersion,
    kind: 'Node',
    metadata: { name },
    spec: {},
    status: {
      nodeInfo: { chip, ...(gpuCores === undefined ? {} : { gpuCores }) },
      capacity: { memory, ...(gpuMemory === undefined ? {} : { gpuMemory }) },
      links,
      ...(wish.anyCut === true ? { engines: [engine] } : {}),
    },
  })
}

/** The Thunderbolt port `own`, with a cable to the port `peer` of another Mac. */
export const aThunderboltPort = (own: string, peer: string, more: Partial<NodePort> = {}): NodePort => ({
  interface: `tb-${own}`,
  type: 'Thunderbolt',
  addresses: [],
  speedGbps: 40,
  domainUuid: own,
  peerDomainUuid: peer,
  ...more,
})

/** Nodes of one kind, each with such a link to every other one. */
export function cabled(names: readonly string[], link: Omit<NodeLink, 'peer'>, wish: MacWish = {}): readonly Node[] {
  return names.map((name) =>
    aMac(name, { ...wish, links: names.filter((n) => n !== name).map((peer) => ({ ...link, peer })) }),
  )
}

export const aModelOf = (name: string, shape: ModelShape, status?: ModelStatus): Model =>
  filled({
    apiVersion,
    kind: 'Model',
    metadata: { name },
    spec: { shape },
    ...(status === undefined ? {} : { status }),
  })

export interface SpecWish {
  readonly model?: string
  readonly replicas?: number
  readonly parallelism?: Partial<ModelDeployment['spec']['parallelism']>
  readonly serving?: { readonly contextTokens: number; readonly concurrency: number }
  readonly engine?: string
  readonly spread?: string
  readonly priority?: number
}

export const aDeployment = (name: string, wish: SpecWish = {}): ModelDeployment =>
  filled({
    apiVersion,
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model: { name: wish.model ?? 'm' },
      replicas: wish.replicas ?? 1,
      parallelism: wish.parallelism ?? {},
      serving: wish.serving ?? { contextTokens: 1024, concurrency: 1 },
      ...(wish.engine === undefined ? {} : { engine: { name: wish.engine } }),
      ...(wish.spread === undefined ? {} : { placement: { spread: wish.spread } }),
      priority: wish.priority ?? 0,
    },
  })
