// Agents come and go, shards stay: adoption over the socket, handles of the dead, and starting at most once.
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { writeHandle, readHandles, shardDir } from '../../../agent/handles.ts'
import { TestAgent, aShard, alive, ask, told } from './support.ts'

let agent: TestAgent
beforeEach(async () => {
  agent = await TestAgent.start()
})
afterEach(() => agent.remove())

test('an agent that comes back adopts its shard, which never stopped answering', async () => {
  const shard = aShard(told('--tokens-per-second=40'))
  const before = await agent.startReady(shard)
  const { uid } = shard.metadata
  const stream = ask(before.prepared, uid, { prompt: 'hello', max_tokens: 40, stream: true })
  await agent.restart()
  expect(agent.local(shard)).toMatchObject({
    shardName: shard.metadata.name,
    clusterUid: 'cluster-1',
    prepared: before.prepared,
    state: { phase: 'Ready', hostPid: before.state?.hostPid, enginePid: before.state?.enginePid },
  })
  expect((await stream).text).toContain('[DONE]')
  agent.hosts.stop(uid, 5000, 'deleted')
  expect((await agent.ended(shard)).state?.exit?.reason).toBe('Stopped')
})

test('an engine that died while no agent was there is found with its reason', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  agent.hosts.close()
  process.kill(state?.enginePid ?? 0, 'SIGKILL')
  await agent.restart()
  const found = await agent.ended(shard)
  expect(found.state?.exit).toMatchObject({ signal: 'SIGKILL', reason: 'EngineCrashed' })
  await agent.hosts.forget(shard.metadata.uid)
})

test('a host that died while no agent was there is lost, with no engine left', async () => {
  const shard = aShard()
  const { state } = await agent.startReady(shard)
  agent.hosts.close()
  process.kill(state?.enginePid ?? 0, 'SIGSTOP')
  process.kill(state?.hostPid ?? 0, 'SIGKILL')
  await agent.restart()
  expect((await agent.ended(shard)).lost).toBe(true)
  expect(alive(state?.enginePid)).toBe(false)
})

test('after a boot of the machine the handles name nobody: started shards are lost, prepared ones are unknown', async () => {
  const started = aShard()
  const prepared = aShard({ group: 'other-0' })
  const { state } = await agent.startReady(started)
  await agent.prepare(prepared)
  process.kill(state?.hostPid ?? 0, 'SIGTERM')
  await agent.ended(started)
  // As if the machine had gone down while it ran.
  const dir = shardDir(agent.dataDir, started.metadata.uid)
  writeFileSync(join(dir, 'state.json'), JSON.stringify({ ...state, hostPid: process.pid, enginePid: process.pid }))
  await agent.restart({ bootId: 'boot-2' })
  expect(agent.hosts.list()).toHaveLength(1)
  expect(agent.local(started)?.lost).toBe(true)
  await agent.hosts.forget(started.metadata.uid)
  expect(readdirSync(join(agent.dataDir, 'shards'))).toEqual([])
})

test('a prepared shard keeps its ports over a restart of the agent', async () => {
  const shard = aShard()
  const prepared = await agent.prepare(shard)
  await agent.restart()
  expect(await agent.prepare(shard)).toEqual(prepared)
  expect(await agent.prepare(aShard({ group: 'other-0' }))).not.toMatchObject({ port: prepared.port })
})

test('a start that an agent died over is given up: the late host finds its claim taken', async () => {
  const shard = aShard()
  await agent.prepare(shard)
  const [handle] = readHandles(agent.dataDir)
  if (handle === undefined) throw new Error('no handle')
  // The agent wrote that it starts, and was killed before the host was there.
  const socketPath = join(agent.dataDir, 'run', 'none.sock')
  writeHandle(agent.dataDir, { ...handle, started: { socketPath, logFile: '', atMs: 0 } })
  await agent.restart()
  expect((await agent.ended(shard)).lost).toBe(true)
  expect(readdirSync(shardDir(agent.dataDir, shard.metadata.uid))).toContain('host.claim')
  await agent.hosts.forget(shard.metadata.uid)
})

test('a damaged handle is no shard, and its folder goes', async () => {
  const shard = aShard()
  await agent.prepare(shard)
  rmSync(join(shardDir(agent.dataDir, shard.metadata.uid), 'handle.json'))
  await agent.restart()
  expect(agent.hosts.list()).toEqual([])
  expect(readdirSync(join(agent.dataDir, 'shards'))).toEqual([])
})

test('a log is followed to the end of its shard, and read after the shard is forgotten', async () => {
  const shard = aShard()
  await agent.prepare(shard)
  const { uid, name } = shard.metadata
  const followed: string[] = []
  const following = (async () => {
    const options = { follow: true, signal: new AbortController().signal }
    for await (const line of agent.hosts.readLog(uid, name, options)) followed.push(line.text)
  })()
  await agent.hosts.start(shard)
  await agent.until(shard, (local) => local.state?.phase === 'Ready')
  agent.hosts.stop(uid, 5000, 'deleted')
  await agent.ended(shard)
  await following
  expect(followed[0]).toContain('engine started, pid')
  expect(followed.at(-1)).toContain('Stopped: deleted')
  await agent.hosts.forget(uid)
  const tail: string[] = []
  const options = { follow: false, tail: 1, signal: new AbortController().signal }
  for await (const line of agent.hosts.readLog(uid, name, options)) tail.push(line.text)
  expect(tail).toEqual(followed.slice(-1))
})
