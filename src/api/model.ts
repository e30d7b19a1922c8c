/** Model: the shape of one set of weights. Optional for users; written by the system from the files' headers. */
import type { Condition, ObjectMeta } from './meta.ts'
import type { Engine, GroupStrategy } from './words.ts'

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
  /** Bytes that one token adds; read it through `kvBytesOf` (modelkv.ts), for windows and states are apart. */
  readonly kvBytesPerTokenPerLayer?: readonly number[]
  /** Tokens that a layer keeps at most; 0: all of them. Absent: no layer has a window. */
  readonly kvWindowTokensPerLayer?: readonly number[]
  /** Constant bytes of a sequence, whatever its length (linear attention, state spaces, convolutions). Absent: none. */
  readonly stateBytesPerSequencePerLayer?: readonly number[]
  /** Absent: safetensors. A GGUF model is for llama.cpp only. */
  readonly format?: 'Safetensors' | 'Gguf'
}

export interface ModelSpec {
  readonly source?: string
  readonly revision?: string
  readonly shape?: ModelShape
}

export interface ObservedRate {
  readonly strategy: GroupStrategy
  readonly degree: number
  /** Absent: it is taken for any engine's. */
  readonly engine?: Engine
  readonly linkClass: string
  /** One stream's. */
  readonly tokensPerSecond: number
  /** What the cost model says of the groups that the samples are from; absent: it is taken for the planned group's own. */
  readonly predictedTokensPerSecond?: number
  readonly samples: number
}

/** One file of a model as its source describes it: what a fetch asks for, and what it must get. */
export interface ModelFile {
  /** Relative to the model's folder. */
  readonly name: string
  readonly sizeBytes: number
  /** 64 hex digits, of the content. Absent only where the source tells none: a server of an https:// file. */
  readonly sha256?: string
  /** Then the server's own word for its content: ETag, or else Last-Modified; '' when it says neither. */
  readonly etag?: string
}

export interface ModelStatus {
  readonly shape?: ModelShape
  /** `sha256:…` over the files, as `digestOf` (modelfiles/digest.ts) makes it: the same from the hub and from a disk. */
  readonly digest?: string
  /** The commit that the revision stood for when it was read. It stays: a moved branch changes nothing by itself. */
  readonly resolvedRevision?: string
  /** Everything that an engine needs of the source at `resolvedRevision`, and nothing else, in order of names. */
  readonly files?: readonly ModelFile[]
  /** Resolved: the source was read, or why not. */
  readonly conditions?: readonly Condition[]
  readonly observed?: readonly ObservedRate[]
}

export interface Model {
  readonly apiVersion: string
  readonly kind: 'Model'
  readonly metadata: ObjectMeta
  readonly spec: ModelSpec
  readonly status?: ModelStatus
}
