/** How ranks end: at once, with a code and a reason, and never alone. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import {
  complete,
  endOf,
  enginePython,
  freePort,
  isGone,
  killRanks,
  launchFile,
  rankEnvironment,
  readyGang,
  shimMain,
  startGang,
  startRank,
  startStream,
  stopAll,
  tempFolder,
  tinyModel,
} from '../../support/mlx.ts'
import type { Rank } from '../../support/mlx.ts'

let llama: string
let qwen: string
beforeAll(() => {
  llama = tinyModel('llama', 4)
  qwen = tinyModel('qwen2', 5)
})
afterEach(killRanks)
afterAll(stopAll)

test.each([
  [0, 'idle'],
  [1, 'idle'],
  [0, 'streaming'],
  [1, 'streaming'],
])('kill -9 of rank %i, %s: the other ends with 70 by itself', async (victim, when) => {
  const gang = await readyGang({ model: llama, strategy: 'Tensor', contextTokens: 4096, maxOutputTokens: 4000 })
  const stream = when === 'streaming' ? await startStream(gang[0] as Rank, 4000) : undefined
  gang[victim]?.process.kill('SIGKILL')
  const end = await endOf(gang[1 - victim] as Rank, 15_000)
  expect(end).toMatchObject({ code: 70, reason: expect.stringContaining('connection to a peer was lost') })
  // The client sees that the stream broke, not a quiet end.
  if (stream) await expect(stream.rest.then((text) => text.includes('[DONE]') || fail())).rejects.toThrow()
})

function fail(): never {
  throw new Error('the stream ended without [DONE]')
}

test('SIGTERM to all ranks of a busy gang: each ends with 0', async () => {
  const gang = await readyGang({ model: qwen, strategy: 'Pipeline', contextTokens: 4096, maxOutputTokens: 4000 })
  await startStream(gang[0] as Rank, 4000)
  for (const rank of gang) rank.process.kill('SIGTERM')
  expect((await Promise.all(gang.map((rank) => endOf(rank)))).map(({ code }) => code)).toEqual([0, 0])
})

test('a rank that lost one of its files names it, and both ranks end with 70', async () => {
  const part = tinyModel('qwen2', 5)
  rmSync(join(part, 'model-00003-of-00004.safetensors'))
  const gang = await startGang({ model: qwen, strategy: 'Pipeline', split: [3, 2] }, (rank) =>
    rank === 1 ? { model: part } : {},
  )
  const [leader, other] = await Promise.all(gang.map((rank) => endOf(rank)))
  expect(other).toMatchObject({
    code: 70,
    reason: expect.stringContaining('model-00003-of-00004.safetensors is missing'),
  })
  expect(leader?.code).toBe(70)
})

test('a single rank without a file, or with a parameter of another shape, never becomes ready', async () => {
  const part = tinyModel('llama', 4)
  rmSync(join(part, 'model-00002-of-00003.safetensors'))
  const other = tinyModel('llama', 4)
  const config = JSON.parse(readFileSync(join(other, 'config.json'), 'utf8')) as object
  writeFileSync(join(other, 'config.json'), JSON.stringify({ ...config, intermediate_size: 64 }))
  const lost = startRank(launchFile({ model: part, port: await freePort() }))
  const wrong = startRank(launchFile({ model: other, port: await freePort() }))
  expect(await endOf(lost)).toMatchObject({
    code: 70,
    reason: expect.stringContaining('model-00002-of-00003.safetensors is missing'),
  })
  expect(await endOf(wrong)).toMatchObject({ code: 70, reason: expect.stringContaining('shape') })
})

test('a model that cannot be pipelined ends all ranks', async () => {
  const gang = await startGang({ model: llama, strategy: 'Pipeline' })
  const ends = await Promise.all(gang.map((rank) => endOf(rank)))
  expect(ends.map(({ code }) => code)).toEqual([70, 70])
  expect(ends[0]?.reason).toContain('does not support pipelining')
})

test('a head count that does not divide ends all ranks before they are ready', async () => {
  const gang = await startGang({ model: tinyModel('llama', 4, 1), strategy: 'Tensor' })
  const ends = await Promise.all(gang.map((rank) => endOf(rank)))
  expect(ends.map(({ code }) => code)).toEqual([70, 70])
})

test('a world that is not the one of the launch file: 64', async () => {
  const hostfile = join(tempFolder(), 'hosts.json')
  writeFileSync(hostfile, JSON.stringify([['127.0.0.1:1'], ['127.0.0.1:2'], ['127.0.0.1:3']]))
  const pair = launchFile({ model: llama, port: 1, strategy: 'Tensor', backend: 'ring', worldSize: 2 })
  const single = launchFile({ model: llama, port: 1 })
  const ends = await Promise.all(
    [
      startRank(pair, { MLX_RANK: '0', MLX_HOSTFILE: hostfile }),
      startRank(pair, { MLX_RANK: '1', MLX_HOSTFILE: hostfile }),
      startRank(pair),
      startRank(single, { MLX_RANK: '0', MLX_HOSTFILE: hostfile }),
      startRank({ ...single, strategy: 'Tensor' }),
    ].map((rank) => endOf(rank)),
  )
  expect(ends.map(({ code }) => code)).toEqual([64, 64, 64, 64, 64])
})

test('a peer that never comes: the deadline of the kernel ends the wait', async () => {
  const gang = await startGang({ model: llama, strategy: 'Tensor', rendezvousDeadlineSeconds: 2 })
  gang[1]?.process.kill('SIGKILL')
  const end = await endOf(gang[0] as Rank, 30_000)
  // Told apart from other kills: it never said `joined`.
  expect([end.signal, gang[0]?.events.some(({ ev }) => ev === 'joined')]).toEqual(['SIGALRM', false])
})

test('a start that takes too long ends with a reason', async () => {
  const rank = startRank(launchFile({ model: llama, port: await freePort(), startupDeadlineSeconds: 0.5 }))
  expect(await endOf(rank)).toMatchObject({ code: 70, reason: 'not ready within 0.5 s' })
})

test('a port in use ends with 70', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const rank = startRank(launchFile({ model: llama, port: (server.address() as AddressInfo).port }))
  expect(await endOf(rank)).toMatchObject({ code: 70, reason: expect.stringContaining('in use') })
  server.close()
})

test('a parent that is not the one of the launch file: 75', async () => {
  const rank = startRank(launchFile({ model: llama, port: await freePort(), parentPid: 1 }))
  expect((await endOf(rank)).code).toBe(75)
})

test('a killed parent takes its rank along', async () => {
  const folder = tempFolder()
  const port = await freePort()
  // A stand-in for the shardhost: writes the launch file with its own pid, starts the rank, and waits to be killed.
  const script = `
    const { spawn } = require('node:child_process'), { writeFileSync } = require('node:fs')
    writeFileSync('rank.json', JSON.stringify({ ...${JSON.stringify(launchFile({ model: llama, port }))}, parentPid: process.pid }))
    const rank = spawn(${JSON.stringify(enginePython())}, ['-I', ${JSON.stringify(shimMain)}, '--config', 'rank.json'], { stdio: 'inherit' })
    console.log(rank.pid)
    setInterval(() => {}, 1000)`
  const parent = spawn(process.execPath, ['-e', script], {
    cwd: folder,
    env: rankEnvironment({ MCTL_EVENTS_FD: '2' }),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  while (!String((await once(parent.stderr, 'data'))[0]).includes('"loading"'));
  expect(isGone(pid)).toBe(false)
  parent.kill('SIGKILL')
  for (let i = 0; i < 100 && !isGone(pid); i++) await sleep(50)
  expect(isGone(pid)).toBe(true)
})

test('a stopped peer shows as age, on an idle gang, too', async () => {
  const gang = await readyGang({ model: llama, strategy: 'Tensor' })
  gang[1]?.process.kill('SIGSTOP')
  await sleep(3000)
  expect(Number(gang[0]?.events.at(-1)?.['age'])).toBeGreaterThan(1.5)
  gang[1]?.process.kill('SIGCONT')
  expect((await complete(gang[0] as Rank, { prompt: 'hi', max_tokens: 2 })).usage.completion_tokens).toBe(2)
})

test('without a channel of their own, events go to stderr, and so does the cause of a failure', async () => {
  const failed = startRank(launchFile({ model: '/nowhere', port: 1 }), { MCTL_EVENTS_FD: '2' })
  expect((await endOf(failed)).code).toBe(70)
  expect(failed.stderr()).toMatch(/"ev": "exit".*\/nowhere/)
  expect(failed.stderr()).toContain('IncompleteModel')
})
