/**
 * The engine `mlx`: mlx_lm.server under our Python shim, one process per rank (facts/engines.md §10). Everything that a
 * rank is told stands in one launch file; the environment is built from scratch, so that no login shell leaks into it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Shard } from '../../../src/api/shard.ts'
import { OpError } from '../../../src/lib/errors.ts'
import { packageRoot } from '../../../src/lib/nodeargv.ts'
import { HOST_PID_TOKEN } from '../../shardhost/protocol.ts'
import type { Launch, LaunchInput, LinkBenchInput, Runtime } from '../runtime.ts'
import { mlxEnvironment } from './environment.ts'
import { probeMlx } from './probe.ts'

export interface MlxOptions {
  /** Holds engines/mlx.json, which `npm run setup` writes. */
  readonly userDataDir: string
  readonly platform: NodeJS.Platform
}

/** Where engine and shim are on this machine. */
export interface MlxInstallation {
  readonly python: string
  /** Folder with probe.py and shim/. */
  readonly codeDir: string
  /** Prompt tokens per step, where the deployment does not say. */
  readonly prefillStepSize: number
}

/** A small step keeps a Mac's GPU below its 5 s watchdog, and a CPU of 8 tokens/s below the stall limit. */
const PREFILL_STEP_SIZE = { metal: 512, cpu: 64 }
/** A rank that finds no peer gives up by itself only after 31 s, one that waits for a peer never does. */
const RENDEZVOUS_DEADLINE_SECONDS = 40
/** The shim beats once a second from a thread of its own; nothing holds the interpreter for so long once it is Ready. */
const BEAT_SECONDS = 30

export const engineFile = (userDataDir: string): string => join(userDataDir, 'engines', 'mlx.json')

export function mlxRuntime(options: MlxOptions): Runtime {
  const codeDir = join(packageRoot(import.meta.url), 'agent', 'runtimes', 'mlx')
  return {
    engine: 'mlx',
    probe: () => probeMlx(codeDir, engineFile(options.userDataDir)),
    launch: (input) => {
      const python = readPython(options.userDataDir)
      const prefillStepSize = options.platform === 'darwin' ? PREFILL_STEP_SIZE.metal : PREFILL_STEP_SIZE.cpu
      return launchMlx({ python, codeDir, prefillStepSize }, input)
    },
    linkBench: (input) => launchLinkBench({ python: readPython(options.userDataDir), codeDir }, input),
  }
}

/** Two ranks that only pass arrays over their ring (linkbench.py). Pure. */
export function launchLinkBench(
  { python, codeDir }: Pick<MlxInstallation, 'python' | 'codeDir'>,
  { hosts, rank, dir, parentPid, seconds }: LinkBenchInput,
): Pick<Launch, 'engine' | 'files'> {
  const hostfile = join(dir, 'hostfile.json')
  return {
    engine: {
      argv: [python, join(codeDir, 'linkbench.py'), '--parent', String(parentPid), '--seconds', String(seconds)],
      env: { ...mlxEnvironment(python, dir), MLX_RANK: String(rank), MLX_HOSTFILE: hostfile },
      cwd: dir,
    },
    files: [{ path: hostfile, content: JSON.stringify(hosts) }],
  }
}

function readPython(userDataDir: string): string {
  const path = engineFile(userDataDir)
  try {
    const { python } = JSON.parse(readFileSync(path, 'utf8')) as { python?: unknown }
    if (typeof python === 'string') return python
  } catch {
    // Told below.
  }
  throw new OpError('Unavailable', `start mlx: ${path} names no Python; run npm run setup`)
}

/** Pure. Invalid when the shard asks for what this engine cannot do. */
export function launchMlx(installation: MlxInstallation, input: LaunchInput): Launch {
  const { shard, dir, modelDir } = input
  const { spec } = shard
  if (modelDir === undefined) throw invalid(shard, 'the engine mlx needs the files of a model')
  const gang = spec.worldSize > 1
  // Jaccl needs the RDMA devices of each cable, which the rendezvous does not carry; the probe does not offer it.
  if (gang && spec.transport !== 'Ring') throw invalid(shard, `the engine mlx cannot run over ${spec.transport} here`)
  const configPath = join(dir, 'engine.json')
  const hostfile = join(dir, 'hostfile.json')
  const { prefillStepSize = installation.prefillStepSize, beatSeconds = BEAT_SECONDS } = parseMlxArgs(spec.engine.args)
  const files = [
    { path: configPath, content: JSON.stringify({ ...shimConfig(input, modelDir), prefillStepSize }) },
    ...(gang ? [{ path: hostfile, content: JSON.stringify(input.hosts) }] : []),
    // Without this folder mlx_lm's list of models is an empty answer.
    { path: join(dir, 'hf', 'hub', '.keep'), content: '' },
  ]
  return {
    engine: {
      argv: [installation.python, join(installation.codeDir, 'shim', 'main.py'), '--config', configPath],
      env: {
        ...mlxEnvironment(installation.python, dir),
        ...(gang ? { MLX_RANK: String(spec.rank), MLX_HOSTFILE: hostfile } : {}),
      },
      cwd: dir,
    },
    files,
    liveness: { beatSeconds },
  }
}

function shimConfig({ shard, enginePort }: LaunchInput, modelDir: string) {
  const { spec } = shard
  const { servedName, contextTokens, maxOutputTokens, concurrency } = spec.serving
  return {
    model: modelDir,
    servedName,
    strategy: spec.strategy,
    rank: spec.rank,
    worldSize: spec.worldSize,
    backend: spec.worldSize > 1 ? 'ring' : null,
    split: spec.strategy === 'Pipeline' && spec.split.length > 0 ? spec.split : null,
    port: enginePort,
    contextTokens,
    maxOutputTokens,
    concurrency,
    kvBudgetBytes: spec.parts.kv > 0 ? spec.parts.kv : null,
    memoryLimitBytes: spec.memoryBytes > 0 ? spec.memoryBytes : null,
    rendezvousDeadlineSeconds: RENDEZVOUS_DEADLINE_SECONDS,
    // As the shardhost's (DESIGN §10a); the engine's own speaks first, for it knows more.
    startupDeadlineSeconds: Math.floor(spec.parts.weights / 200e6 + 115),
    parentPid: HOST_PID_TOKEN,
  }
}

const numbers = { '--prefill-step-size': 'prefillStepSize', '--beat-seconds': 'beatSeconds' } as const
/** What `spec.engine.args` may hold for this engine, for messages. */
export const mlxArgNames: readonly string[] = Object.keys(numbers).map((name) => `${name}=N`)

interface MlxArgs {
  readonly prefillStepSize?: number
  /** How long a Ready engine may give no sign of life. */
  readonly beatSeconds?: number
}

/** Invalid names the first argument that is not in the list. */
export function parseMlxArgs(args: readonly string[]): MlxArgs {
  const parsed: Record<string, number> = {}
  args.forEach((arg, i) => {
    const [name = '', value = ''] = arg.split('=', 2)
    if (!(name in numbers) || !/^[1-9]\d{0,4}$/.test(value))
      throw new OpError(
        'Invalid',
        `spec.engine.args[${i}]: Unsupported value: "${arg}": supported values: ${mlxArgNames.join(', ')}`,
      )
    parsed[numbers[name as keyof typeof numbers]] = Number(value)
  })
  return parsed
}

const invalid = (shard: Shard, why: string): OpError =>
  new OpError('Invalid', `start shard ${shard.metadata.name}: ${why}`)
