/**
 * The engine `fake`: a real child process that keeps the whole engine contract and computes nothing. For dry clusters,
 * demos without an engine, and tests: told by arguments, it crashes, hangs, refuses memory, is slow, or lies. It takes
 * every architecture, strategy and transport, and is never chosen by Auto.
 */
import { join } from 'node:path'
import { nodeArgv } from '../../../src/lib/nodeargv.ts'
import { HOST_PID_TOKEN } from '../../shardhost/protocol.ts'
import type { Launch, LaunchInput, Runtime } from '../runtime.ts'
import type { FakeConfig } from './config.ts'
import { livenessOf, parseFakeArgs } from './config.ts'

export const FAKE_VERSION = '1'
const RENDEZVOUS_DEADLINE_SECONDS = 30

export interface FakeOptions {
  /** argv that runs engine.ts, before its launch file. */
  readonly entry?: readonly string[]
}

export function fakeRuntime(options: FakeOptions = {}): Runtime {
  const entry = options.entry ?? nodeArgv(import.meta.url, 'engine')
  return {
    engine: 'fake',
    probe: () =>
      Promise.resolve({
        kind: 'Available',
        info: {
          name: 'fake',
          version: FAKE_VERSION,
          build: `fake-${FAKE_VERSION}`,
          transports: ['Ring', 'Jaccl', 'Rpc'],
          pipeline: ['*'],
          tensor: ['*'],
        },
      }),
    launch: (input) => launchFake(entry, input),
  }
}

/** Pure. Invalid when an argument is not in the allow-list. */
export function launchFake(entry: readonly string[], input: LaunchInput): Launch {
  const { spec } = input.shard
  const configPath = join(input.dir, 'engine.json')
  const args = parseFakeArgs(spec.engine.args)
  const config: Omit<FakeConfig, 'parentPid'> & { parentPid: string } = {
    servedName: spec.serving.servedName,
    strategy: spec.strategy,
    rank: spec.rank,
    worldSize: spec.worldSize,
    stage: spec.stage,
    gang: `${input.shard.metadata.namespace ?? ''}/${spec.group}/${spec.epoch}`,
    epoch: spec.epoch,
    hosts: input.hosts,
    port: input.enginePort,
    contextTokens: spec.serving.contextTokens,
    maxOutputTokens: spec.serving.maxOutputTokens,
    concurrency: spec.serving.concurrency,
    memoryBytes: spec.memoryBytes,
    rendezvousDeadlineSeconds: RENDEZVOUS_DEADLINE_SECONDS,
    parentPid: HOST_PID_TOKEN,
    args,
  }
  return {
    engine: {
      argv: [...entry, '--config', configPath],
      env: { PATH: '/usr/bin:/bin', HOME: input.dir, TMPDIR: '/tmp', LANG: 'C.UTF-8' },
      cwd: input.dir,
    },
    files: [{ path: configPath, content: JSON.stringify(config) }],
    liveness: livenessOf(args),
  }
}
