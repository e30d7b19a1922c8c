import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished, expect, test } from 'vitest'
import { DiskShelf } from '../../../../agent/models.ts'
import { digestOf, neededFiles } from '../../../../src/api/modelfiles/digest.ts'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { silentLogger } from '../../../../src/lib/log.ts'
import { VirtualClock } from '../../../support/virtualclock.ts'
import { json, llama, llamaConfig, safetensors } from './folder.ts'

test('what an engine needs, and no other weights, texts or folders', () => {
  const names = [
    'README.md',
    'LICENSE.txt',
    'USE_POLICY.txt',
    'config.json',
    'tokenizer.model',
    'merges.txt',
    'chat_template.jinja',
    'model-1.safetensors',
    'consolidated.safetensors',
    'original/model.safetensors',
    'model.gguf',
    '.gitattributes',
    '.hidden.json',
    'modeling_x.py',
  ]
  expect(neededFiles(names, ['model-1.safetensors'])).toEqual([
    'chat_template.jinja',
    'config.json',
    'merges.txt',
    'model-1.safetensors',
    'tokenizer.model',
  ])
})

test('the digest that the hub tells is the one that an agent makes of the same files on disk', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'mctl-digest-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const contents = {
    'config.json': json(llamaConfig),
    'model.safetensors': safetensors(llama()),
    'merges.txt': Buffer.from('a b'),
  }
  mkdirSync(join(dir, 'm'))
  for (const [name, bytes] of Object.entries(contents)) writeFileSync(join(dir, 'm', name), bytes)
  const shelf = new DiskShelf({
    modelsDir: dir,
    cacheFile: join(dir, '.digests.json'),
    shapeOf: shapeOfModel,
    bootId: 'boot',
    clock: new VirtualClock(),
    log: silentLogger,
  })
  await shelf.scan()
  const files = Object.entries(contents).map(([name, bytes]) => ({
    name,
    sizeBytes: bytes.byteLength,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }))
  expect(shelf.list()).toMatchObject([{ state: 'Present', digest: digestOf(files) }])
})
