/** A dev cluster that serves a tiny random model with real MLX: starts fast, answers fast, dies as the big ones do. */
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import type { Shard } from '../../src/api/shard.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { isTrue } from '../../src/api/conditions.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { tempFolder, tinyModel } from './mlx.ts'

/** A models folder with `tiny` (qwen2, 5 layers: pipelines in any split, tensor-shards over 2). `stopAll` removes it. */
export function tinyModelsDir(): string {
  const modelsDir = tempFolder()
  renameSync(tinyModel('qwen2', 5), join(modelsDir, 'tiny'))
  return modelsDir
}

export const tinyDeployment = (name: string, parallelism: object, more: object = {}): string =>
  JSON.stringify({
    apiVersion: 'mctl.dev/v1alpha1',
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model: { source: 'file:tiny' },
      parallelism,
      serving: { contextTokens: 512, concurrency: 2 },
      engine: { name: 'mlx' },
      ...more,
    },
  })

export const groupOf = async (client: Client, name: string): Promise<ShardGroup> =>
  (await client.get({ ref: { kind: 'ShardGroup', namespace: 'default', name } })).object as ShardGroup

export const shardsOf = async (client: Client, group: string): Promise<readonly Shard[]> =>
  (await client.list({ kind: 'Shard', fieldSelector: `spec.group=${group}` })).items as readonly Shard[]

/** The group is Ready in this epoch, and so is the deployment that clients ask for. */
export async function readyIn(client: Client, group: string, epoch: number): Promise<boolean> {
  const { spec, status } = await groupOf(client, group)
  return spec.epoch === epoch && isTrue(status?.conditions, 'Ready')
}

export const complete = (gateway: string, model: string, more: object = {}, signal?: AbortSignal): Promise<Response> =>
  fetch(`http://${gateway}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model, prompt: 'hello', max_tokens: 8, temperature: 0, ...more }),
    ...(signal === undefined ? {} : { signal }),
  })
