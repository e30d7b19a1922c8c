// The engine llamacpp: what is found, what it is asked to do, and what a request to it may say. All pure but the finding.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findBinaries } from '../../../agent/runtimes/llamacpp/binaries.ts'
import { launchLlamaCpp } from '../../../agent/runtimes/llamacpp/launch.ts'
import { parseMetrics } from '../../../agent/runtimes/llamacpp/metrics.ts'
import type { Installation } from '../../../agent/runtimes/llamacpp/probe.ts'
import { localGpu, probeLlamaCpp, read, versionOf } from '../../../agent/runtimes/llamacpp/probe.ts'
import { checkBody, fitTokens, isRefusal } from '../../../agent/runtimes/llamacpp/requests.ts'
import type { ShardSpec } from '../../../src/api/shard.ts'
import { aShard } from '../../e2e/shardhost/support.ts'

let dir: string
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'mctl-llamacpp-'))))
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const onCpu: Installation = {
  binaries: { server: '/l/llama-server', rpcServer: '/l/ggml-rpc-server' },
  gpu: undefined,
  hasLoadMode: true,
  hasCorsOrigins: true,
}
const onMetal: Installation = { ...onCpu, gpu: 'MTL0' }

function launched(installation: Installation, changes: Partial<ShardSpec> = {}) {
  const size = changes.worldSize ?? 1
  const hosts = [['127.0.0.1:20002'], ['10.0.0.2:20003'], ['10.0.0.3:20004']].slice(0, size)
  const members = hosts.map((_, rank) => ({ node: `mini-${rank}`, shardUid: `uid-${rank}` }))
  const rendezvous = { startByMs: 1, hosts, members }
  const launch = launchLlamaCpp(installation, {
    shard: aShard({ engine: { name: 'llamacpp', args: [] }, transport: 'Rpc', rendezvous, ...changes }),
    modelDir: '/models/m.gguf',
    dir: '/data/shards/u',
    enginePort: 20_001,
    hosts,
  })
  const argv = launch.engine.argv.slice(4)
  const valueOf = (flag: string) => argv[argv.indexOf(flag) + 1]
  return { ...launch, argv, valueOf, has: (flag: string) => argv.includes(flag) }
}

const pipeline = (rank: number, split: number[]): Partial<ShardSpec> => {
  const start = split.slice(0, rank).reduce((sum, n) => sum + n, 0)
  const layers = split.reduce((sum, n) => sum + n, 0)
  return {
    rank,
    worldSize: split.length,
    strategy: 'Pipeline',
    split,
    stage: [start, start + (split[rank] ?? 0)],
    model: { layers, vocabSize: 1000 },
  }
}

test('a replica on one node: each request has its part of the cache, and nothing is kept besides what was planned', () => {
  const { argv, valueOf, has, companion, engine } = launched(onCpu)
  expect(argv[0]).toBe('/l/llama-server')
  expect(valueOf('--model')).toBe('/models/m.gguf')
  expect(valueOf('--alias')).toBe('chat')
  expect([valueOf('--host'), valueOf('--port')]).toEqual(['127.0.0.1', '20001'])
  expect([valueOf('--ctx-size'), valueOf('--parallel')]).toEqual(['4000', '4'])
  expect([valueOf('--fit'), valueOf('--cache-ram'), valueOf('--ctx-checkpoints')]).toEqual(['off', '0', '0'])
  expect(has('--rpc')).toBe(false)
  expect(companion).toEqual({
    kind: 'LlamaServer',
    enginePort: 20_001,
    workers: [],
    layers: 4,
    limits: { servedName: 'chat', contextTokens: 1000, maxOutputTokens: 500 },
  })
  expect(Object.keys(engine.env).sort()).toEqual(['HOME', 'LANG', 'LLAMA_CACHE', 'OMP_WAIT_POLICY', 'PATH', 'TMPDIR'])
})

test.each([
  // The output counts as one more layer of the last device; a CPU's layers are those that are not handed on.
  ['CPU', onCpu, [20, 10], 'RPC0', '11', '11'],
  ['CPU', onCpu, [10, 12, 8], 'RPC0,RPC1', '12,9', '21'],
  ['Metal', onMetal, [20, 10], 'MTL0,RPC0', '20,11', '31'],
  ['Metal', onMetal, [10, 12, 8], 'MTL0,RPC0,RPC1', '10,12,9', '31'],
])('a leader on %s hands its layers on as planned (%#)', (_, installation, split, devices, shares, offloaded) => {
  const { valueOf, companion } = launched(installation, pipeline(0, split))
  const workers = [
    { node: 'mini-1', shardUid: 'uid-1', address: '10.0.0.2:20003' },
    { node: 'mini-2', shardUid: 'uid-2', address: '10.0.0.3:20004' },
  ].slice(0, split.length - 1)
  expect(valueOf('--rpc')).toBe(workers.map((_, i) => `@WAY_TO_RANK_${i + 1}@`).join(','))
  expect([valueOf('--device'), valueOf('--tensor-split'), valueOf('--n-gpu-layers')]).toEqual([
    devices,
    shares,
    offloaded,
  ])
  expect(companion).toMatchObject({ kind: 'LlamaServer', workers, layers: 30 })
})

test('a worker listens on its own machine alone, opens a way in for the leader, and needs no model', () => {
  const { argv, companion } = launched(onMetal, {
    ...pipeline(1, [20, 10]),
    engine: { name: 'llamacpp', args: ['--threads=3', '--mlock'] },
  })
  const own = ['--host', '127.0.0.1', '--port', '20001', '--device', 'MTL0', '--threads', '3']
  expect(argv).toEqual(['/l/ggml-rpc-server', ...own])
  expect(companion).toEqual({ kind: 'RpcWorker', enginePort: 20_001, address: '10.0.0.2:20003', visitor: 'mini-0' })
})

test('a server that does not say who the ranks are is to be upgraded first', () => {
  const rendezvous = { startByMs: 1, hosts: [['127.0.0.1:1'], ['127.0.0.1:2']] }
  expect(() => launched(onCpu, { ...pipeline(0, [2, 2]), rendezvous })).toThrow('Upgrade the server')
})

test('arguments go on as this build knows them', () => {
  const tail = (hasLoadMode: boolean, ...args: string[]) =>
    launched({ ...onCpu, hasLoadMode }, { engine: { name: 'llamacpp', args } }).argv.slice(-3)
  expect(tail(true, '--threads=3', '--mlock').slice(-2)).toEqual(['--load-mode', 'mmap+mlock'])
  expect(tail(true, '--mlock', '--no-mmap').slice(-2)).toEqual(['--load-mode', 'mlock'])
  expect(tail(false, '--threads=3', '--mlock')).toEqual(['--threads', '3', '--mlock'])
})

test('what the engine cannot do is refused before anything starts', () => {
  const noRpc: Installation = { ...onCpu, binaries: { server: '/l/llama-server' } }
  expect(() => launched(noRpc, pipeline(0, [2, 2]))).toThrow('this build of llama.cpp has no RPC')
  expect(() => launched(noRpc, pipeline(1, [2, 2]))).toThrow('this build of llama.cpp has no RPC')
  expect(() => launched(onCpu, { ...pipeline(0, [2, 2]), transport: 'Ring' })).toThrow('runs over Rpc, not over Ring')
  expect(() => launched(onCpu, { strategy: 'Tensor', worldSize: 2 })).toThrow('cannot divide tensors')
  const shard = aShard({ engine: { name: 'llamacpp', args: [] } })
  const input = { shard, modelDir: dir, dir, enginePort: 1, hosts: [] }
  expect(() => launchLlamaCpp(onCpu, input)).toThrow('has none')
  for (const name of ['m-00002-of-00002.gguf', 'm-00001-of-00002.gguf', 'mmproj-m.gguf'])
    writeFileSync(join(dir, name), '')
  expect(launchLlamaCpp(onCpu, input).engine.argv).toContain(join(dir, 'm-00001-of-00002.gguf'))
})

function program(folder: string, name: string, answer = 'echo'): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), `#!/bin/sh\n${answer}\n`)
  chmodSync(join(folder, name), 0o755)
}

test('the folder that somebody named wins, then what setup made, then the PATH', () => {
  const options = { userDataDir: join(dir, 'data'), platform: 'linux' as const, searchPath: `${dir}/none:${dir}/path` }
  expect(findBinaries(options)).toMatchObject({ kind: 'Missing', remedy: expect.stringContaining('-- --llamacpp') })
  program(join(dir, 'path'), 'llama-server')
  program(join(dir, 'path'), 'rpc-server')
  const onPath = { server: join(dir, 'path/llama-server'), rpcServer: join(dir, 'path/rpc-server') }
  expect(findBinaries(options)).toEqual({ kind: 'Found', binaries: onPath })
  program(join(dir, 'made'), 'llama-server')
  mkdirSync(join(dir, 'data/engines'), { recursive: true })
  writeFileSync(join(dir, 'data/engines/llamacpp.json'), JSON.stringify({ dir: join(dir, 'made') }))
  // Never one program of this build and one of that.
  expect(findBinaries(options)).toEqual({ kind: 'Found', binaries: { server: join(dir, 'made/llama-server') } })
  program(join(dir, 'named/build/bin'), 'llama-server')
  expect(findBinaries({ ...options, folder: join(dir, 'named') })).toMatchObject({
    binaries: { server: join(dir, 'named/build/bin/llama-server') },
  })
  expect(findBinaries({ ...options, folder: join(dir, 'wrong') })).toMatchObject({
    remedy: expect.stringContaining('MCTL_LLAMACPP_DIR names'),
  })
})

test('without llama.cpp a Mac is told of the release, for Homebrew builds it without RPC', () => {
  expect(findBinaries({ userDataDir: dir, platform: 'darwin' })).toMatchObject({
    remedy: expect.stringMatching(/bin-macos-arm64\.tar\.gz.*MCTL_LLAMACPP_DIR.*Homebrew/),
  })
})

test('a program that does not run is missing, with its words', async () => {
  program(join(dir, 'bin'), 'llama-server', 'echo "GLIBC_2.99 not found" >&2; exit 1')
  const { result } = await probeLlamaCpp({ userDataDir: dir, platform: 'linux', folder: dir })
  expect(result).toEqual({
    kind: 'Missing',
    optional: true,
    remedy: `${dir}/bin/llama-server does not run (GLIBC_2.99 not found)`,
  })
})

test('versions of old and new builds are read', () => {
  expect(versionOf('version: 0.5.0-dev (0c1e57098)\nbuilt with GNU')).toEqual({
    version: '0.5.0-dev',
    commit: '0c1e57098',
  })
  expect(versionOf('version: 0.5.0-dev (build 0, commit 0c1e57098)\nbuilt with GNU 12.2.0 for Linux')).toEqual({
    version: '0.5.0-dev',
    commit: '0c1e57098',
  })
  expect(versionOf('version: 6123 (79c1160b)\nbuilt with cc for arm64')).toEqual({
    version: '6123',
    commit: '79c1160b',
  })
  expect(versionOf('hello')).toEqual({ version: 'unknown', commit: undefined })
})

test('the GPU is the first device with memory of its own', () => {
  const devices =
    'Available devices:\n  BLAS: Accelerate (0 MiB, 0 MiB free)\n  MTL0: Apple M4 (10922 MiB, 10900 MiB free)\n'
  expect(localGpu(devices)).toEqual({ name: 'MTL0', totalBytes: 10_922 * 2 ** 20 })
  expect(localGpu('Available devices:\n  (none)\n')).toBeUndefined()
})

test('a build without RPC is offered for one node only', () => {
  const answers = { version: 'version: 1 (abcdef12)', help: '--load-mode', devices: '', rpcHelp: 'usage' }
  const { result, installation } = read(answers, onCpu.binaries, 'darwin')
  expect(result).toMatchObject({
    kind: 'Available',
    info: { name: 'llamacpp', transports: [], pipeline: [], tensor: [] },
  })
  expect(installation?.binaries.rpcServer).toBeUndefined()
  const whole = read({ ...answers, help: '--rpc' }, onCpu.binaries, 'darwin')
  expect(whole.result).toMatchObject({
    info: { version: '1', build: 'llamacpp 1 abcdef12 tunnel', transports: ['Rpc'], pipeline: ['*'] },
  })
  expect(whole.installation).toEqual({ ...onCpu, hasLoadMode: false, hasCorsOrigins: false })
})

test('the figures of llama-server are read; what it does not tell counts as 0', () => {
  const text =
    '# HELP llamacpp:x y\nllamacpp:requests_processing 2\nllamacpp:n_decode_total 17\nllamacpp:tokens_predicted_total 1e3\n'
  expect(parseMetrics(text)).toEqual({ active: 2, queued: 0, steps: 17, ptok: 0, gtok: 1000 })
})

const limits = { servedName: 'chat', contextTokens: 100, maxOutputTokens: 50 }
const checked = (body: unknown, chat = false) => checkBody(JSON.stringify(body), chat, limits)

test.each([
  ['no object', [], false, null],
  ['another model', { model: 'other', prompt: 'a' }, false, 'model'],
  ['a list of prompts', { prompt: ['a', 'b'] }, false, 'prompt'],
  ['an empty prompt', { prompt: '' }, false, 'prompt'],
  ['no messages', { messages: [] }, true, 'messages'],
  ['an image', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, true, 'messages[0].content'],
  ['several answers', { prompt: 'a', n: 2 }, false, 'n'],
  ['a stop that is no text', { prompt: 'a', stop: [5] }, false, 'stop'],
  ['max_tokens 0', { prompt: 'a', max_tokens: 0 }, false, 'max_tokens'],
  ['more than the most', { prompt: 'a', max_completion_tokens: 51 }, false, 'max_completion_tokens'],
  ['stream options that say nothing', { prompt: 'a', stream: true, stream_options: {} }, false, 'stream_options'],
])('%s is refused', (_, body, chat, param) => {
  expect(checked(body, chat)).toMatchObject({ kind: 'Refusal', body: { error: { param } } })
})

test('known fields go on, null counts as absent, and what reaches beyond the request is dropped', () => {
  const body = { prompt: 'a', temperature: 0, stop: 'x', seed: null, id_slot: 3, n_predict: 9_999, lora: [], n: 1 }
  expect(checked(body)).toEqual({ model: 'chat', prompt: 'a', stream: false, stop: ['x'], temperature: 0 })
  const chat = { messages: [{ role: 'user', content: 'a' }], tools: [], max_completion_tokens: 3, stream: true }
  expect(checked({ ...chat, stream_options: { include_usage: true } }, true)).toEqual({
    model: 'chat',
    messages: chat.messages,
    tools: [],
    max_tokens: 3,
    stream: true,
    stream_options: { include_usage: true },
  })
})

test('tokens fit as asked or are refused; without max_tokens, all that fits', () => {
  const fitted = (maxTokens: number | undefined, promptTokens: number) =>
    fitTokens({ prompt: 'a', ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }) }, promptTokens, limits)
  const code = (value: ReturnType<typeof fitted>) => (isRefusal(value) ? value.body.error.code : value['max_tokens'])
  expect(code(fitted(50, 50))).toBe(50)
  expect(code(fitted(50, 51))).toBe('context_length_exceeded')
  expect(code(fitted(undefined, 20))).toBe(50)
  expect(code(fitted(undefined, 70))).toBe(30)
  expect(code(fitted(undefined, 100))).toBe('context_length_exceeded')
  expect(isRefusal(fitted(undefined, 0))).toBe(true)
})
