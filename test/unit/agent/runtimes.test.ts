// Launching engines: pure, everything from the shard, nothing from our own environment.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { readQuestion, wholeAnswer } from '../../../agent/runtimes/fake/answers.ts'
import { argsFor, fakeArgNames, parseFakeArgs } from '../../../agent/runtimes/fake/config.ts'
import { fakeRuntime, launchFake } from '../../../agent/runtimes/fake/launch.ts'
import { Ring } from '../../../agent/runtimes/fake/ring.ts'
import { probeEngines } from '../../../agent/runtimes/index.ts'
import { launchMlx, mlxArgNames, mlxRuntime, parseMlxArgs } from '../../../agent/runtimes/mlx/launch.ts'
import { available } from '../../../agent/runtimes/mlx/probe.ts'
import type { Launch, LaunchInput } from '../../../agent/runtimes/runtime.ts'
import { engineArgs } from '../../../src/api/engineargs.ts'
import type { ShardSpec } from '../../../src/api/shard.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { aShard } from '../../e2e/shardhost/support.ts'

const input = (changes: Partial<ShardSpec>, modelDir: string | undefined = '/models/m'): LaunchInput => ({
  shard: aShard(changes),
  modelDir,
  dir: '/data/shards/u',
  enginePort: 20_001,
  hosts: [['127.0.0.1:20002'], ['10.0.0.2:20003']],
})
const rankOne: Partial<ShardSpec> = { rank: 1, worldSize: 2, strategy: 'Pipeline', split: [3, 1], stage: [0, 3] }
const installation = { python: '/venv/bin/python', codeDir: '/code', prefillStepSize: 64 }
const fileOf = (launch: Launch, name: string): unknown =>
  JSON.parse(launch.files.find(({ path }) => path.endsWith(name))?.content ?? 'null')

test('a rank of an mlx pipeline gets its launch file, its hostfile and its rank', () => {
  const launch = launchMlx(installation, input(rankOne))
  expect(launch.engine.argv).toEqual([
    '/venv/bin/python',
    '/code/shim/main.py',
    '--config',
    '/data/shards/u/engine.json',
  ])
  expect(launch.engine.env).toMatchObject({
    MLX_RANK: '1',
    MLX_HOSTFILE: '/data/shards/u/hostfile.json',
    MLX_METAL_FAST_SYNCH: '0',
    HF_HUB_OFFLINE: '1',
    HF_HOME: '/data/shards/u/hf',
  })
  expect(fileOf(launch, 'hostfile.json')).toEqual([['127.0.0.1:20002'], ['10.0.0.2:20003']])
  expect(fileOf(launch, 'engine.json')).toMatchObject({
    model: '/models/m',
    servedName: 'chat',
    rank: 1,
    worldSize: 2,
    backend: 'ring',
    split: [3, 1],
    port: 20_001,
    kvBudgetBytes: 10_000_000,
    memoryLimitBytes: 100_000_000,
    prefillStepSize: 64,
  })
})

test('a single mlx shard has no trace of a gang in environment and files', () => {
  const launch = launchMlx(installation, input({}))
  expect(Object.keys(launch.engine.env).filter((name) => /RANK|HOSTFILE|JACCL/.test(name))).toEqual([])
  expect(fileOf(launch, 'hostfile.json')).toBeNull()
  expect(fileOf(launch, 'engine.json')).toMatchObject({ backend: null, split: null, worldSize: 1 })
})

test('nothing of our own environment reaches an engine', () => {
  const launches = () => [launchMlx(installation, input(rankOne)), launchFake(['node', 'engine.js'], input({}))]
  const before = launches()
  for (const name of [...Object.keys(before[0]?.engine.env ?? {}), 'JACCL_RING', 'OMPI_COMM_WORLD_RANK'])
    vi.stubEnv(name, 'leaked')
  expect(launches()).toEqual(before)
  vi.unstubAllEnvs()
})

test('what an engine cannot do is refused before anything starts', () => {
  expect(() => launchMlx(installation, { ...input({}), modelDir: undefined })).toThrow('needs the files of a model')
  expect(() => launchMlx(installation, input({ ...rankOne, transport: 'Jaccl' }))).toThrow('cannot run over Jaccl')
  expect(() => parseMlxArgs(['--trust-remote-code'])).toThrow('spec.engine.args[0]: Unsupported value')
  expect(() => parseFakeArgs(['--hang', '--crash-after-ms=soon'])).toThrow('spec.engine.args[1]: Unsupported value')
  expect(() => parseFakeArgs(['--toString'])).toThrow('Unsupported value')
})

test('the api allows the arguments that the engines know, and no others', () => {
  const names = (args: readonly string[]) => args.map((arg) => arg.replace('=N', '')).toSorted()
  expect(Object.keys(engineArgs.fake).toSorted()).toEqual(names(fakeArgNames))
  expect(Object.keys(engineArgs.mlx).toSorted()).toEqual(names(mlxArgNames))
})

test('only the rank and the epoch that were named misbehave', () => {
  const args = parseFakeArgs(['--hang', '--tokens-per-second=9', '--only-rank=1', '--only-epoch=1'])
  expect(argsFor(args, 1, 1)).toMatchObject({ hang: true, tokensPerSecond: 9 })
  expect(argsFor(args, 0, 1)).toMatchObject({ hang: false, tokensPerSecond: 9 })
  expect(argsFor(args, 1, 2)).toMatchObject({ hang: false })
})

test('the probe of mlx offers what can be launched', () => {
  const versions = { python: '3.11.7', mlx: '0.32.4', mlxLm: '0.32.2' }
  const answer = {
    versions,
    build: 'b',
    backends: ['ring', 'jaccl'],
    gpuMemoryBytes: 7,
    pipeline: ['q'],
    tensor: ['l'],
  }
  expect(available(answer)).toEqual({
    kind: 'Available',
    info: {
      name: 'mlx',
      version: '0.32.4',
      lmVersion: '0.32.2',
      build: 'b',
      transports: ['Ring'],
      pipeline: ['q'],
      tensor: ['l'],
    },
    gpuMemoryBytes: 7,
  })
})

test('a missing engine is told with its remedy, and the others are offered', async () => {
  const userDataDir = mkdtempSync(join(tmpdir(), 'mctl-none-'))
  onTestFinished(() => rmSync(userDataDir, { recursive: true }))
  const report = await probeEngines({ mlx: mlxRuntime({ userDataDir, platform: 'linux' }), fake: fakeRuntime() })
  expect(report.engines.map(({ name }) => name)).toEqual(['fake'])
  expect(report.missing).toEqual([
    { engine: 'mlx', optional: false, remedy: expect.stringContaining('npm run setup') as string },
  ])
})

const limits = { servedName: 'chat', contextTokens: 100, maxOutputTokens: 50, worldSize: 2 }
const readJsonQuestion = (body: unknown, chat = false) => readQuestion(JSON.stringify(body), chat, limits)

test.each([
  ['no JSON', '{', 400, null],
  ['a list of prompts', { prompt: ['a', 'b'] }, 400, null],
  ['an empty prompt', { prompt: '' }, 400, null],
  ['a stop that is no text', { prompt: 'a', stop: [5] }, 400, null],
  ['seed in a gang', { prompt: 'a', seed: 1 }, 400, 'unsupported_parameter'],
  ['another model', { prompt: 'a', model: '/tmp/x' }, 404, 'model_not_found'],
  ['too much to say', { prompt: 'a', max_tokens: 51 }, 400, 'context_length_exceeded'],
  ['too much in all', { prompt: 'a'.repeat(300), max_tokens: 26 }, 400, 'context_length_exceeded'],
])('%s is refused by the fake engine as by the real one', (_, body, status, code) => {
  const answer = typeof body === 'string' ? readQuestion(body, false, limits) : readJsonQuestion(body)
  expect(answer).toMatchObject({ kind: 'Refused', status, body: { error: { code } } })
})

test('null fields are dropped, and an answer depends on its prompt alone', () => {
  const plain = readJsonQuestion({ prompt: 'a', max_tokens: 5 })
  expect(readJsonQuestion({ prompt: 'a', max_tokens: 5, temperature: null, stream: null, model: 'chat' })).toEqual(
    plain,
  )
  expect(readJsonQuestion({ prompt: 'b', max_tokens: 5 })).not.toEqual(plain)
  expect(plain).toMatchObject({ kind: 'Question', finishReason: 'length' })
  expect(readJsonQuestion({ prompt: 'a' })).toMatchObject({ finishReason: 'stop' })
})

test('a stop text ends the answer before it', () => {
  const whole = readJsonQuestion({ prompt: 'a', max_tokens: 20 })
  if (whole.kind === 'Refused') throw new Error('refused')
  const stop = (whole.tokens[3] ?? '').trim()
  const cut = readJsonQuestion({ prompt: 'a', max_tokens: 20, stop })
  expect(cut).toMatchObject({ finishReason: 'stop' })
  if (cut.kind === 'Refused') throw new Error('refused')
  const said = JSON.parse(wholeAnswer({ id: 'i', model: 'chat', createdSeconds: 0 }, cut)) as {
    choices: { text: string }[]
  }
  expect(said.choices[0]?.text).not.toContain(stop)
})

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return `127.0.0.1:${port}`
}

test('a rank without its peers gives up at its deadline, one of another epoch is no peer', async () => {
  const hosts = [[await freeAddress()], [await freeAddress()]]
  const aRank = (rank: number, gang: string) =>
    new Ring({ rank, hosts, gang, clock: systemClock, deadlineMs: 300, onStep: () => {}, onBroken: () => {} })
  const ends = await Promise.allSettled([aRank(0, 'chat/2').join(), aRank(1, 'chat/1').join()])
  for (const end of ends)
    expect(end).toMatchObject({ reason: { message: 'the other ranks did not come within 0.3 s' } })
})
