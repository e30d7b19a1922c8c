/**
 * A real agent on a real store and server, over gRPC, with the fake engine in a real process: the way of one shard, a
 * killed engine, the fence, an agent that leaves and one that takes its shards with it.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runAgent } from '../../../agent/main.ts'
import type { Node } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { startTimeOf } from '../../../src/lib/process.ts'
import { serve } from '../../../src/rpc/grpcserver.ts'
import type { RunningServer } from '../../../src/rpc/grpcserver.ts'
import { identityOfHeaders } from '../../../src/rpc/identity.ts'
import { makeHandlers } from '../../../src/server/handlers.ts'
import type { Sessions } from '../../../src/server/sessions.ts'
import { createSessions } from '../../../src/server/sessions.ts'
import { createObject, deleteObject, setSpec } from '../../../src/store/objects.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { wantedShard } from '../../support/agentworld.ts'
import { claimPortRange } from '../../support/ports.ts'

/** One server and at most one agent of the node mini-1 at a time. */
class Bench {
  readonly dir = mkdtempSync('/tmp/mctl-a-')
  store!: Store // opened by `open`
  sessions!: Sessions
  server!: RunningServer
  #portRange = '' // claimed by `open`
  #agent: { leave: AbortController; stop: AbortController; ended: Promise<number> } | undefined

  async open(): Promise<void> {
    this.#portRange = await claimPortRange()
    const doors = { clock: systemClock, random: systemRandom, log: silentLogger }
    this.store = await openStore({ dataDir: `${this.dir}/server`, ...doors })
    this.sessions = createSessions({ store: this.store, ...doors })
    const handlers = makeHandlers({
      ...doors,
      store: this.store,
      sessions: this.sessions,
      planReport: () => ({}),
      serverVersion: 'test',
      gatewayUrl: () => undefined,
    })
    this.server = await serve(handlers, { listen: '127.0.0.1:0', identityOf: identityOfHeaders, log: silentLogger })
  }

  agent(dataDir = `${this.dir}/agent`): Promise<number> {
    const [leave, stop] = [new AbortController(), new AbortController()]
    const ended = runAgent({
      server: this.server.address,
      name: 'mini-1',
      dataDir,
      modelsDir: `${this.dir}/models`,
      userDataDir: `${this.dir}/home`,
      portRange: this.#portRange,
      agentVersion: 'test',
      log: silentLogger,
      signal: leave.signal,
      stopShards: stop.signal,
    })
    const agent = { leave, stop, ended }
    this.#agent = agent
    // An agent that ended by itself is no agent to end: `close` starts one that stops what is left.
    const forget = () => {
      if (this.#agent === agent) this.#agent = undefined
    }
    ended.then(forget, forget)
    return ended
  }

  async end(how: 'leave' | 'stop'): Promise<number> {
    const agent = this.#agent
    if (agent === undefined) return 0
    this.#agent = undefined
    agent[how].abort()
    return agent.ended
  }

  async close(): Promise<void> {
    try {
      if (this.#agent === undefined) void this.agent()
      await this.end('stop')
      this.sessions.close()
      await this.server.stop(100)
      await this.store.close()
    } finally {
      rmSync(this.dir, { recursive: true, force: true, maxRetries: 10 })
    }
  }

  node(): Node | undefined {
    return this.store.snapshot().get('Node', '', 'mini-1')
  }

  shard(name = 'chat-0-e1-0'): Shard | undefined {
    return this.store.snapshot().get('Shard', 'default', name)
  }

  async want(sketch: Parameters<typeof wantedShard>[0] = {}): Promise<void> {
    const { metadata, spec, apiVersion, kind } = wantedShard(sketch)
    const { name, namespace = 'default' } = metadata
    const manifest = { apiVersion, kind, metadata: { name, namespace, finalizers: ['mctl.dev/agent'] }, spec } as const
    await this.store.transact((tx) => createObject(tx, manifest as never))
  }

  /** Brings a shard to Ready, as the group's controller would. */
  async bringUp(name = 'chat-0-e1-0'): Promise<Shard> {
    await until(() => this.shard(name)?.status?.phase === 'Prepared', `${name} is Prepared`)
    await this.store.transact((tx) => {
      const shard = tx.get('Shard', 'default', name) as Shard
      const hosts = [[shard.status?.ringAddress ?? '']]
      setSpec(tx, shard, { ...shard.spec, rendezvous: { startByMs: systemClock.nowMs() + 12_000, hosts } })
    })
    await until(() => this.shard(name)?.status?.phase === 'Ready', `${name} is Ready`)
    return this.shard(name) as Shard
  }
}

/** Processes are started from sources here: seconds on an idle machine, a minute on one that others load. */
async function until(holds: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 1800; tries++) {
    if (holds()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not within 90 s: ${what}; the shard's status is ${JSON.stringify(bench.shard()?.status)}`)
}
const lives = (pid: number | undefined): boolean => pid !== undefined && startTimeOf(pid) !== undefined

let bench: Bench
beforeEach(async () => {
  bench = new Bench()
  await bench.open()
})
afterEach(() => bench.close())

test('joins, tells what it is, brings a shard up and down again, and leaves nothing', async () => {
  void bench.agent()
  await until(() => bench.sessions.synced('mini-1'), 'the agent is synced')
  expect(bench.node()?.status).toMatchObject({
    nodeInfo: { agentVersion: 'test', simulated: false },
    addresses: [
      { type: 'Internal', address: '127.0.0.1' },
      { type: 'Links', address: '127.0.0.1' },
    ],
  })
  expect(bench.node()?.status?.engines?.map((e) => e.name)).toContain('fake')
  expect(bench.sessions.headroomBytes().get('mini-1')).toBeGreaterThan(0)

  await bench.want()
  const { status } = await bench.bringUp()
  expect(lives(status?.pid)).toBe(true)
  await bench.store.transact((tx) => deleteObject(tx, { kind: 'Shard', namespace: 'default', name: 'chat-0-e1-0' }))
  await until(() => bench.shard()?.status?.phase === 'Stopped', 'the shard is Stopped')
  expect(lives(status?.pid)).toBe(false)
})

test('an engine that is killed is told as Failed with its signal', async () => {
  void bench.agent()
  await bench.want()
  const { status } = await bench.bringUp()
  process.kill(status?.pid ?? 0, 'SIGKILL')
  await until(() => bench.shard()?.status?.phase === 'Failed', 'the shard is Failed')
  expect(bench.shard()?.status).toMatchObject({ exit: { signal: 'SIGKILL' }, conditions: [{ status: 'False' }] })
})

test('an agent that leaves lets its shard live; the next one adopts it and reports nothing new', async () => {
  void bench.agent()
  await bench.want()
  const before = await bench.bringUp()
  expect(await bench.end('leave')).toBe(0)
  expect(lives(before.status?.pid)).toBe(true)
  await until(() => !bench.sessions.synced('mini-1'), 'the server knows that it left')
  void bench.agent()
  await until(() => bench.sessions.synced('mini-1'), 'the next agent is synced')
  expect(bench.shard()).toEqual(before)
  expect(lives(before.status?.pid)).toBe(true)
  expect(await bench.end('stop')).toBe(0)
  expect(lives(before.status?.pid)).toBe(false)
})

test('two agents cannot share a data folder, and options that make no sense are refused', async () => {
  void bench.agent()
  await until(() => bench.sessions.synced('mini-1'), 'the agent is synced')
  const base = { server: bench.server.address, name: 'mini-1', dataDir: `${bench.dir}/agent`, modelsDir: '/x' }
  const rest = { userDataDir: '/x', agentVersion: 'x', log: silentLogger, signal: new AbortController().signal }
  await expect(runAgent({ ...base, ...rest })).rejects.toThrow(/another process has this folder/)
  await expect(runAgent({ ...base, ...rest, simulate: 'chip' })).rejects.toThrow(/--simulate/)
  await expect(runAgent({ ...base, ...rest, portRange: '9-1' })).rejects.toThrow(/--port-range/)
})

test('an agent of another cluster stops nothing and exits 1', async () => {
  void bench.agent()
  await bench.want()
  const { status } = await bench.bringUp()
  await bench.end('leave')
  const other = new Bench()
  await other.open()
  try {
    const first = bench.server
    bench.server = other.server
    expect(await bench.agent()).toBe(1)
    bench.server = first
    expect(lives(status?.pid)).toBe(true)
  } finally {
    await other.close()
  }
})
