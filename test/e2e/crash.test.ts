/** The server and the agents die at any moment: engines and answers live on, nothing acknowledged is lost. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isTrue } from '../../src/api/conditions.ts'
import type { Node } from '../../src/api/node.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { stopAll } from '../support/mlx.ts'
import { claimPortRange } from '../support/ports.ts'
import { Running, endAll, freePort, mctl, pidAlive, tempDir, until } from '../support/processes.ts'
import { complete, groupOf, readyIn, shardsOf, tinyDeployment, tinyModelsDir } from '../support/tinycluster.ts'

let modelsDir = ''
let dir = ''
let server: Running
let agents: Running[]
/** By agent: one that comes back has the ports that it had. */
let portRanges: readonly string[]
let client: Client
let address = ''
let gateway = ''

const startServer = () =>
  new Running(
    ['server', '--data-dir', join(dir, 'server'), '--listen', address, '--gateway', gateway],
    join(dir, 'server.log'),
  )
function startAgent(i: number): Running {
  const args = [
    'agent',
    '--server',
    address,
    '--name',
    `mini-${i}`,
    '--data-dir',
    join(dir, `agent-${i}`),
    '--models-dir',
    modelsDir,
  ]
  args.push('--port-range', portRanges[i - 1] ?? '', '--simulate', 'chip=Apple M4,memory=16Gi,gpuCores=10')
  return new Running(args, join(dir, `agent-${i}.log`))
}
const nodesReady = async (): Promise<boolean> => {
  const { items } = await client.list({ kind: 'Node' })
  return items.length === 2 && (items as readonly Node[]).every((node) => isTrue(node.status?.conditions, 'Ready'))
}

beforeAll(async () => {
  modelsDir = tinyModelsDir()
  dir = tempDir()
  mkdirSync(join(dir, 'server'), { recursive: true })
  address = `127.0.0.1:${await freePort()}`
  gateway = `127.0.0.1:${await freePort()}`
  server = startServer()
  portRanges = [await claimPortRange(300), await claimPortRange(300)]
  agents = [startAgent(1), startAgent(2)]
  client = connect(address, { user: 'test' })
  await until(nodesReady, 60_000, 'both nodes are ready')
  const applied = await mctl(
    ['apply', '-f', '-', '--wait', '--timeout', '60s'],
    { MCTL_SERVER: address },
    tinyDeployment('pp', { strategy: 'Pipeline', degree: 2, split: [3, 2] }),
  )
  expect(applied).toMatchObject({ code: 0, stderr: '' })
})

afterAll(async () => {
  try {
    client.close()
    await mctl(['delete', 'md', '--all', '--timeout', '30s'], { MCTL_SERVER: address })
  } finally {
    await endAll()
    await stopAll()
  }
})

/** What the agent said at each of its starts: with how many shards it began, adopted ones included. */
const begun = (agent: Running | undefined): { shards: number }[] =>
  (agent?.log() ?? '')
    .split('\n')
    .filter((line) => line.includes('"agent begins"'))
    .map((line) => JSON.parse(line) as { shards: number })

const identity = async () =>
  (await shardsOf(client, 'pp-0')).map((shard) => [shard.metadata.uid, shard.status?.pid, shard.spec.epoch])

test('SIGKILL of the server under load: answers go on, the restarted server finds everything, no shard was restarted', async () => {
  const before = await identity()
  const acknowledged: string[] = []
  const load = new AbortController()
  const writers = [0, 1, 2, 3].map(async (writer) => {
    const own = connect(address, { user: 'test' })
    for (let i = 0; !load.signal.aborted; i++) {
      const object = {
        apiVersion: 'mctl.dev/v1alpha1',
        kind: 'Model',
        metadata: { name: `load-${writer}-${i}` },
        spec: { source: `file:load-${writer}-${i}` },
      }
      const reply = await own.create({ object }).catch(() => undefined)
      if (reply === undefined) break
      acknowledged.push(reply.object.metadata.name)
    }
    own.close()
  })
  await until(() => acknowledged.length > 200, 20_000, 'some writes are acknowledged')
  await server.signal('SIGKILL')
  load.abort()
  await Promise.all(writers)

  // The control plane is gone; engines, agents and the gateway are not.
  expect((await complete(gateway, 'pp')).status).toBe(200)

  const killedAt = Date.now()
  server = startServer()
  await until(
    async () => (await client.version({})).gatewayUrl === `http://${gateway}`,
    20_000,
    'the restarted server has adopted its gateway',
  )
  expect(Date.now() - killedAt).toBeLessThan(20_000)
  const names = new Set((await client.list({ kind: 'Model' })).items.map((item) => item.metadata.name))
  expect(acknowledged.filter((name) => !names.has(name))).toEqual([])
  await until(nodesReady, 30_000, 'both nodes are ready again')
  expect(await identity()).toEqual(before)
  expect(await readyIn(client, 'pp-0', 1)).toBe(true)
  expect((await complete(gateway, 'pp')).status).toBe(200)
}, 120_000)

test('SIGKILL of the gateway: the server starts it anew on the same address', async () => {
  const before = await identity()
  const { pid } = JSON.parse(readFileSync(join(dir, 'server', 'gateway.json'), 'utf8')) as { pid: number }
  process.kill(pid, 'SIGKILL')
  const answers = () => complete(gateway, 'pp').then((response) => response.status === 200)
  await until(answers, 30_000, 'the next gateway answers')
  expect(await identity()).toEqual(before)
}, 60_000)

test('SIGKILL of an agent: its shards live on, serve on, and are adopted', async () => {
  const before = await identity()
  await agents[0]?.signal('SIGKILL')
  expect((await complete(gateway, 'pp')).status).toBe(200)
  expect(before.every(([, pid]) => pidAlive(Number(pid)))).toBe(true)
  agents[0] = startAgent(1)
  await until(() => begun(agents[0]).length === 2, 20_000, 'the agent begins again')
  expect(begun(agents[0]).at(-1)).toMatchObject({ shards: 1 })
  await until(nodesReady, 30_000, 'both nodes are ready again')
  expect(await identity()).toEqual(before)
  expect((await complete(gateway, 'pp')).status).toBe(200)
  expect((await groupOf(client, 'pp-0')).status?.restarts ?? 0).toBe(0)
}, 90_000)

test('SIGTERM of an agent leaves its shards running', async () => {
  const before = await identity()
  expect(await agents[1]?.signal('SIGTERM')).toBe(0)
  expect((await complete(gateway, 'pp')).status).toBe(200)
  agents[1] = startAgent(2)
  await until(() => begun(agents[1]).length === 2, 20_000, 'the agent begins again')
  await until(nodesReady, 30_000, 'both nodes are ready again')
  expect(await identity()).toEqual(before)
}, 90_000)

test('a planned stop of the server stops its gateway; the shards stay', async () => {
  const before = await identity()
  expect(await server.signal('SIGTERM')).toBe(0)
  await expect(complete(gateway, 'pp')).rejects.toThrow()
  expect(before.every(([, pid]) => pidAlive(Number(pid)))).toBe(true)
  server = startServer()
  await until(async () => (await complete(gateway, 'pp')).status === 200, 40_000, 'the gateway answers again')
  await until(nodesReady, 30_000, 'both nodes are ready again')
  expect(await identity()).toEqual(before)
}, 90_000)
