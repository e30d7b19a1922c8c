// The real llama.cpp under its shardhost: it answers, alone and over two ranks the same; what it must not be asked is
// refused; and however a rank ends, nothing of it is left.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { LocalShard } from '../../../agent/hosts.ts'
import type { Runtimes } from '../../../agent/runtimes/index.ts'
import type { Shard, ShardSpec } from '../../../src/api/shard.ts'
import { ggufDir, groupMembers, heldBytes, llamaCpp, withLlamaCpp } from '../../support/llamacpp.ts'
import {
  TestAgent,
  aShard,
  alive,
  ask,
  errorCodeOf,
  logLines,
  textOf,
  until,
  withRendezvous,
} from '../shardhost/support.ts'

const LAYERS = 30
const MIB = 2 ** 20
const serving = { servedName: 'smol', contextTokens: 512, concurrency: 2, maxOutputTokens: 500 }
const PROMPT = { prompt: 'The capital of France is', max_tokens: 6, temperature: 0 }

withLlamaCpp(() => {
  let runtimes: Runtimes
  let agents: readonly TestAgent[] = []
  beforeAll(async () => {
    runtimes = await llamaCpp()
  })
  beforeEach(async () => {
    agents = [await TestAgent.start({ runtimes }), await TestAgent.start({ runtimes })]
  })
  afterEach(async () => {
    await Promise.all(agents.map((agent) => agent.remove()))
  })

  const agentOf = (rank: number) => agents[rank] as TestAgent
  const shardOf = (changes: Partial<ShardSpec>) =>
    aShard({
      // One thread each: ranks of one machine share its cores.
      engine: { name: 'llamacpp', args: ['--threads=1'] },
      model: { layers: LAYERS, vocabSize: 49_152 },
      stage: [0, LAYERS],
      serving,
      ...changes,
    })
  const ready = (local: LocalShard) => local.state?.phase === 'Ready'

  /** Prepared on both agents and told of each other, not started. */
  async function prepareGang(split: readonly [number, number]): Promise<readonly Shard[]> {
    const ranks = [0, 1].map((rank) =>
      shardOf({
        rank,
        worldSize: 2,
        strategy: 'Pipeline',
        transport: 'Rpc',
        split: [...split],
        stage: rank === 0 ? [0, split[0]] : [split[0], LAYERS],
      }),
    )
    const prepared = await Promise.all(
      ranks.map((shard, rank) => agentOf(rank).prepare(shard, rank === 0 ? ggufDir : undefined)),
    )
    return withRendezvous(ranks, prepared)
  }

  async function startGang(split: readonly [number, number]): Promise<readonly [Shard, Shard, LocalShard, LocalShard]> {
    const [leader, worker] = (await prepareGang(split)) as [Shard, Shard]
    // The leader first: it waits for its worker.
    await agentOf(0).hosts.start(leader)
    await agentOf(1).hosts.start(worker)
    const [first, second] = await Promise.all([agentOf(0).until(leader, ready), agentOf(1).until(worker, ready)])
    return [leader, worker, first, second]
  }

  describe('one rank', () => {
    test('answers sensibly, counts as planned, and refuses what does not fit, never less', async () => {
      const shard = shardOf({})
      const { prepared, state } = await agentOf(0).startReady(shard, ggufDir)
      const call = (body: Record<string, unknown>, path?: string) =>
        ask(prepared, shard.metadata.uid, body, path === undefined ? {} : { path })
      expect(textOf(await call(PROMPT))).toContain('Paris')

      const question = [{ role: 'user', content: 'What is the capital of France?' }]
      const chat = await call(
        { messages: question, max_tokens: 12, temperature: 0, model: 'smol' },
        '/v1/chat/completions',
      )
      expect(JSON.parse(chat.text)).toMatchObject({ usage: { prompt_tokens: 37 } })
      expect(chat.text).toContain('The capital of France is Paris.')

      // 5 tokens of prompt: 507 is the last that fits, but only 500 may be asked for.
      expect((await call({ ...PROMPT, max_tokens: 500, stop: [' '] })).status).toBe(200)
      for (const body of [
        { ...PROMPT, max_tokens: 501 },
        { ...PROMPT, prompt: 'word '.repeat(100), max_tokens: 450 },
        { prompt: 'word '.repeat(600) },
      ]) {
        const answer = await call(body)
        expect([answer.status, errorCodeOf(answer)]).toEqual([400, 'context_length_exceeded'])
      }
      const long = await call({ messages: [{ role: 'user', content: 'word '.repeat(600) }] }, '/v1/chat/completions')
      expect([long.status, errorCodeOf(long)]).toEqual([400, 'context_length_exceeded'])
      for (const [body, path] of [
        [{ prompt: ['a', 'b'] }, undefined],
        [{ prompt: '' }, undefined],
        [{ messages: 'x' }, '/v1/chat/completions'],
        [{ prompt: 'a', stop: [5] }, undefined],
      ] as const)
        expect((await call(body, path)).status).toBe(400)
      expect((await call({ ...PROMPT, model: 'other' })).status).toBe(404)
      expect((await call({}, '/slots')).status).toBe(404)

      const streamed = await call({ ...PROMPT, stream: true, stream_options: { include_usage: true } })
      expect(streamed.text).toContain('"completion_tokens":6')
      expect(streamed.text).toContain('data: [DONE]')
      // Served all that, and is what it was.
      expect(alive(state?.enginePid)).toBe(true)
      expect(textOf(await call(PROMPT))).toContain('Paris')
    })

    test('fills its whole context to the last token', async () => {
      const shard = shardOf({ serving: { ...serving, contextTokens: 256, maxOutputTokens: 256 } })
      const { prepared } = await agentOf(0).startReady(shard, ggufDir)
      const body = {
        prompt: 'One, two, three, four, five',
        max_tokens: 245,
        temperature: 0,
        logit_bias: { 0: -100, 2: -100 },
      }
      const answer = await ask(prepared, shard.metadata.uid, body)
      expect(JSON.parse(answer.text)).toMatchObject({ usage: { completion_tokens: 245 } })
    })

    test('a client that leaves takes its request with it', async () => {
      const shard = shardOf({ serving: { ...serving, concurrency: 1 } })
      const { prepared } = await agentOf(0).startReady(shard, ggufDir)
      let pieces = 0
      await ask(
        prepared,
        shard.metadata.uid,
        { prompt: 'Once', max_tokens: 450, stream: true, logit_bias: { 0: -100, 2: -100 } },
        { onText: () => (pieces += 1) < 3 },
      ).catch(() => undefined)
      // The only place is free again long before 450 tokens are.
      expect(textOf(await ask(prepared, shard.metadata.uid, PROMPT))).toContain('Paris')
    })

    test('ends with its shardhost, and its folder and log tell of it', async () => {
      const shard = shardOf({})
      const { state } = await agentOf(0).startReady(shard, ggufDir)
      const enginePid = state?.enginePid ?? 0
      expect(groupMembers(enginePid).length).toBe(2)
      process.kill(state?.hostPid ?? 0, 'SIGKILL')
      await until(() => groupMembers(enginePid).length === 0, 'engine and its watch end')
      expect((await logLines(agentOf(0), shard)).join('\n')).toContain('llama-server')
    })

    test('stops when asked, and leaves nobody', async () => {
      const shard = shardOf({})
      const { state } = await agentOf(0).startReady(shard, ggufDir)
      agentOf(0).hosts.stop(shard.metadata.uid, 10_000, 'deleted')
      const end = await agentOf(0).ended(shard)
      expect(end.state?.exit).toMatchObject({ reason: 'Stopped', message: expect.stringContaining('deleted') })
      expect(groupMembers(state?.enginePid ?? 0)).toEqual([])
    })

    test('a file that is no model fails with the words of the engine', async () => {
      const shard = shardOf({})
      await agentOf(0).prepare(shard, '/dev/null/none.gguf')
      await agentOf(0).hosts.start(shard)
      const end = await agentOf(0).ended(shard)
      expect(end.state?.exit).toMatchObject({ reason: 'EngineExited', message: expect.stringMatching(/failed|error/i) })
    })
  })

  describe('two ranks over RPC', () => {
    test('divide the layers as planned, within the planned memory, and answer as one rank does', async () => {
      const single = shardOf({})
      const alone = await agentOf(0).startReady(single, ggufDir)
      const expected = textOf(await ask(alone.prepared, single.metadata.uid, { ...PROMPT, max_tokens: 24 }))
      agentOf(0).hosts.stop(single.metadata.uid, 5000, 'compared')
      await agentOf(0).ended(single)

      const [leader, worker, first, second] = await startGang([20, 10])
      const answer = await ask(first.prepared, leader.metadata.uid, { ...PROMPT, max_tokens: 24 })
      expect(textOf(answer)).toBe(expected)
      // 6.75 MiB per layer here; the worker holds the output (54 MiB), the leader keeps its layers in the mapped file.
      const log = (await logLines(agentOf(0), leader)).join('\n')
      const buffers = [...log.matchAll(/(\S+) model buffer size =\s+([\d.]+) MiB/g)].map(([, name, mib]) => [
        name,
        Number(mib),
      ])
      const remote = buffers.find(([name]) => String(name).startsWith('RPC0'))?.[1] as number
      expect(remote).toBeGreaterThan(10 * 6.7 + 53)
      expect(remote).toBeLessThan(10 * 6.9 + 56)
      expect(heldBytes(second.state?.enginePid ?? 0)).toBeLessThan(400 * MIB)
      expect(heldBytes(first.state?.enginePid ?? 0)).toBeLessThan(400 * MIB)
      expect((await logLines(agentOf(1), worker)).join('\n')).toContain('Accepted client connection')
    })

    test('a worker killed while the leader computes: the stream is cut, and the leader ends with the reason', async () => {
      const [leader, worker, first, second] = await startGang([15, 15])
      let killed = false
      const answer = await ask(
        first.prepared,
        leader.metadata.uid,
        { prompt: 'Once upon a time', max_tokens: 450, stream: true, logit_bias: { 0: -100, 2: -100 } },
        {
          onText: () => {
            if (!killed) process.kill(second.state?.enginePid ?? 0, 'SIGKILL')
            killed = true
          },
        },
      )
      expect(answer.cut).toBe(true)
      const [lost, killedEnd] = await Promise.all([agentOf(0).ended(leader), agentOf(1).ended(worker)])
      expect(killedEnd.state?.exit).toMatchObject({ signal: 'SIGKILL', reason: 'EngineCrashed' })
      expect(lost.state?.exit).toMatchObject({
        signal: 'SIGABRT',
        message: expect.stringContaining('Remote RPC server crashed'),
      })
      expect(lost.state?.exit?.atMs ?? 0).toBeGreaterThanOrEqual(killedEnd.state?.exit?.atMs ?? Infinity)
    })

    test('a worker killed while nobody asks: the leader notices nothing, and can be stopped at once', async () => {
      const [leader, worker, first, second] = await startGang([15, 15])
      process.kill(second.state?.enginePid ?? 0, 'SIGKILL')
      await agentOf(1).ended(worker)
      expect(alive(first.state?.enginePid)).toBe(true)
      agentOf(0).hosts.stop(leader.metadata.uid, 10_000, 'rank 1 failed')
      expect((await agentOf(0).ended(leader)).state?.exit).toMatchObject({ reason: 'Stopped' })
      expect(groupMembers(first.state?.enginePid ?? 0)).toEqual([])
    })

    test('a frozen worker is seen at the leader, which ages while it waits', async () => {
      const [leader, , first, second] = await startGang([15, 15])
      process.kill(second.state?.enginePid ?? 0, 'SIGSTOP')
      const asked = ask(first.prepared, leader.metadata.uid, PROMPT)
      await agentOf(0).until(leader, (local) => (local.state?.progressAgeSeconds ?? 0) >= 3)
      process.kill(second.state?.enginePid ?? 0, 'SIGCONT')
      expect((await asked).status).toBe(200)
    })

    test('a leader whose worker is absent does not start its engine, and can be called off', async () => {
      const [leader] = (await prepareGang([15, 15])) as [Shard, Shard]
      await agentOf(0).hosts.start(leader)
      await until(() => agentOf(0).local(leader)?.state !== undefined, 'the shardhost lives')
      expect(agentOf(0).local(leader)?.state).toMatchObject({ phase: 'Starting' })
      expect(agentOf(0).local(leader)?.state?.enginePid).toBeUndefined()
      agentOf(0).hosts.stop(leader.metadata.uid, 10_000, 'the window has passed')
      expect((await agentOf(0).ended(leader)).state?.exit).toMatchObject({ reason: 'Stopped' })
    })
  })
})
