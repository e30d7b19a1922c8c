/** Model: the shape of one set of weights. Optional for users; written by the system from the files' headers. */
import type { ObjectMeta } from './meta.ts'
import type { GroupStrategy } from './words.ts'

export interface ModelShape {
  readonly architecture: string
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize?: number
  readonly attentionHeads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabSize: number
  readonly tiedEmbeddings?: boolean
  readonly parameters: number
  readonly activeParameters?: number
  readonly weightBytes: number
  readonly quantization?: { readonly bits: number; readonly groupSize?: number }
  readonly experts?: { readonly count: number; readonly perToken: number }
  readonly attention?: 'Full' | 'Mla'
  readonly slidingWindow?: number
  /** Exact figures from the headers; where absent, the formulas of facts/performance.md stand in. */
  readonly layerBytes?: readonly number[]
  readonly nonLayerBytes?: number
  /** Bytes of layer tensors that every tensor rank holds whole. */
  readonly replicatedBytes?: number
  readonly kvBytesPerTokenPerLayer?: readonly number[]
}

export interface ModelSpec {
  readonly source?: string
  readonly revision?: string
  readonly shape?: ModelShape
}

export interface ObservedRate {
  readonly strategy: GroupStrategy
  readonly degree: number
  readonly linkClass: string
  readonly tokensPerSecond: number
  readonly samples: number
}

export interface ModelStatus {
  readonly shape?: ModelShape
  /** `sha256:…` over the files. */
  readonly digest?: string
  readonly resolvedRevision?: string
  readonly observed?: readonly ObservedRate[]
}

export interface Model {
  readonly apiVersion: string
  readonly kind: 'Model'
  readonly metadata: ObjectMeta
  readonly spec: ModelSpec
  readonly status?: ModelStatus
}
