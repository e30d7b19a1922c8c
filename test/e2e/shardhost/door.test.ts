// Answers through the door of a real shard: as they come, cut when the engine dies, cancelled when the client leaves.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { answerTokens } from '../../../agent/runtimes/fake/answers.ts'
import { TestAgent, aShard, ask, errorCodeOf, logLines, textOf, told, until } from './support.ts'

let agent: TestAgent
beforeEach(async () => {
  agent = await TestAgent.start()
})
afterEach(() => agent.remove())

test('the door answers for its own shard only', async () => {
  const shard = aShard()
  const { prepared } = await agent.startReady(shard)
  const answer = await ask(prepared, 'uid-of-an-older-epoch', { prompt: 'hello' })
  expect(answer.status).toBe(421)
  expect(errorCodeOf(answer)).toBe('wrong_shard')
})

test('before Ready the door refuses', async () => {
  const shard = aShard(told('--slow-load-ms=60000'))
  const prepared = await agent.prepare(shard)
  await agent.hosts.start(shard)
  await agent.until(shard, (local) => local.state?.phase === 'Loading')
  const answer = await ask(prepared, shard.metadata.uid, { prompt: 'hello' })
  expect([answer.status, errorCodeOf(answer)]).toEqual([503, 'shard_not_ready'])
})

test('a stream arrives token by token and says that it is whole', async () => {
  const shard = aShard(told('--tokens-per-second=50'))
  const { prepared } = await agent.startReady(shard)
  const sizes: number[] = []
  const body = { prompt: 'hello', max_tokens: 10, stream: true, stream_options: { include_usage: true } }
  const answer = await ask(prepared, shard.metadata.uid, body, { onText: (text) => void sizes.push(text.length) })
  expect(answer.cut).toBe(false)
  expect(sizes.length).toBeGreaterThan(5)
  const events = answer.text.split('\n\n').filter((line) => line.startsWith('data: {'))
  const said = events.flatMap((event) => (JSON.parse(event.slice(6)) as { choices: { text: string }[] }).choices)
  expect(said.map(({ text }) => text).join('')).toBe(answerTokens('hello', 10).join(''))
  expect(answer.text).toContain('"completion_tokens":10')
  expect(answer.text.endsWith('data: [DONE]\n\n')).toBe(true)
})

test('an engine that is killed in mid-stream cuts the stream, it does not end it', async () => {
  const shard = aShard(told('--tokens-per-second=20'))
  const { prepared, state } = await agent.startReady(shard)
  let killed = false
  const answer = await ask(
    prepared,
    shard.metadata.uid,
    { prompt: 'hello', max_tokens: 400, stream: true },
    {
      onText: () => {
        if (!killed) process.kill(state?.enginePid ?? 0, 'SIGKILL')
        killed = true
      },
    },
  )
  expect(answer).toMatchObject({ status: 200, cut: true })
  expect(answer.text).not.toContain('[DONE]')
})

test('a client that goes away cancels its request in the engine', async () => {
  const shard = aShard(told('--tokens-per-second=20'))
  const { prepared } = await agent.startReady(shard)
  const body = { prompt: 'hello', max_tokens: 400, stream: true }
  await ask(prepared, shard.metadata.uid, body, { onText: () => false }).catch(() => {})
  let lines: readonly string[] = []
  await until(() => lines.some((line) => /cancelled after \d+ tokens/.test(line)) || void read(), 'the engine cancels')
  async function read() {
    lines = await logLines(agent, shard)
  }
})

test('a draining leader answers what it has taken, refuses the rest and then stops', async () => {
  const shard = aShard(told('--tokens-per-second=40'))
  const { prepared } = await agent.startReady(shard)
  const { uid } = shard.metadata
  let refused: Promise<unknown> | undefined
  const answer = await ask(
    prepared,
    uid,
    { prompt: 'hello', max_tokens: 40, stream: true },
    {
      onText: () => {
        if (refused === undefined) agent.hosts.stop(uid, 5000, 'deleted', 60_000)
        refused ??= agent
          .until(shard, (local) => local.state?.phase === 'Stopping')
          .then(() => ask(prepared, uid, { prompt: 'late' }))
      },
    },
  )
  expect(answer.cut).toBe(false)
  expect(answer.text).toContain('[DONE]')
  expect(await refused).toMatchObject({ status: 503 })
  expect((await agent.ended(shard)).state?.exit).toMatchObject({ code: 0, reason: 'Stopped' })
})

test('what exceeds the context is refused by the engine, and it serves on', async () => {
  const shard = aShard()
  const { prepared } = await agent.startReady(shard)
  for (const body of [
    { prompt: 'hello', max_tokens: 501 },
    { prompt: 'x'.repeat(4000), max_tokens: 1 },
  ]) {
    const answer = await ask(prepared, shard.metadata.uid, body)
    expect([answer.status, errorCodeOf(answer)]).toEqual([400, 'context_length_exceeded'])
  }
  expect(textOf(await ask(prepared, shard.metadata.uid, { prompt: 'hello', max_tokens: 3 }))).not.toBe('')
})
