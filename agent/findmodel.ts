/** Which folder (or GGUF file) of this node a shard's model is: its source must be here, whole, and of the digest that was planned with. */
import type { Shard } from '../src/api/shard.ts'
import { readsFiles } from '../src/api/shard.ts'
import type { LocalModel } from './models.ts'

export type FoundModel =
  | { readonly kind: 'Unknown' }
  | { readonly kind: 'Found'; readonly dir: string | undefined }
  | { readonly kind: 'Refused'; readonly reason: string; readonly message: string }

/** The verified folder of a shard's model. A shard without a source is of a shape only and needs no files. */
export function findModel(shard: Shard, models: readonly LocalModel[] | undefined): FoundModel {
  const { source, digest } = shard.spec.model
  if (source === undefined || !readsFiles(shard)) return { kind: 'Found', dir: undefined }
  if (models === undefined) return { kind: 'Unknown' }
  const model = models.find((m) => m.source === source)
  if (model === undefined)
    return {
      kind: 'Refused',
      reason: 'ModelNotPresent',
      message: source.startsWith('file:')
        ? `${source} is not in the models folder of this node: put ${source.slice(5)} there, a folder with config.json and safetensors or with GGUF, or a GGUF file`
        : `this node holds no files of ${source}, and this agent fetches no models: put them into its models folder and deploy file:NAME`,
    }
  if (model.state === 'Fetching') return { kind: 'Unknown' }
  if (model.state === 'Corrupt')
    return {
      kind: 'Refused',
      reason: 'ModelInvalid',
      message: `${source}: ${model.problem ?? 'its files are not whole'}`,
    }
  if (digest !== undefined && model.digest !== digest)
    return {
      kind: 'Refused',
      reason: 'ModelDigestMismatch',
      message: `${source} on this node has digest ${model.digest ?? 'unknown'}, the deployment was planned with ${digest}`,
    }
  return { kind: 'Found', dir: model.dir }
}
