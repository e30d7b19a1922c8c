/**
 * Shapes by general rules against the engine itself: for every architecture that mlx-lm can build from small sizes, the
 * bytes of its parameters and what each of its caches really costs.
 */
import { expect, test } from 'vitest'
import { readConfig } from '../../../src/api/modelfiles/config.ts'
import { shapeFrom } from '../../../src/api/modelfiles/shape.ts'
import type { ModelShape } from '../../../src/api/model.ts'
import type { CachePart, Family } from '../../support/families.ts'
import { engineFamilies } from '../../support/families.ts'

const shapeOf = async ({ config, tensors }: Family): Promise<ModelShape> => {
  const bytes = Buffer.from(JSON.stringify(config))
  const files = [{ name: 'config.json', sizeBytes: bytes.length }]
  return shapeFrom(await readConfig({ files, readRange: () => Promise.resolve(bytes) }), tensors)
}

/** What the engine made, per layer. Caches that the engine keeps beside its layers belong to the last one. */
function told(parts: readonly CachePart[]): string {
  const [state, ...kv] = [parts.find((p) => p.stateBytes !== undefined), ...parts.filter((p) => p.tokenBytes)]
  const token = kv.reduce((sum, part) => sum + (part?.tokenBytes ?? 0), 0)
  const window = Math.max(0, ...kv.map((part) => part?.windowTokens ?? 0))
  return describe(token, window, state?.stateBytes ?? 0)
}

const describe = (token: number, window: number, state: number): string =>
  `${token} a token${window === 0 ? '' : ` of ${window}`}, ${state} a sequence`

const read = (shape: ModelShape): readonly string[] =>
  (shape.kvBytesPerTokenPerLayer ?? []).map((token, layer) =>
    describe(token, shape.kvWindowTokensPerLayer?.[layer] ?? 0, shape.stateBytesPerSequencePerLayer?.[layer] ?? 0),
  )

/** Layers that keep nothing have no cache in some families; nanbeige goes through its layers twice. */
function expected({ family, caches }: Family, layers: number): readonly string[] {
  const all = caches.map(told)
  if (family !== 'nanbeige') return all
  return all.slice(0, layers).map((_, layer) => told([caches[layer] ?? [], caches[layer + layers] ?? []].flat()))
}

const families = engineFamilies()

test('the engine builds the families that matter', () => {
  const built = new Set(families.map(({ family }) => family))
  for (const family of ['llama', 'qwen2', 'qwen3_moe', 'deepseek_v3', 'gpt_oss', 'gemma3', 'qwen3_next', 'mamba2'])
    expect(built).toContain(family)
  expect(built.size).toBeGreaterThan(70)
})

test.each(families.map((f) => [`${f.family}${f.quantized ? ', quantised' : ''}`, f] as const))(
  '%s',
  async (_, family) => {
    const shape = await shapeOf(family)
    const nothing = describe(0, 0, 0)
    expect({
      bytes: shape.weightBytes,
      caches: read(shape).filter((layer) => layer !== nothing),
    }).toEqual({ bytes: family.activeBytes, caches: expected(family, shape.layers).filter((c) => c !== nothing) })
  },
)
