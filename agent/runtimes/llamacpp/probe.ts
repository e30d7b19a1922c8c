/**
 * What this machine's llama.cpp can do: asked of the programs themselves, for builds differ. Takes some tens of
 * milliseconds on a CPU; on Metal about a second, for the GPU is looked at.
 */
import { execFile } from 'node:child_process'
import type { EngineInfo } from '../../../src/api/node.ts'
import { messageOf } from '../../../src/lib/errors.ts'
import type { Runtime } from '../runtime.ts'
import type { Binaries, LlamaCppOptions } from './binaries.ts'
import { findBinaries } from './binaries.ts'

export type ProbeResult = Awaited<ReturnType<Runtime['probe']>>

/** The engine as launch.ts needs to know it. */
export interface Installation {
  readonly binaries: Binaries
  /** The local GPU as llama.cpp names it (`MTL0`); undefined: layers stay on the CPU. */
  readonly gpu: string | undefined
  /** Builds since 2026 know --load-mode instead of --mlock and --no-mmap. */
  readonly hasLoadMode: boolean
  readonly hasCorsOrigins: boolean
}

export interface ProbedLlamaCpp {
  readonly result: ProbeResult
  readonly installation?: Installation
}

/** What the programs said. */
export interface Answers {
  readonly version: string
  readonly help: string
  readonly devices: string
  /** undefined: there is no RPC server, or it does not run. */
  readonly rpcHelp: string | undefined
}

const TIMEOUT_MS = 60_000

/** Never throws: what is missing comes with its remedy. */
export async function probeLlamaCpp(options: LlamaCppOptions): Promise<ProbedLlamaCpp> {
  const found = findBinaries(options)
  if (found.kind === 'Missing') return { result: { ...found, optional: true } }
  const { binaries } = found
  const { server, rpcServer } = binaries
  try {
    const [version, help, devices] = await Promise.all([
      run(server, '--version'),
      run(server, '--help'),
      run(server, '--list-devices'),
    ])
    const rpcHelp = rpcServer === undefined ? undefined : await run(rpcServer, '--help').catch(() => undefined)
    return read({ version, help, devices, rpcHelp }, binaries, options.platform)
  } catch (error) {
    return { result: { kind: 'Missing', optional: true, remedy: `${server} does not run (${messageOf(error)})` } }
  }
}

/** Pure: the answers as what the node offers. */
export function read(answers: Answers, binaries: Binaries, platform: NodeJS.Platform): ProbedLlamaCpp {
  const { version, commit } = versionOf(answers.version)
  const rpc = answers.rpcHelp !== undefined && answers.help.includes('--rpc')
  const gpu = localGpu(answers.devices)
  const info: EngineInfo = {
    name: 'llamacpp',
    version,
    // Ranks of one group are of one build, so that an agent that speaks RPC in the open meets none that does not.
    build: `llamacpp ${version}${commit === undefined ? '' : ` ${commit}`}${rpc ? ' tunnel' : ''}`,
    transports: rpc ? ['Rpc'] : [],
    pipeline: rpc ? ['*'] : [],
    tensor: [],
  }
  const { rpcServer, ...serverOnly } = binaries
  return {
    result: {
      kind: 'Available',
      info,
      // On Metal this is the working-set limit; elsewhere a card's own memory, which the ledger knows nothing of.
      ...(platform === 'darwin' && gpu !== undefined ? { gpuMemoryBytes: gpu.totalBytes } : {}),
    },
    installation: {
      binaries: rpc && rpcServer !== undefined ? { ...serverOnly, rpcServer } : serverOnly,
      gpu: gpu?.name,
      hasLoadMode: answers.help.includes('--load-mode'),
      hasCorsOrigins: answers.help.includes('--cors-origins'),
    },
  }
}

/** `version: 0.5.0-dev (0c1e57098)`; older builds say `version: 6123 (79c1160b)`. */
export function versionOf(text: string): { readonly version: string; readonly commit: string | undefined } {
  const match = /version:?\s+(\S+?)(?:\s+\(.*?([0-9a-f]{6,40}).*?\))?\s*$/im.exec(text)
  return { version: match?.[1] ?? 'unknown', commit: match?.[2] }
}

/** `  MTL0: Apple M4 (10922 MiB, 10922 MiB free)`; the first that has memory of its own, for BLAS is listed, too. */
export function localGpu(text: string): { readonly name: string; readonly totalBytes: number } | undefined {
  for (const [, name = '', mib = '0'] of text.matchAll(/^\s+([A-Za-z]+\d+): .*\((\d+) MiB, \d+ MiB free\)\s*$/gm))
    if (Number(mib) > 0 && !/^RPC/.test(name)) return { name, totalBytes: Number(mib) * 2 ** 20 }
  return undefined
}

/** stdout and stderr together: llama.cpp has changed its mind about which of them speaks. */
function run(program: string, flag: string): Promise<string> {
  const options = { env: { PATH: '/usr/bin:/bin' }, timeout: TIMEOUT_MS, maxBuffer: 2 ** 22 }
  return new Promise((resolve, reject) => {
    execFile(program, [flag], options, (error, stdout, stderr) => {
      if (error === null) resolve(`${stdout}\n${stderr}`)
      else reject(new Error(stderr.trim().split('\n').at(-1) || error.message))
    })
  })
}
