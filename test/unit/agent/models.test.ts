import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DiskShelf } from '../../../agent/models.ts'
import type { ModelFiles } from '../../../src/api/modelfiles/files.ts'
import type { ModelShape } from '../../../src/api/model.ts'
import { shapeOfModel } from '../../../src/api/modelfiles/shape.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { VirtualClock } from '../../support/virtualclock.ts'
import { F16, ggufFile } from '../api/modelfiles/gguffile.ts'

const shape = { architecture: 'llama', layers: 1 } as ModelShape

let dir: string
let shapesRead: number
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mctl-models-'))
  shapesRead = 0
})
afterEach(() => rm(dir, { recursive: true }))

const shelf = (shapeOf: (model: ModelFiles) => Promise<ModelShape> = () => Promise.resolve(shape)) => {
  const warnings: unknown[] = []
  const log = { ...silentLogger, warn: (_: string, facts?: unknown) => void warnings.push(facts) }
  const counted = (model: ModelFiles) => {
    shapesRead += 1
    return shapeOf(model)
  }
  const cacheFile = join(dir, 'state', 'digests.json')
  const disk = new DiskShelf({
    modelsDir: join(dir, 'models'),
    cacheFile,
    shapeOf: counted,
    bootId: 'boot',
    clock: new VirtualClock(),
    log,
  })
  return { disk, warnings }
}
async function put(name: string, content = 'x'): Promise<void> {
  const path = join(dir, 'models', name)
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, content)
}
async function scanned(disk: DiskShelf) {
  await disk.scan()
  return (disk.list() ?? []).map(({ dir: _, shape: __, ...model }) => model)
}

describe('models on disk', () => {
  test('a missing folder holds none, and before the first scan nothing is known', async () => {
    const { disk } = shelf()
    expect(disk.list()).toBeUndefined()
    expect(await scanned(disk)).toEqual([])
  })

  test('a folder with config.json and safetensors is one; others are none', async () => {
    await put('smol/config.json', '{}')
    await put('smol/model.safetensors', 'weights')
    await put('notes/readme.txt')
    await put('.hidden/config.json')
    await put('only-config/config.json')
    const { disk } = shelf()
    expect(await scanned(disk)).toEqual([
      { source: 'file:smol', state: 'Present', sizeBytes: 9, digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) },
    ])
    expect(disk.list()?.[0]).toMatchObject({ dir: join(dir, 'models', 'smol'), shape })
  })

  test('the digest is of names, sizes and contents: the same in two folders, another after any change', async () => {
    for (const name of ['a', 'b']) {
      await put(`${name}/config.json`, '{}')
      await put(`${name}/model.safetensors`, 'weights')
    }
    const { disk } = shelf()
    const [a, b] = await scanned(disk)
    expect(a?.digest).toBe(b?.digest)
    await put('b/model.safetensors', 'weightz')
    const later = new Date(Date.parse('2030-01-01'))
    await utimes(join(dir, 'models', 'b', 'model.safetensors'), later, later)
    const [, changed] = await scanned(disk)
    expect(changed?.digest).not.toBe(b?.digest)
    await put('a/tokenizer.json', '{}')
    expect((await scanned(disk))[0]?.digest).not.toBe(a?.digest)
  })

  test('files are hashed once: a later shelf believes what it remembers by path, size and time', async () => {
    await put('smol/config.json', '{}')
    await put('smol/model.safetensors', 'weights')
    const path = join(dir, 'models', 'smol', 'model.safetensors')
    const time = new Date(Date.parse('2026-01-01'))
    await utimes(path, time, time)
    const [before] = await scanned(shelf().disk)
    await writeFile(path, 'WEIGHTS')
    await utimes(path, time, time)
    expect((await scanned(shelf().disk))[0]?.digest).toBe(before?.digest)
    await rm(join(dir, 'state'), { recursive: true })
    expect((await scanned(shelf().disk))[0]?.digest).not.toBe(before?.digest)
  })

  test('a half-written folder is Corrupt, and the log names the file, once', async () => {
    await put('big/config.json', '{}')
    await put('big/model-00001-of-00002.safetensors')
    const weight_map = { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' }
    await put('big/model.safetensors.index.json', JSON.stringify({ weight_map }))
    const { disk, warnings } = shelf()
    expect(await scanned(disk)).toMatchObject([{ source: 'file:big', state: 'Corrupt' }])
    await scanned(disk)
    expect(warnings).toEqual([
      {
        source: 'file:big',
        reason: 'model-00002-of-00002.safetensors is missing, though model.safetensors.index.json names it',
      },
    ])
    await put('big/model-00002-of-00002.safetensors')
    expect(await scanned(disk)).toMatchObject([{ state: 'Present' }])
  })

  test('a folder whose headers make no sense is Corrupt with the reason; the others stay', async () => {
    await put('bad/config.json', '{')
    await put('bad/model.safetensors')
    await put('good/config.json', '{}')
    await put('good/model.safetensors', 'g')
    const { disk } = shelf(async ({ readRange }) => {
      const text = Buffer.from(await readRange('config.json', 0, 100)).toString()
      return JSON.parse(text) as ModelShape
    })
    const [bad, good] = await scanned(disk)
    expect(bad).toMatchObject({ source: 'file:bad', state: 'Corrupt' })
    expect(bad?.problem).toMatch(/JSON/)
    expect(good).toMatchObject({ source: 'file:good', state: 'Present' })
  })

  test('GGUF is a model as a folder and as a file, and parts are one model, named by the first', async () => {
    await put('folder/tiny.gguf', 'weights')
    await put('alone.gguf', 'weights')
    await put('big-00001-of-00002.gguf', 'first')
    await put('big-00002-of-00002.gguf', 'second')
    await put('notes.txt')
    const seen = new Map<string, readonly string[]>()
    const { disk } = shelf(async ({ files, readRange }) => {
      const [first] = files
      seen.set(
        Buffer.from(await readRange(first?.name ?? '', 0, 100)).toString(),
        files.map((f) => f.name),
      )
      return shape
    })
    expect(await scanned(disk)).toMatchObject([
      { source: 'file:alone.gguf', state: 'Present', sizeBytes: 7 },
      { source: 'file:big-00001-of-00002.gguf', state: 'Present', sizeBytes: 11 },
      { source: 'file:folder', state: 'Present' },
    ])
    expect(seen.get('first')).toEqual(['big-00001-of-00002.gguf', 'big-00002-of-00002.gguf'])
    // An engine gets the file itself, or the folder.
    expect(disk.list()?.map((m) => m.dir)).toEqual(
      ['alone.gguf', 'big-00001-of-00002.gguf', 'folder'].map((name) => join(dir, 'models', name)),
    )
  })

  test('a real GGUF file has its shape, and a broken one says what is wrong', async () => {
    const metadata = {
      'general.architecture': 'llama',
      'llama.block_count': 1,
      'llama.embedding_length': 32,
      'llama.attention.head_count': 2,
      'llama.vocab_size': 4,
    }
    const { bytes, sizeBytes } = ggufFile(metadata, {
      'token_embd.weight': [F16, 32, 4],
      'blk.0.attn_q.weight': [F16, 32, 32],
      'blk.0.attn_k.weight': [F16, 32, 32],
    })
    await mkdir(join(dir, 'models'))
    await writeFile(join(dir, 'models', 'tiny.gguf'), Buffer.concat([bytes, Buffer.alloc(sizeBytes - bytes.length)]))
    await put('wrong.gguf', 'GGUF of another kind')
    const { disk } = shelf(shapeOfModel)
    const [tiny, wrong] = await scanned(disk)
    expect([tiny?.state, disk.list()?.[0]?.shape]).toMatchObject(['Present', { format: 'Gguf', layers: 1 }])
    expect(wrong).toMatchObject({ state: 'Corrupt', problem: expect.stringContaining('wrong.gguf') })
  })

  test('listeners hear of changes only, and a shape is read once for a digest', async () => {
    await put('smol/config.json', '{}')
    await put('smol/model.safetensors')
    const { disk } = shelf()
    let heard = 0
    disk.onChange(() => (heard += 1))
    await disk.scan()
    await disk.scan()
    expect([heard, shapesRead]).toEqual([1, 1])
    await rm(join(dir, 'models', 'smol'), { recursive: true })
    await disk.scan()
    expect(heard).toBe(2)
    expect(disk.list()).toEqual([])
  })
})
