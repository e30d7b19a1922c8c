/** The table of engines that an agent can run. */
import type { EngineInfo } from '../../src/api/node.ts'
import type { Engine } from '../../src/api/words.ts'
import type { EngineReport } from '../nodestatus.ts'
import { fakeRuntime } from './fake/launch.ts'
import type { LlamaCppOptions } from './llamacpp/binaries.ts'
import { llamaCppRuntime } from './llamacpp/launch.ts'
import type { MlxOptions } from './mlx/launch.ts'
import { mlxRuntime } from './mlx/launch.ts'
import type { Runtime } from './runtime.ts'

export type Runtimes = Readonly<Partial<Record<Engine, Runtime>>>

export function runtimesOf(options: MlxOptions & LlamaCppOptions): Runtimes {
  return { mlx: mlxRuntime(options), llamacpp: llamaCppRuntime(options), fake: fakeRuntime() }
}

/**
 * Asks every engine what it offers; those that are not there come with their remedy. With `known`, asks only those that
 * were missing: to look at a GPU takes a core some seconds.
 */
export async function probeEngines(runtimes: Runtimes, known?: EngineReport): Promise<EngineReport> {
  const isKnown = (engine: Engine) => known?.missing.every((m) => m.engine !== engine) ?? false
  const engines: EngineInfo[] = []
  const missing: EngineReport['missing'][number][] = []
  let gpuMemoryBytes = known?.gpuMemoryBytes
  for (const runtime of Object.values(runtimes)) {
    if (isKnown(runtime.engine)) {
      engines.push(...(known?.engines ?? []).filter((e) => e.name === runtime.engine))
      continue
    }
    const found = await runtime.probe()
    if (found.kind === 'Missing') {
      const { remedy, optional = false } = found
      missing.push({ engine: runtime.engine, remedy, optional })
    } else engines.push(found.info)
    if (found.kind === 'Available') gpuMemoryBytes ??= found.gpuMemoryBytes
  }
  return { engines, missing, ...(gpuMemoryBytes === undefined ? {} : { gpuMemoryBytes }) }
}
