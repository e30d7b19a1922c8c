/**
 * What this machine's mlx can do: probe.py's answer as an EngineInfo, or the remedy when there is no engine. Asking takes
 * seconds of a core, so an answer without live figures is kept beside the engine until engine or shim change.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { EngineInfo } from '../../../src/api/node.ts'
import { messageOf } from '../../../src/lib/errors.ts'
import { readJson, writeJson } from '../../shardhost/statefile.ts'
import type { Runtime } from '../runtime.ts'
import { mlxEnvironment } from './environment.ts'

type ProbeResult = Awaited<ReturnType<Runtime['probe']>>

const PROBE_TIMEOUT_MS = 120_000
const REMEDY = 'run npm run setup in the mctl checkout'

/** probe.py's words. */
export interface MlxAnswer {
  readonly versions: { readonly python: string; readonly mlx: string; readonly mlxLm: string }
  readonly build: string
  readonly backends: readonly string[]
  readonly gpuMemoryBytes: number | null
  readonly pipeline: readonly string[]
  readonly tensor: readonly string[]
}

/** Never throws: what is missing comes with its remedy. */
export async function probeMlx(codeDir: string, engineFile: string): Promise<ProbeResult> {
  const text = readText(engineFile)
  if (text === undefined) return { kind: 'Missing', remedy: `the engine mlx is not installed: ${REMEDY}` }
  const python = pythonOf(text)
  if (python === undefined) return { kind: 'Missing', remedy: `${engineFile} names no Python: ${REMEDY}` }
  const key = probeKey(codeDir, text)
  const keptPath = join(dirname(engineFile), 'mlx-probe.json')
  const kept = readJson(keptPath) as { key?: string; answer?: MlxAnswer } | undefined
  if (kept?.key === key && kept.answer !== undefined) return available(kept.answer)
  try {
    const answer = await ask(python, codeDir, dirname(engineFile))
    // A GPU's limit can be set at run time: such an answer is asked for anew each time.
    if (answer.gpuMemoryBytes === null) writeJson(keptPath, { key, answer })
    return available(answer)
  } catch (error) {
    return { kind: 'Missing', remedy: `the engine mlx does not run (${messageOf(error)}): ${REMEDY}` }
  }
}

/** Only what launch.ts can start is offered: `pipelineEven` takes no split of ours, and Jaccl needs its devices. */
export function available(answer: MlxAnswer): ProbeResult {
  const info: EngineInfo = {
    name: 'mlx',
    version: answer.versions.mlx,
    lmVersion: answer.versions.mlxLm,
    build: answer.build,
    transports: answer.backends.includes('ring') ? ['Ring'] : [],
    pipeline: answer.pipeline,
    tensor: answer.tensor,
  }
  const { gpuMemoryBytes } = answer
  return { kind: 'Available', info, ...(gpuMemoryBytes === null ? {} : { gpuMemoryBytes }) }
}

function ask(python: string, codeDir: string, dir: string): Promise<MlxAnswer> {
  const options = { env: { ...mlxEnvironment(python, dir), PYTHONDONTWRITEBYTECODE: '1' }, timeout: PROBE_TIMEOUT_MS }
  return new Promise((resolve, reject) => {
    execFile(python, [join(codeDir, 'probe.py')], options, (error, stdout, stderr) => {
      if (error !== null) return reject(new Error(lastLine(stderr) || error.message))
      try {
        resolve(JSON.parse(stdout) as MlxAnswer)
      } catch (cause) {
        reject(new Error('its answer is no JSON', { cause }))
      }
    })
  })
}

/** Changes with the engine (mlx.json holds the hash of its packages) and with every file that the answer depends on. */
function probeKey(codeDir: string, engineText: string): string {
  const hash = createHash('sha256').update(engineText)
  const shim = readdirSync(join(codeDir, 'shim')).filter((name) => name.endsWith('.py'))
  for (const file of ['probe.py', ...shim.toSorted().map((name) => join('shim', name))])
    hash.update(`\0${file}\0`).update(readFileSync(join(codeDir, file)))
  return hash.digest('hex')
}

function pythonOf(engineText: string): string | undefined {
  try {
    const { python } = JSON.parse(engineText) as { python?: unknown }
    return typeof python === 'string' ? python : undefined
  } catch {
    return undefined
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) ?? ''
