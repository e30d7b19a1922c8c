// The real engine under the real shardhost: a single shard, and a pipeline of two agents that dies and leaves nothing.
import { afterEach, beforeAll, beforeEach, afterAll, expect, test } from 'vitest'
import { probeEngines, runtimesOf } from '../../../agent/runtimes/index.ts'
import type { Shard, ShardSpec } from '../../../src/api/shard.ts'
import { userDataDir } from '../../../src/lib/userdata.ts'
import { stopAll, tinyModel } from '../../support/mlx.ts'
import type { Answer } from './support.ts'
import { TestAgent, aShard, alive, ask, filesUnder, textOf, withRendezvous } from './support.ts'

const runtimes = runtimesOf({ userDataDir: userDataDir(process.env, process.platform), platform: process.platform })
let model: string
beforeAll(() => {
  model = tinyModel('qwen2', 4)
})
afterAll(stopAll)

let agents: readonly [TestAgent, TestAgent]
beforeEach(async () => {
  agents = [await TestAgent.start({ runtimes }), await TestAgent.start({ runtimes })]
})
afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.remove()))
})

const mlx: Partial<ShardSpec> = {
  engine: { name: 'mlx', args: [] },
  // The tiny model's context is short; its weights are a few MB.
  serving: { servedName: 'chat', contextTokens: 128, concurrency: 1, maxOutputTokens: 64 },
  memoryBytes: 400_000_000,
  parts: { weights: 3_000_000, kv: 0, runtime: 397_000_000 },
}
const body = { model: 'chat', prompt: 'abc', max_tokens: 8, temperature: 0 }

test('the probe offers mlx with what it can cut', async () => {
  const { engines } = await probeEngines(runtimes)
  const found = engines.find(({ name }) => name === 'mlx')
  expect(found).toMatchObject({ transports: ['Ring'], build: expect.stringMatching(/^[0-9a-f]{12}$/) as string })
  expect(found?.pipeline).toContain('qwen2')
  expect(found?.tensor).toContain('llama')
})

test('one rank and a pipeline over two agents give the same answer; a killed rank ends both, and nothing is left', async () => {
  const single = aShard(mlx)
  const { prepared } = await agents[0].startReady(single, model)
  const alone = await ask(prepared, single.metadata.uid, body)
  expect(alone.status).toBe(200)
  await stopAndForget(agents[0], single)

  const ranks = [0, 1].map((rank) =>
    aShard({ ...mlx, rank, worldSize: 2, strategy: 'Pipeline', split: [3, 1], stage: rank ? [0, 3] : [3, 4] }),
  )
  const ports = await Promise.all(ranks.map((shard, i) => (agents[i] as TestAgent).prepare(shard, model)))
  const shards = withRendezvous(ranks, ports) as [Shard, Shard]
  await Promise.all(shards.map((shard, i) => (agents[i] as TestAgent).hosts.start(shard)))
  const locals = await Promise.all(
    shards.map((shard, i) => (agents[i] as TestAgent).until(shard, ({ state }) => state?.phase === 'Ready')),
  )
  const together = await ask(locals[0]?.prepared ?? prepared, shards[0].metadata.uid, body)
  expect(textOf(together)).toBe(textOf(alone))

  let killed = false
  const stream: Promise<Answer> = ask(
    locals[0]?.prepared ?? prepared,
    shards[0].metadata.uid,
    { ...body, max_tokens: 60, stream: true },
    {
      onText: () => {
        if (!killed) process.kill(locals[1]?.state?.enginePid ?? 0, 'SIGKILL')
        killed = true
      },
    },
  )
  expect((await stream).text).not.toContain('[DONE]')
  expect((await stream).cut).toBe(true)
  const ends = await Promise.all(shards.map((shard, i) => (agents[i] as TestAgent).ended(shard)))
  expect(ends.map(({ state }) => state?.exit?.reason)).toEqual(['EngineExited', 'EngineCrashed'])
  for (const [i, shard] of shards.entries()) await stopAndForget(agents[i] as TestAgent, shard)
})

async function stopAndForget(agent: TestAgent, shard: Shard): Promise<void> {
  agent.hosts.stop(shard.metadata.uid, 10_000, 'deleted')
  const { state } = await agent.ended(shard)
  await agent.hosts.forget(shard.metadata.uid)
  expect(alive(state?.hostPid) || alive(state?.enginePid)).toBe(false)
  expect(filesUnder(agent.dataDir).filter((file) => !file.startsWith('logs/'))).toEqual(['ports.json'])
}
