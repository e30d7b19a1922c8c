/** What it costs to plan for a model of 100 files on the hub: listing, headers by range, shape; nothing else is read. */
import { performance } from 'node:perf_hooks'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { createHub } from '../../src/server/hub/hub.ts'
import { TestHub, virtual } from '../support/hub.ts'
import { json } from '../unit/api/modelfiles/folder.ts'
import { headerOnly, linear, llamaLayer, vector } from '../unit/api/modelfiles/virtual.ts'
import type { Row } from './stats.ts'

const FILES = 100
const NAME = 'bench/hundred'
const packing = { bits: 4, groupSize: 64 }

/** A llama of 100 layers, one to a file: about 60 GB that nobody downloads. */
function hundredFiles(): Record<string, Uint8Array | ReturnType<typeof virtual>> {
  const files: Record<string, Uint8Array | ReturnType<typeof virtual>> = {}
  const weightMap: Record<string, string> = {}
  for (let layer = 0; layer < FILES; layer++) {
    const at = `model.layers.${layer}`
    const tensors = {
      ...llamaLayer(at, packing, { hidden: 8192, kv: 1024, feedForward: 28672 }),
      ...(layer === 0
        ? { ...linear('model.embed_tokens', packing, 128256, 8192), ...vector('model.norm.weight', 8192) }
        : {}),
    }
    const name = `model-${String(layer + 1).padStart(5, '0')}-of-00100.safetensors`
    for (const tensor of Object.keys(tensors)) weightMap[tensor] = name
    files[name] = virtual(headerOnly(tensors))
  }
  const config = {
    model_type: 'llama',
    hidden_size: 8192,
    num_hidden_layers: FILES,
    intermediate_size: 28672,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 128256,
    tie_word_embeddings: true,
    quantization: { group_size: 64, bits: 4 },
  }
  const index = json({ weight_map: weightMap })
  return { ...files, 'config.json': json(config), 'model.safetensors.index.json': index }
}

export async function benchHeaders(): Promise<Row[]> {
  const hub = await TestHub.start()
  try {
    hub.commit(NAME, hundredFiles())
    const client = createHub({ endpoint: hub.endpoint, clock: systemClock, random: systemRandom })
    const times: number[] = []
    for (let round = 0; round < 3; round++) {
      const startMs = performance.now()
      await client.read(NAME, 'main', new AbortController().signal)
      times.push(performance.now() - startMs)
    }
    const kilobytes = hub.bytesSent() / times.length / 1000
    const requests = Math.round(hub.requests.length / times.length)
    return [
      {
        what: 'headers of a model of 100 files from a hub, to a shape',
        value: `${(Math.min(...times) / 1000).toFixed(2)} s, ${kilobytes.toFixed(0)} kB in ${requests} requests`,
        aim: 'seconds',
      },
    ]
  } finally {
    await hub.stop()
  }
}
