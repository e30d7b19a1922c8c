/**
 * A hub with one small model, `hf://demo/handed`, as a process of its own: `hubserver.ts ADDRESS FOLDER`. Writes its
 * address to FOLDER/endpoint, and each request for content as a line into FOLDER/asked.
 */
import { appendFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { json } from '../unit/api/modelfiles/folder.ts'
import { headerOnly, linear, llamaLayer, vector } from '../unit/api/modelfiles/virtual.ts'
import { TestHub } from './hub.ts'

const [address = '', folder = ''] = process.argv.slice(2)
const packing = { bits: 4, groupSize: 64 }
const layer = (at: string) => llamaLayer(at, packing, { hidden: 256, kv: 256, feedForward: 512 })
const header = headerOnly({
  ...linear('model.embed_tokens', packing, 8192, 256),
  ...vector('model.norm.weight', 256),
  ...layer('model.layers.0'),
  ...layer('model.layers.1'),
})
const config = {
  model_type: 'llama',
  hidden_size: 256,
  num_hidden_layers: 2,
  intermediate_size: 512,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 64,
  vocab_size: 8192,
  tie_word_embeddings: true,
  quantization: { group_size: 64, bits: 4 },
}
const weights = Buffer.alloc(header.sizeBytes)
weights.set(header.bytes.subarray(0, header.sizeBytes))

const hub = await TestHub.start(undefined, address)
hub.commit('demo/handed', { 'config.json': json(config), 'model.safetensors': weights })
hub.fault(
  ({ about, file, range }) => {
    if (about === 'content') appendFileSync(join(folder, 'asked'), `${file} ${range ?? 'whole'}\n`)
    return false
  },
  { headers: {} },
)
writeFileSync(join(folder, 'endpoint.new'), hub.endpoint)
renameSync(join(folder, 'endpoint.new'), join(folder, 'endpoint'))
