/**
 * A model's shape from its file headers: exact bytes per layer, of what every pipeline rank holds, and of what every
 * tensor rank holds whole (facts/engines.md §4; agrees with mlx's active memory), and what a sequence costs in each layer.
 * By general rules for every architecture of mlx-lm 0.32.2: test/e2e/mlx/families.test.ts asks the engine.
 */
import type { ModelShape } from '../model.ts'
import { cachesOf, cacheShape } from './caches.ts'
import type { ModelConfig } from './config.ts'
import { readConfig } from './config.ts'
import type { ModelFiles } from './files.ts'
import { ggufFiles, ggufParts, shapeOfGguf } from './ggufshape.ts'
import { isEmbedding, isExpert, isHead, isLoaded, isReplicated, layerOf } from './names.ts'
import type { Held } from './packing.ts'
import { bytesPerLayer, heldTensors, mostly } from './packing.ts'
import type { Tensor } from './safetensors.ts'
import { readTensors, safetensorsFiles } from './safetensors.ts'
import { sizesOf } from './sizes.ts'

export type { ModelFiles } from './files.ts'

/** The shape of the model; reads headers only. OpError Invalid names the file and what is wrong with it. */
export async function shapeOfModel(model: ModelFiles): Promise<ModelShape> {
  const hasTensors = model.files.some(({ name }) => name.endsWith('.safetensors'))
  if (!hasTensors && ggufFiles(model).length > 0) return shapeOfGguf(model)
  const config = await readConfig(model)
  return shapeFrom(config, await readTensors(model))
}

/** The files that hold the weights of the model, as `shapeOfModel` reads them. */
export async function weightsOf(model: ModelFiles): Promise<readonly string[]> {
  const hasTensors = model.files.some(({ name }) => name.endsWith('.safetensors'))
  return !hasTensors && ggufFiles(model).length > 0 ? ggufParts(model) : safetensorsFiles(model)
}

/** Pure: the sizes of the configuration and the tensors as a shape. */
export function shapeFrom(config: ModelConfig, all: readonly Tensor[]): ModelShape {
  const { architecture, layers, intermediateSize, experts } = config
  const loaded = all.filter(({ name }) => isLoaded(name, layers))
  const hasHead = loaded.some(({ name }) => isHead(name))
  // Without a head in the files there is none that could be its own.
  const tiedEmbeddings = !hasHead || config.tiedEmbeddings === true
  const tensors = heldTensors(
    config,
    loaded.filter(({ name }) => !(tiedEmbeddings && isHead(name))),
  )
  const sizes = sizesOf(config, loaded)
  const layerBytes = bytesPerLayer(tensors, layers)
  const nonLayerBytes = bytesOf(tensors.filter(({ name }) => layerOf(name) === undefined))
  const parameters = tensors.reduce((sum, t) => sum + t.parameters, 0)
  const idle = experts === undefined ? 0 : 1 - experts.perToken / experts.count
  const routed = tensors
    .filter((tensor) => isRouted(tensor, experts?.count))
    .reduce((sum, tensor) => sum + tensor.parameters, 0)
  return {
    architecture,
    layers,
    ...sizes,
    ...(intermediateSize === undefined ? {} : { intermediateSize }),
    tiedEmbeddings,
    parameters,
    activeParameters: Math.round(parameters - routed * idle),
    weightBytes: nonLayerBytes + layerBytes.reduce((total, bytes) => total + bytes, 0),
    quantization: mostly(tensors),
    ...(experts === undefined ? {} : { experts }),
    attention: config.mla === undefined ? 'Full' : 'Mla',
    layerBytes,
    nonLayerBytes,
    replicatedBytes: bytesOf(tensors.filter(({ name }) => layerOf(name) !== undefined && isReplicated(name))),
    ...cacheShape(cachesOf(config, sizes, loaded, activationBytes(loaded))),
  }
}

const bytesOf = (tensors: readonly Held[]): number => tensors.reduce((sum, { bytes }) => sum + bytes, 0)

/** Named as an expert, or stacked as many times as there are experts. */
const isRouted = ({ name, shape }: Held, count: number | undefined): boolean =>
  layerOf(name) !== undefined &&
  (isExpert(name) || (shape.length === 3 && shape[0] === count && !/conv|attn|attention/.test(name)))

/** Bytes of one activation: what comes out of the embedding, whose scales (or weights) have that type. */
function activationBytes(tensors: readonly Tensor[]): 2 | 4 {
  const embedding = tensors.filter(({ name }) => isEmbedding(name))
  const source = embedding.find(({ name }) => name.endsWith('.scales')) ?? embedding[0]
  return source?.dtype === 'F32' ? 4 : 2
}
