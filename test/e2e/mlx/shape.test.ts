/** The shape that headers tell against the memory that the engine really holds, for the real demo model. */
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { ModelFiles } from '../../../src/api/modelfiles/files.ts'
import { shapeOfModel } from '../../../src/api/modelfiles/shape.ts'
import { kvTokenBytes } from '../../../src/api/modelkv.ts'
import { demoModel, readyGang, startSingle, stopAll } from '../../support/mlx.ts'
import type { Rank } from '../../support/mlx.ts'

afterAll(stopAll)

async function folderOf(dir: string): Promise<ModelFiles> {
  const names = await readdir(dir)
  const files = names.map(async (name) => ({ name, sizeBytes: (await stat(join(dir, name))).size }))
  return {
    files: await Promise.all(files),
    async readRange(name, start, end) {
      await using file = await open(join(dir, name))
      const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start)
      return buffer.subarray(0, bytesRead)
    },
  }
}

const loaded = (rank: Rank | undefined) =>
  rank?.events.find(({ ev }) => ev === 'loaded') as unknown as { active: number; kvBytesPerToken: number }
/** Within 2 %. */
const close = (value: number, known: number) => expect(Math.abs(value / known - 1)).toBeLessThan(0.02)

test('one rank holds the bytes of the shape, and each token costs what it says', async () => {
  const shape = await shapeOfModel(await folderOf(demoModel))
  const { active, kvBytesPerToken } = loaded(await startSingle({ model: demoModel }))
  console.info(`demo model: shape ${shape.weightBytes} bytes, engine ${active} active`)
  close(shape.weightBytes, active)
  const token = Array.from({ length: shape.layers }, (_, layer) => kvTokenBytes(shape, layer)).reduce((a, b) => a + b)
  expect(kvBytesPerToken).toBe(token)
})

test('pipeline ranks hold their layers and the tensors outside of layers', async () => {
  const { layerBytes = [], nonLayerBytes = 0 } = await shapeOfModel(await folderOf(demoModel))
  const gang = await readyGang({ model: demoModel, strategy: 'Pipeline', split: [20, 10] })
  const bytes = (start: number, end: number) => layerBytes.slice(start, end).reduce((a, b) => a + b, nonLayerBytes)
  // MLX rank 0 has the last layers; the split is in model order.
  close(bytes(20, 30), loaded(gang[0]).active)
  close(bytes(0, 20), loaded(gang[1]).active)
})
