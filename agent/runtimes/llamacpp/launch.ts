/**
 * The engine `llamacpp`: llama-server for a replica on one node; for a pipeline, llama-server as the leader and a
 * ggml-rpc-server on each further node, to which the leader hands its layers (facts/engines.md §6). They know nothing of
 * our contract: a companion in the shardhost asks and checks for them, and a shell beside them ends them with their host.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Shard } from '../../../src/api/shard.ts'
import { ggufParts } from '../../../src/api/modelfiles/ggufshape.ts'
import { OpError, messageOf } from '../../../src/lib/errors.ts'
import type { CompanionSpec } from '../../shardhost/protocol.ts'
import { wayTo } from '../../shardhost/protocol.ts'
import type { TunnelEnd } from '../../shardhost/tunnel.ts'
import type { Launch, LaunchInput, Runtime } from '../runtime.ts'
import type { LlamaCppOptions } from './binaries.ts'
import type { Installation } from './probe.ts'
import { probeLlamaCpp } from './probe.ts'

/**
 * Tokens per step. A small one keeps a Mac's GPU below its 5 s watchdog and a CPU of a few tokens/s below the stall
 * limit, for llama-server answers nobody meanwhile; and the compute buffers grow with it.
 */
const BATCH_TOKENS = { gpu: 512, cpu: 128 }

export function llamaCppRuntime(options: LlamaCppOptions): Runtime {
  let installation: Installation | undefined
  return {
    engine: 'llamacpp',
    probe: async () => {
      const probed = await probeLlamaCpp(options)
      installation = probed.installation
      return probed.result
    },
    launch: (input) => {
      if (installation === undefined) throw new OpError('Unavailable', 'start llamacpp: it was not found on this node')
      return launchLlamaCpp(installation, input)
    },
  }
}

/** Invalid when the shard asks for what this engine cannot do. Reads the names in the model's folder, nothing else. */
export function launchLlamaCpp(installation: Installation, input: LaunchInput): Launch {
  const { shard, dir } = input
  const { spec } = shard
  if (spec.strategy === 'Tensor') throw invalid(shard, 'the engine llamacpp cannot divide tensors over nodes')
  if (spec.worldSize > 1 && spec.transport !== 'Rpc')
    throw invalid(shard, `the engine llamacpp runs over Rpc, not over ${spec.transport}`)
  const { argv, companion } = spec.rank === 0 ? leader(installation, input) : worker(installation, input)
  return {
    engine: {
      argv: [...WATCHED_BY_SHELL, ...argv],
      env: {
        PATH: '/usr/bin:/bin:/usr/sbin:/sbin',
        HOME: dir,
        TMPDIR: dir,
        LANG: 'C.UTF-8',
        LLAMA_CACHE: dir,
        // Threads that wait for each other spin; where others want the cores, a step then takes a hundred times as long.
        ...(installation.gpu === undefined ? { OMP_WAIT_POLICY: 'passive' } : {}),
      },
      cwd: dir,
    },
    files: [],
    companion,
  }
}

/**
 * The program under the pid of the shell that becomes it. The shell's child waits for the end of the event pipe, which is
 * the end of the shardhost, and then kills the group: these programs watch nobody.
 */
const WATCHED_BY_SHELL = [
  '/bin/sh',
  '-c',
  '(exec >/dev/null 2>&1; read -r _ <&3; kill -KILL -$$) & exec 3>&- "$@"',
  'mctl-engine',
]

interface Program {
  readonly argv: readonly string[]
  readonly companion: CompanionSpec
}

function leader(installation: Installation, input: LaunchInput): Program {
  const { shard, enginePort, modelDir } = input
  const { spec } = shard
  if (modelDir === undefined) throw invalid(shard, 'the engine llamacpp needs the files of a model')
  const { servedName, contextTokens, maxOutputTokens, concurrency } = spec.serving
  const batch = String(installation.gpu === undefined ? BATCH_TOKENS.cpu : BATCH_TOKENS.gpu)
  const workers = membersOf(input).slice(1)
  const argv = [
    installation.binaries.server,
    ...['--model', ggufOf(shard, modelDir), '--alias', servedName],
    ...['--host', '127.0.0.1', '--port', String(enginePort)],
    // One fixed part of the cache per request: what the plan counted, and no request takes another's.
    ...['--ctx-size', String(contextTokens * concurrency), '--parallel', String(concurrency)],
    // Nothing shrinks silently to fit, and nothing is kept in RAM besides what the plan counted.
    ...['--fit', 'off', '--cache-ram', '0', '--ctx-checkpoints', '0'],
    ...['--batch-size', batch, '--ubatch-size', batch],
    ...['--metrics', '--no-slots', '--no-ui', '--offline', '--timeout', '3600'],
    // No page of a browser on this machine may ask it.
    ...(installation.hasCorsOrigins ? ['--cors-origins', 'localhost'] : []),
    ...devices(installation, shard, workers),
    ...serverArgs(installation, spec.engine.args),
  ]
  const limits = { servedName, contextTokens, maxOutputTokens }
  return { argv, companion: { kind: 'LlamaServer', enginePort, workers, layers: spec.model.layers, limits } }
}

/**
 * Our stages as llama.cpp counts: the CPU's layers come first, then those of `--device` in their order by
 * `--tensor-split`, and the output counts as one more layer, of the last device.
 */
function devices(
  { gpu, binaries, hasLoadMode }: Installation,
  shard: Shard,
  workers: readonly TunnelEnd[],
): readonly string[] {
  const { spec } = shard
  if (workers.length === 0 || spec.worldSize === 1) return ['--n-gpu-layers', 'all']
  const { split, stage, model } = spec
  if (binaries.rpcServer === undefined) throw invalid(shard, 'this build of llama.cpp has no RPC')
  if (split.length !== spec.worldSize || stage[0] !== 0)
    throw invalid(shard, `${split.length} stages for ${spec.worldSize} ranks, the leader's begins at ${stage[0]}`)
  const [own = 0, ...others] = split
  const shares = gpu === undefined ? others : [own, ...others]
  const names = [...(gpu === undefined ? [] : [gpu]), ...workers.map((_, i) => `RPC${i}`)]
  const offloaded = (gpu === undefined ? model.layers - own : model.layers) + 1
  const withOutput = shares.map((layers, i) => (i === shares.length - 1 ? layers + 1 : layers))
  return [
    ...['--rpc', workers.map((_, i) => wayTo(i + 1)).join(','), '--device', names.join(','), '--split-mode', 'layer'],
    // Which layers went where is told from this level on, and checked; requests are not. Older builds tell it anyway.
    ...(hasLoadMode ? ['--log-verbosity', '4'] : []),
    ...['--tensor-split', withOutput.join(','), '--n-gpu-layers', String(offloaded)],
  ]
}

/** On 127.0.0.1: what it listens on does what anybody asks. The companion lets the leader in. */
function worker({ binaries, gpu }: Installation, input: LaunchInput): Program {
  const { shard, enginePort } = input
  if (binaries.rpcServer === undefined) throw invalid(shard, 'this build of llama.cpp has no RPC')
  const threads = valueOf(shard.spec.engine.args, '--threads')
  const members = membersOf(input)
  const address = members[shard.spec.rank]?.address ?? ''
  return {
    argv: [
      binaries.rpcServer,
      ...['--host', '127.0.0.1', '--port', String(enginePort), '--device', gpu ?? 'CPU'],
      ...(threads === undefined ? [] : ['--threads', threads]),
    ],
    companion: { kind: 'RpcWorker', enginePort, address, visitor: members[0]?.node ?? '' },
  }
}

/** Of each rank: where it opens its way in, and who it is. A group of one has nobody to meet. */
function membersOf({ shard, hosts }: LaunchInput): readonly TunnelEnd[] {
  const { rendezvous, worldSize } = shard.spec
  if (worldSize === 1) return []
  const members = rendezvous?.members
  if (members?.length !== worldSize)
    throw invalid(
      shard,
      'the server is older than this agent and does not say which node holds which rank. Upgrade the server',
    )
  return members.map((member, rank) => ({ ...member, address: hosts[rank]?.[0] ?? '' }))
}

/** Arguments of a deployment, checked at admission (src/api/engineargs.ts), as this build knows them. */
function serverArgs({ hasLoadMode }: Installation, args: readonly string[]): readonly string[] {
  const mode = hasLoadMode
    ? loadModes[
        args
          .filter((arg) => arg in loadModes)
          .sort()
          .join(' ')
      ]
    : undefined
  const plain = args.filter((arg) => mode === undefined || !(arg in loadModes))
  return [...plain.flatMap((arg) => arg.split('=')), ...(mode === undefined ? [] : ['--load-mode', mode])]
}

const loadModes: Readonly<Record<string, string>> = {
  '--mlock': 'mmap+mlock',
  '--no-mmap': 'none',
  '--mlock --no-mmap': 'mlock',
}

const valueOf = (args: readonly string[], flag: string): string | undefined =>
  args.find((arg) => arg.startsWith(`${flag}=`))?.slice(flag.length + 1)

/** The file itself, or the one that a folder holds: of a model in parts, the first names the others. */
function ggufOf(shard: Shard, path: string): string {
  if (path.endsWith('.gguf')) return path
  try {
    const files = readdirSync(path).map((name) => ({ name, sizeBytes: 0 }))
    const [first] = ggufParts({ files, readRange: () => Promise.reject(new Error('names only')) })
    if (first !== undefined) return join(path, first)
  } catch (error) {
    throw invalid(shard, `${path}: ${messageOf(error)}`)
  }
  throw invalid(shard, `the engine llamacpp needs a GGUF file, and ${path} has none`)
}

const invalid = (shard: Shard, why: string): OpError =>
  new OpError('Invalid', `start shard ${shard.metadata.name}: ${why}`)
