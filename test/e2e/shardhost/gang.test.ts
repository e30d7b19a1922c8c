// Gangs of the fake engine over two agents: they meet, answer as one, and a rank's death is everybody's end.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { answerTokens } from '../../../agent/runtimes/fake/answers.ts'
import type { LocalShard } from '../../../agent/hosts.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { TestAgent, aShard, alive, ask, textOf, told, until, withRendezvous } from './support.ts'

let agents: readonly TestAgent[]
beforeEach(async () => {
  agents = [await TestAgent.start(), await TestAgent.start()]
})
afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.remove()))
})

/** Rank r on agent r, prepared and told of each other, and started. */
async function startGang(...args: string[]): Promise<readonly Shard[]> {
  const ranks = agents.map((_, rank) =>
    aShard({
      ...told(...args),
      rank,
      worldSize: 2,
      strategy: 'Pipeline',
      split: [3, 1],
      stage: rank ? [0, 3] : [3, 4],
    }),
  )
  const prepared = await Promise.all(ranks.map((shard, rank) => (agents[rank] as TestAgent).prepare(shard)))
  const shards = withRendezvous(ranks, prepared)
  await Promise.all(shards.map((shard, rank) => (agents[rank] as TestAgent).hosts.start(shard)))
  return shards
}

const untilAll = (shards: readonly Shard[], holds: (local: LocalShard) => boolean) =>
  Promise.all(shards.map((shard, rank) => (agents[rank] as TestAgent).until(shard, holds)))
const ready = (local: LocalShard) => local.state?.phase === 'Ready'
const ended = (local: LocalShard) => local.state?.phase === 'Exited' || local.lost === true

test('the ranks meet, are Ready together, and answer as a single shard does', async () => {
  const shards = await startGang('--slow-load-ms=300', '--only-rank=1')
  const [leader] = await untilAll(shards, ready)
  const body = { prompt: 'hello', max_tokens: 20 }
  const answer = await ask((leader as LocalShard).prepared, shards[0]?.metadata.uid ?? '', body)
  expect(textOf(answer)).toBe(answerTokens('hello', 20).join(''))
})

test.each([0, 1])(
  'when rank %i is killed in mid-stream the stream is cut and the other rank ends, too',
  async (rank) => {
    const shards = await startGang('--tokens-per-second=20')
    const locals = await untilAll(shards, ready)
    let killed = false
    const answer = await ask(
      (locals[0] as LocalShard).prepared,
      shards[0]?.metadata.uid ?? '',
      { prompt: 'hello', max_tokens: 400, stream: true },
      {
        onText: () => {
          if (!killed) process.kill(locals[rank]?.state?.enginePid ?? 0, 'SIGKILL')
          killed = true
        },
      },
    )
    expect(answer.cut).toBe(true)
    const ends = await untilAll(shards, ended)
    expect(ends[rank]?.state?.exit?.signal).toBe('SIGKILL')
    expect(ends[1 - rank]?.state?.exit).toMatchObject({ code: 70, reason: 'EngineExited' })
    expect(ends[1 - rank]?.state?.exit?.message).toContain('connection to a peer was lost')
  },
)

test('a rank that stalls is seen to age on every rank of its gang, its own too', async () => {
  const shards = await startGang()
  const locals = await untilAll(shards, ready)
  // As a machine that freezes: no heartbeat comes, no connection breaks.
  process.kill(locals[1]?.state?.enginePid ?? 0, 'SIGSTOP')
  await untilAll(shards, (local) => (local.state?.progressAgeSeconds ?? 0) >= 2)
})

test('a gang that is deleted drains at its leader, and the others end with it', async () => {
  const shards = await startGang('--tokens-per-second=40')
  const [leader] = await untilAll(shards, ready)
  let asked = false
  const answer = await ask(
    (leader as LocalShard).prepared,
    shards[0]?.metadata.uid ?? '',
    { prompt: 'hello', max_tokens: 40, stream: true },
    {
      onText: () => {
        if (!asked)
          for (const [i, shard] of shards.entries()) agents[i]?.hosts.stop(shard.metadata.uid, 5000, 'deleted', 60_000)
        asked = true
      },
    },
  )
  expect(answer.text).toContain('[DONE]')
  const ends = await untilAll(shards, ended)
  expect(ends.map((local) => local.state?.exit?.reason)).toEqual(['Stopped', 'Stopped'])
})

test('a rank that waits for a peer can be stopped', async () => {
  const [agent] = agents as [TestAgent, TestAgent]
  const shard = aShard({ ...told(), worldSize: 2, strategy: 'Tensor' })
  const own = await agent.prepare(shard)
  const [start] = withRendezvous([shard], [own, { ...own, ringAddress: '127.0.0.1:1' }]) as [Shard]
  await agent.hosts.start(start)
  await until(() => agent.local(shard)?.state?.enginePid !== undefined, 'the engine is started')
  agent.hosts.stop(shard.metadata.uid, 2000, 'the window has passed')
  const end = await agent.ended(shard)
  expect(end.state?.exit?.reason).toBe('Stopped')
  expect(alive(end.state?.enginePid)).toBe(false)
})

test('a rank is not started with a rendezvous that names another port than its own', async () => {
  const [agent] = agents as [TestAgent, TestAgent]
  const shard = aShard({ worldSize: 2, strategy: 'Tensor' })
  const own = await agent.prepare(shard)
  const [start] = withRendezvous([shard], [{ ...own, ringAddress: '127.0.0.1:1' }, own]) as [Shard]
  await expect(agent.hosts.start(start)).rejects.toMatchObject({ code: 'Conflict' })
  expect(agent.local(shard)?.started).toBeUndefined()
})
