/** How to speak to an engine: what it is (probe) and how one rank of it is launched (pure). One folder per engine. */
import type { EngineInfo } from '../../src/api/node.ts'
import type { Shard } from '../../src/api/shard.ts'
import type { Engine } from '../../src/api/words.ts'
import type { CompanionSpec, EngineLaunch, Liveness } from '../shardhost/protocol.ts'

export interface LaunchInput {
  readonly shard: Shard
  /** Absolute folder of the model's files; undefined when the engine needs none. */
  readonly modelDir: string | undefined
  /** The shard's own folder for engine files. */
  readonly dir: string
  /** Port on 127.0.0.1 for the engine's own HTTP (leader). */
  readonly enginePort: number
  /** Per rank the addresses that this rank must see, from the rendezvous. */
  readonly hosts: readonly (readonly string[])[]
}

export interface Launch {
  readonly engine: EngineLaunch
  /** Files to write (0600) before the start. */
  readonly files: readonly { readonly path: string; readonly content: string }[]
  /** Where the engine differs from the usual (shardhost/health.ts). */
  readonly liveness?: Partial<Liveness>
  /** For an engine without a shim of ours. */
  readonly companion?: CompanionSpec
}

/** One of two ranks that measure a link. */
export interface LinkBenchInput {
  /** Per rank, `ip:port`. */
  readonly hosts: readonly (readonly string[])[]
  readonly rank: number
  /** For the files of this rank. */
  readonly dir: string
  /** Whose child it is: it ends with it. */
  readonly parentPid: number
  /** After so long it is over, whatever it waits for. */
  readonly seconds: number
}

export interface Runtime {
  readonly engine: Engine
  /** What this machine offers; a missing engine is a value with its remedy, not an error. */
  probe(): Promise<
    | { readonly kind: 'Available'; readonly info: EngineInfo; readonly gpuMemoryBytes?: number }
    | { readonly kind: 'Missing'; readonly remedy: string; /** Not every node needs it. */ readonly optional?: boolean }
  >
  /** Pure. Invalid (OpError) when the shard asks for what the engine cannot do. */
  launch(input: LaunchInput): Launch
  /** Rank 0 prints the figures as one line of JSON (agent/links/bench.ts). Absent: this engine measures no links. */
  linkBench?(input: LinkBenchInput): Pick<Launch, 'engine' | 'files'>
}
