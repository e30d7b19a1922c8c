/** The table of engines that an agent can run. llamacpp joins it with the issue that builds it. */
import type { EngineInfo } from '../../src/api/node.ts'
import type { Engine } from '../../src/api/words.ts'
import type { EngineReport } from '../nodestatus.ts'
import { fakeRuntime } from './fake/launch.ts'
import type { MlxOptions } from './mlx/launch.ts'
import { mlxRuntime } from './mlx/launch.ts'
import type { Runtime } from './runtime.ts'

export type Runtimes = Readonly<Partial<Record<Engine, Runtime>>>

export function runtimesOf(options: MlxOptions): Runtimes {
  return { mlx: mlxRuntime(options), fake: fakeRuntime() }
}

/** Asks every engine what it offers; those that are not there come with their remedy. */
export async function probeEngines(runtimes: Runtimes): Promise<EngineReport> {
  const engines: EngineInfo[] = []
  const missing: { engine: string; remedy: string }[] = []
  let gpuMemoryBytes: number | undefined
  for (const runtime of Object.values(runtimes)) {
    const found = await runtime.probe()
    if (found.kind === 'Missing') missing.push({ engine: runtime.engine, remedy: found.remedy })
    else engines.push(found.info)
    if (found.kind === 'Available') gpuMemoryBytes ??= found.gpuMemoryBytes
  }
  return { engines, missing, ...(gpuMemoryBytes === undefined ? {} : { gpuMemoryBytes }) }
}
