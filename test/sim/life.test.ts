/** Group life and node life on a virtual clock: what must outlive restarts, silence, sleep and want of memory. */
import { afterEach, expect, test } from 'vitest'
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { tinyShape } from '../support/cluster.ts'
import { SimCluster } from '../support/simcluster.ts'

const nodes = ['mini-1', 'mini-2', 'mini-3']
let cluster: SimCluster
afterEach(() => cluster.stop())

async function start(names = nodes): Promise<void> {
  cluster = await SimCluster.start({ seed: 6, nodes: names })
  await cluster.apply('Model', 'small', { shape: tinyShape })
  await cluster.clock.advance(10_000)
}

async function deploy(name: string, spec: object = {}): Promise<void> {
  const whole = { model: { name: 'small' }, engine: { name: 'fake' }, parallelism: { strategy: 'Data' }, ...spec }
  await cluster.apply('ModelDeployment', name, whole)
  await readyAgain(`${name}-0`)
}

const group = (name: string): ShardGroup =>
  cluster.store.snapshot().get('ShardGroup', 'default', name) ?? expect.fail(`no group ${name}`)
const isReady = (name: string) => isTrue(group(name).status?.conditions, 'Ready')
const readyAgain = (name: string, limitMs = 120_000) =>
  cluster.clock.advanceUntil(() => isReady(name), limitMs, `${name} is Ready`)
const homeOf = (name: string) => cluster.machines.get(group(name).spec.members[0]?.node ?? '') ?? expect.fail('unbound')
/** Engine processes of a group that live, by machine. */
const living = (name: string) =>
  [...cluster.machines.values()].flatMap((machine) =>
    machine
      .processes()
      .filter((p) => p.shard.spec.group === name)
      .map((p) => `${machine.name} epoch ${p.shard.spec.epoch} pid ${p.state.enginePid}`),
  )
const crash = (name: string) => {
  const process = homeOf(name)
    .processes()
    .find((p) => p.shard.spec.group === name)
  if (process === undefined) expect.fail(`${name} does not live`)
  process.machine.kill(process)
}

test('a backoff is kept though agents and server restart in the middle of it, and so is its count', async () => {
  await start()
  await deploy('chat')
  for (const _ of [1, 2, 3]) {
    crash('chat-0')
    await cluster.clock.advance(1_000)
    await readyAgain('chat-0')
  }
  crash('chat-0')
  await cluster.clock.advance(1_000)
  const { backoffUntilMs = 0, restarts } = group('chat-0').status ?? {}
  expect(restarts).toBe(4)
  await cluster.killServer()
  for (const name of nodes) cluster.killAgent(name)
  await cluster.clock.advance(2_000)
  await cluster.startServer()
  for (const name of nodes) cluster.startAgent(name)
  await cluster.clock.advanceUntil(() => living('chat-0').length > 0, 60_000, 'it starts again', 100)
  expect(cluster.clock.nowMs()).toBeGreaterThanOrEqual(backoffUntilMs)
  await readyAgain('chat-0')
  expect(group('chat-0').status?.restarts).toBe(4)
})

test('an agent that is cut off keeps its engines; with Wait its group is the same when it returns', async () => {
  await start()
  await deploy('chat', { recovery: { nodeLossSeconds: 30, action: 'Wait' } })
  const before = living('chat-0')
  const home = homeOf('chat-0').name
  // Within a minute of the server's start no node turns NotReady.
  cluster.network.cut(home)
  await cluster.clock.advance(25_000)
  expect(isReady('chat-0')).toBe(true)
  await cluster.clock.advance(25_000)
  expect(findCondition(group('chat-0').status?.conditions, 'Ready')?.reason).toBe('NodeNotReady')
  await cluster.clock.advance(600_000)
  expect(living('chat-0')).toEqual(before)
  cluster.network.heal(home)
  await readyAgain('chat-0')
  expect(living('chat-0')).toEqual(before)
})

test('a group whose node stays silent goes on elsewhere, and the old engine ends when its node returns', async () => {
  await start()
  await deploy('chat', { recovery: { nodeLossSeconds: 30 } })
  const home = homeOf('chat-0').name
  cluster.network.cut(home)
  await cluster.clock.advance(30_000)
  expect(group('chat-0').spec.epoch).toBe(1)
  await cluster.clock.advance(60_000)
  await readyAgain('chat-0')
  expect(group('chat-0').spec.members[0]?.node).not.toBe(home)
  expect(living('chat-0')).toHaveLength(2)
  cluster.network.heal(home)
  await cluster.clock.advance(150_000)
  expect(living('chat-0')).toEqual([expect.stringContaining(`${homeOf('chat-0').name} epoch 2`)])
  expect(isTrue(cluster.store.snapshot().get('Node', '', home)?.status?.conditions, 'Ready')).toBe(true)
})

test('when server and Macs have slept for an hour, everything is as it was', async () => {
  await start()
  await deploy('chat', { recovery: { nodeLossSeconds: 30 } })
  const before = living('chat-0')
  cluster.clock.sleep(3_600_000)
  await cluster.clock.advance(1_000)
  await readyAgain('chat-0')
  await cluster.clock.advance(180_000)
  expect(living('chat-0')).toEqual(before)
  expect(group('chat-0').spec.epoch).toBe(1)
})

test('a wall clock that jumps by a day, either way, moves and restarts nothing', async () => {
  await start()
  await deploy('chat', { recovery: { nodeLossSeconds: 30 } })
  const before = living('chat-0')
  for (const jumpMs of [86_400_000, -2 * 86_400_000]) {
    cluster.clock.jumpWall(jumpMs)
    await cluster.clock.advance(120_000)
    expect(living('chat-0')).toEqual(before)
    expect(isReady('chat-0')).toBe(true)
  }
})

/** Two groups on one Mac; what happens there when its memory is critical. */
async function pressed(): Promise<void> {
  await start(['mini-1'])
  await deploy('vip', { priority: 10 })
  await deploy('guest')
  const [mini] = cluster.machines.values()
  if (mini !== undefined) mini.pressure = 'Critical'
}

test('memory that is critical for ten seconds costs the least important group its place until it is over', async () => {
  await pressed()
  await cluster.clock.advanceUntil(() => living('guest-0').length === 0, 30_000, 'the guest goes')
  const [mini] = cluster.machines.values()
  if (mini !== undefined) mini.pressure = 'Normal'
  expect(living('vip-0')).toHaveLength(1)
  await cluster.clock.advance(60_000)
  const { spec, status } = group('guest-0')
  expect(spec.members).toEqual([])
  expect(findCondition(status?.conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'MemoryPressure' })
  expect(status?.firstCause).toMatchObject({ reason: 'MemoryPressure', node: 'mini-1' })
  expect(isTrue(cluster.store.snapshot().get('Node', '', 'mini-1')?.status?.conditions, 'MemoryPressure')).toBe(true)
  await readyAgain('guest-0', 360_000)
  expect(isReady('vip-0')).toBe(true)
})

test('an agent that is cut off from the server does not wait for it', async () => {
  await start(['mini-1'])
  await deploy('vip', { priority: 10 })
  await deploy('guest')
  const [mini] = cluster.machines.values()
  cluster.network.cut('mini-1')
  await cluster.clock.advance(60_000)
  if (mini !== undefined) mini.pressure = 'Critical'
  await cluster.clock.advanceUntil(() => living('guest-0').length === 0, 40_000, 'the guest goes')
  expect(living('vip-0')).toHaveLength(1)
})
