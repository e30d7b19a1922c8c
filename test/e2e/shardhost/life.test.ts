// The life of single shards with the fake engine: start, Ready, answer, every way to end, and nothing left behind.
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { socketDir } from '../../../agent/handles.ts'
import type { HostsOptions } from '../../../agent/shardhost/hosts.ts'
import { TestAgent, aShard, alive, ask, filesUnder, listens, logLines, textOf, told, until } from './support.ts'

let agent: TestAgent
beforeEach(async () => {
  agent = await TestAgent.start()
})
afterEach(() => agent.remove())

/** One with options of its own, for this test alone. */
async function anotherAgent(options: Partial<HostsOptions>): Promise<TestAgent> {
  const another = await TestAgent.start(options)
  onTestFinished(() => another.remove())
  return another
}

test('a started shard becomes Ready and answers through its door', async () => {
  const shard = aShard()
  const phases: (string | undefined)[] = []
  agent.hosts.onChange(() => phases.push(agent.local(shard)?.state?.phase))
  const local = await agent.startReady(shard)
  expect([...new Set(phases)]).toEqual([undefined, 'Starting', 'Loading', 'Ready'])
  expect(alive(local.state?.enginePid)).toBe(true)

  const answer = await ask(local.prepared, shard.metadata.uid, { model: 'chat', prompt: 'hello', max_tokens: 5 })
  expect(answer.status).toBe(200)
  expect(textOf(answer).split(' ')).toHaveLength(5)
})

test('an engine that is killed ends its shard with the signal, and the last lines of its log', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  process.kill(state?.enginePid ?? 0, 'SIGKILL')
  const ended = await agent.ended(shard)
  expect(ended.lost).toBeUndefined()
  expect(ended.state?.exit).toMatchObject({ signal: 'SIGKILL', reason: 'EngineCrashed' })
  expect(ended.state?.lastLogLines.join()).toContain('fake engine: rank 0 of 1')
})

test('an engine that ends with 0 unasked has failed', async () => {
  const shard = aShard(told('--crash-after-ms=50', '--exit-code=0'))
  await agent.prepare(shard)
  await agent.hosts.start(shard)
  const ended = await agent.ended(shard)
  expect(ended.state?.exit).toMatchObject({ code: 0, reason: 'EngineExited' })
})

test('a host that is killed takes its engine with it, and the shard is lost', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  process.kill(state?.hostPid ?? 0, 'SIGKILL')
  const ended = await agent.ended(shard)
  expect(ended.lost).toBe(true)
  expect(alive(state?.enginePid)).toBe(false)
})

test('a killed host takes even an engine with it that hears nothing', async () => {
  const shard = aShard(told('--hang-after-ms=1'))
  const { state } = await agent.startReady(shard)
  process.kill(state?.enginePid ?? 0, 'SIGSTOP')
  process.kill(state?.hostPid ?? 0, 'SIGKILL')
  await agent.ended(shard)
  expect(alive(state?.enginePid)).toBe(false)
})

test('a stopped engine ends by itself within its grace', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  agent.hosts.stop(shard.metadata.uid, 10_000, 'scaled down')
  const ended = await agent.ended(shard)
  expect(ended.state?.exit).toMatchObject({ code: 0, reason: 'Stopped' })
  expect(ended.state?.exit?.message).toContain('scaled down')
  expect(alive(state?.enginePid)).toBe(false)
})

test('a hung engine is killed after the grace', async () => {
  const shard = aShard(told('--hang-after-ms=1'))
  await agent.startReady(shard)
  agent.hosts.stop(shard.metadata.uid, 300, 'scaled down')
  const ended = await agent.ended(shard)
  expect(ended.state?.exit).toMatchObject({ signal: 'SIGKILL', reason: 'Stopped' })
  expect(ended.state?.exit?.message).toContain('nothing ended within 0.3 s of SIGTERM')
})

test('a second stop shortens the first', async () => {
  const shard = aShard(told('--hang-after-ms=1'))
  await agent.startReady(shard)
  agent.hosts.stop(shard.metadata.uid, 600_000, 'scaled down')
  await agent.until(shard, (local) => local.state?.phase === 'Stopping')
  agent.hosts.stop(shard.metadata.uid, 100, 'now')
  expect((await agent.ended(shard)).state?.exit?.signal).toBe('SIGKILL')
})

test('what a shard cannot have is told: memory, a start in time, a completion', async () => {
  const short = await anotherAgent({ startupDeadlineMs: () => 3000 })
  // The first two end by themselves, however busy this machine is.
  const cases = [
    {
      on: agent,
      args: ['--refuse-memory'],
      exit: { code: 70, reason: 'EngineExited' },
      says: 'cannot allocate 100000000 bytes',
    },
    {
      on: agent,
      args: ['--crash-on-start', '--exit-code=9'],
      exit: { code: 9, reason: 'EngineExited' },
      says: 'crashed on start',
    },
    {
      on: short,
      args: ['--hang'],
      exit: { signal: 'SIGKILL', reason: 'StartDeadline' },
      says: 'still Loading after 3 s',
    },
    {
      on: short,
      args: ['--lie-ready'],
      exit: { code: 0, reason: 'StartDeadline' },
      says: 'said ready but answered no completion',
    },
  ]
  for (const { on, args, exit, says } of cases) {
    const shard = aShard(told(...args))
    await on.prepare(shard)
    await on.hosts.start(shard)
    const { state } = await on.ended(shard)
    expect(state?.exit, args.join()).toMatchObject(exit)
    expect(state?.exit?.message, args.join()).toContain(says)
    await on.hosts.forget(shard.metadata.uid)
  }
})

test('an engine that no longer moves is seen to age, though it still beats', async () => {
  const shard = aShard(told('--hang-after-ms=1'))
  await agent.startReady(shard)
  const stalled = await agent.until(shard, (local) => (local.state?.progressAgeSeconds ?? 0) >= 2)
  expect(stalled.state?.phase).toBe('Ready')
})

test('a host that is asked to end by a signal stops its engine first', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  process.kill(state?.hostPid ?? 0, 'SIGTERM')
  const ended = await agent.ended(shard)
  expect(ended.state?.exit).toMatchObject({ code: 0, reason: 'ShardhostTerminated' })
})

test('after forget there is no process, port, socket or file left but the log', async () => {
  const shard = aShard()
  const { state, prepared } = await agent.startReady(shard)
  agent.hosts.stop(shard.metadata.uid, 5000, 'deleted')
  await agent.ended(shard)
  await agent.hosts.forget(shard.metadata.uid)

  expect(agent.hosts.list()).toEqual([])
  expect(alive(state?.hostPid) || alive(state?.enginePid)).toBe(false)
  for (const port of [prepared.port, prepared.enginePort]) expect(await listens(port)).toBe(false)
  expect(filesUnder(agent.dataDir).filter((file) => !file.startsWith('logs/'))).toEqual(['ports.json'])
  expect((await logLines(agent, shard)).join('\n')).toContain('Stopped: deleted')
})

test('a shard that runs is not forgotten', async () => {
  const shard = aShard()
  await agent.startReady(shard)
  await expect(agent.hosts.forget(shard.metadata.uid)).rejects.toMatchObject({ code: 'Conflict' })
})

test('start and prepare asked twice do their work once', async () => {
  const shard = aShard()
  const [first, second] = await Promise.all([agent.prepare(shard), agent.prepare(shard)])
  expect(second).toEqual(first)
  await Promise.all([agent.hosts.start(shard), agent.hosts.start(shard)])
  const { state } = await agent.until(shard, (local) => local.state?.phase === 'Ready')
  await agent.hosts.start(shard)
  expect(agent.local(shard)?.state?.hostPid).toBe(state?.hostPid)
})

test.each([
  ['is not there', ['/nowhere/node']],
  ['ends at once', [process.execPath, '-e', 'process.exit(9)']],
])('a shard whose host %s is lost, and is not started again', async (_, hostEntry) => {
  const broken = await anotherAgent({ hostEntry })
  const shard = aShard()
  await broken.prepare(shard)
  await broken.hosts.start(shard)
  expect((await broken.ended(shard)).lost).toBe(true)
  await broken.hosts.start(shard)
  expect(broken.local(shard)?.state).toBeUndefined()
  await broken.hosts.forget(shard.metadata.uid)
})

test('a door whose port is taken by another fails the shard with the reason', async () => {
  const shard = aShard()
  const prepared = await agent.prepare(shard)
  const thief = createServer().listen(prepared.port, '127.0.0.1')
  onTestFinished(() => void thief.close())
  await until(() => thief.listening, 'thief listens')
  await agent.hosts.start(shard)
  const { state } = await agent.ended(shard)
  expect(state?.exit?.reason).toBe('ShardhostFailed')
  expect(state?.exit?.message).toContain('EADDRINUSE')
})

test('a data directory with a long name still has its sockets, in a folder of its own that goes away', async () => {
  const long = await anotherAgent({ dataDir: `${agent.dataDir}/${'x'.repeat(100)}` })
  const shard = aShard()
  await long.startReady(shard)
  const dir = socketDir(long.dataDir, process.getuid?.() ?? 0)
  expect(dir.startsWith('/tmp/mctl-')).toBe(true)
  expect(existsSync(dir)).toBe(true)
  long.hosts.stop(shard.metadata.uid, 1000, 'over')
  await long.ended(shard)
  await long.hosts.forget(shard.metadata.uid)
  expect(existsSync(dir)).toBe(false)
})
