import { afterEach, describe, expect, test } from 'vitest'
import { Agent } from '../../../agent/agent.ts'
import type { AgentEnd } from '../../../agent/contact.ts'
import type { LocalModel } from '../../../agent/models.ts'
import { fixedShelf } from '../../../agent/models.ts'
import type { MachineFacts } from '../../../agent/observe/facts.ts'
import { memoryRecord } from '../../../agent/record.ts'
import type { ConditionUpdate } from '../../../src/api/conditions.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { OpError } from '../../../src/lib/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { memoryClient } from '../../../src/rpc/memory.ts'
import { createNetwork } from '../../../src/rpc/network.ts'
import { CLUSTER, MemoryHosts, localShard, wantedShard } from '../../support/agentworld.ts'
import { ScriptedServer } from '../../support/scriptedserver.ts'
import { SeededRandom, VirtualClock, settle } from '../../support/virtualclock.ts'

const GIB = 2 ** 30
const shape = {
  architecture: 'llama',
  layers: 4,
  hiddenSize: 8,
  attentionHeads: 2,
  kvHeads: 2,
  headDim: 4,
  vocabSize: 100,
  parameters: 1000,
  weightBytes: 2000,
}
const smol: LocalModel = { source: 'file:smol', digest: 'sha256:a', state: 'Present', dir: '/m/smol', shape }

class Lab {
  readonly clock = new VirtualClock()
  readonly random = new SeededRandom(1)
  readonly network = createNetwork(this.clock, this.random)
  readonly server = new ScriptedServer()
  readonly hosts = new MemoryHosts()
  readonly record
  facts: MachineFacts = { chip: 'Apple M4', memoryBytes: 16 * GIB, bootId: 'boot-1', headroomBytes: 9 * GIB }
  conditions: readonly ConditionUpdate[] = []
  readonly agent: Agent
  end: AgentEnd | undefined
  #running: Promise<void> | undefined

  constructor(recordedCluster = '', models: readonly LocalModel[] = []) {
    this.server.nowMs = () => this.clock.nowMs()
    this.record = memoryRecord(recordedCluster)
    const identity = { user: 'system:node:mini-1', node: 'mini-1' }
    const fault = this.network.link('mini-1')
    this.agent = new Agent(
      {
        client: memoryClient(this.server.handlers, { identity, clock: this.clock, fault }),
        hosts: this.hosts,
        models: fixedShelf(models),
        observe: () => Promise.resolve(this.facts),
        probeEngines: () =>
          Promise.resolve({ engines: [{ name: 'fake', version: '1', transports: ['Ring'] }], missing: [] }),
        conditions: () => this.conditions,
        record: this.record,
        clock: this.clock,
        random: this.random,
        log: silentLogger,
      },
      { nodeName: 'mini-1', agentVersion: '0.1.0', labels: { chip: 'm4' } },
    )
  }

  async start(): Promise<this> {
    this.#running = this.agent.run().then((end) => void (this.end = end))
    await this.clock.advance(100)
    return this
  }

  /** A shard that this server wants, in the state that the server knows. */
  want(shard: Shard): Shard {
    return this.server.put(shard)
  }

  shard(uid: string): Shard | undefined {
    return this.server.shards.get(uid)
  }

  startBy(shard: Shard): void {
    const startByMs = this.clock.nowMs() + 10_000
    this.server.put({
      ...(this.shard(shard.metadata.uid) ?? shard),
      spec: { ...shard.spec, rendezvous: { startByMs, hosts: [['127.0.0.1:7000']] } },
    })
  }

  async stop(): Promise<void> {
    void this.agent.stop({ shards: 'leave' })
    await this.clock.advance(60_000)
    await this.#running
  }
}

let lab: Lab
const open = (...args: ConstructorParameters<typeof Lab>) => (lab = new Lab(...args))
afterEach(() => lab.stop())

const uid = wantedShard().metadata.uid

describe('the way of a shard', () => {
  test('prepared, started in its window, loaded, ready, deleted, forgotten: each phase reported once', async () => {
    const { server, hosts, clock } = await open().start()
    const shard = lab.want(wantedShard())
    await clock.advance(10)
    expect(lab.shard(uid)?.status).toMatchObject({
      phase: 'Prepared',
      address: '127.0.0.1',
      port: 7001,
      ringAddress: '127.0.0.1:7000',
    })
    lab.startBy(shard)
    await clock.advance(10)
    hosts.become(uid, { phase: 'Loading', progress: { doneBytes: 10, totalBytes: 100 } })
    await clock.advance(10)
    hosts.become(uid, { phase: 'Ready' })
    await clock.advance(20_000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Ready', pid: 11, conditions: [{ status: 'True' }] })
    expect(lab.shard(uid)?.status?.progress).toBeUndefined()
    server.put({ ...(lab.shard(uid) as Shard), metadata: { ...shard.metadata, deletionTimestamp: 'now' } })
    await clock.advance(10)
    hosts.become(uid, { phase: 'Exited', exit: { code: 0, reason: 'Stopped', message: 'Deleted', atMs: 1 } })
    await clock.advance(20_000)
    server.remove(uid)
    await clock.advance(10)
    expect(server.phasesOf(uid)).toEqual(['Prepared', 'Starting', 'Loading', 'Ready', 'Stopping', 'Stopped'])
    expect(hosts.calls).toEqual([
      'recover',
      'prepare chat-0-e1-0',
      'start chat-0-e1-0',
      'stop chat-0-e1-0 Deleted 60000+30000',
      'forget chat-0-e1-0',
    ])
    expect(hosts.list()).toEqual([])
  })

  test('an engine that exits while wanted is Failed with its exit and its last lines, once', async () => {
    const { server, hosts, clock } = await open(CLUSTER).start()
    lab.want(wantedShard({ status: { phase: 'Prepared' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    await clock.advance(5000)
    const exit = { signal: 'SIGKILL', reason: 'EngineCrashed', message: 'killed', atMs: 7 }
    hosts.become(uid, { phase: 'Exited', exit, lastLogLines: ['boom'] })
    await clock.advance(30_000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Failed', exit, lastLogLines: ['boom'], pid: 11 })
    expect(server.phasesOf(uid).filter((p) => p === 'Failed')).toHaveLength(1)
    expect(hosts.calls).not.toContain('start chat-0-e1-0')
  })

  test('a stalled engine is told as Failed at once and killed; its own last word does not take the place of that', async () => {
    const { server, hosts, clock } = open(CLUSTER)
    lab.want(wantedShard({ status: { phase: 'Ready' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    await lab.start()
    hosts.become(uid, { progressAgeSeconds: 75 })
    await clock.advance(1000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Failed', exit: { reason: 'EngineStalled' } })
    expect(hosts.calls).toContain('stop chat-0-e1-0 ShardFailed 0+10000')
    hosts.become(uid, { phase: 'Exited', exit: { signal: 'SIGKILL', reason: 'Stopped', message: '', atMs: 1 } })
    await clock.advance(20_000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Failed', exit: { reason: 'EngineStalled' } })
    expect(server.phasesOf(uid)).toEqual(['Failed'])
  })

  test('a lost host is ShardhostLost', async () => {
    const { hosts, clock } = await open(CLUSTER).start()
    lab.want(wantedShard({ status: { phase: 'Ready' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    hosts.become(uid, {}, true)
    await clock.advance(5000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Failed', exit: { reason: 'ShardhostLost' } })
  })

  test('an executor that fails ends its own shard and no other', async () => {
    const { hosts, clock } = open()
    hosts.failing.set('chat-0-e1-0', new OpError('Unavailable', 'take 3 ports: none are free'))
    await lab.start()
    lab.want(wantedShard())
    const other = lab.want(wantedShard({ group: 'other-0' }))
    await clock.advance(1000)
    expect(lab.shard(uid)?.status).toMatchObject({ phase: 'Failed', exit: { reason: 'PrepareFailed' } })
    expect(lab.shard(other.metadata.uid)?.status?.phase).toBe('Prepared')
    expect(hosts.calls.filter((c) => c === 'prepare chat-0-e1-0')).toHaveLength(1)
  })

  test('progress alone is written at most every 10 s or 5 %', async () => {
    const { server, hosts, clock } = await open(CLUSTER).start()
    lab.want(wantedShard())
    hosts.adopt(localShard(wantedShard(), 'Loading'))
    await clock.advance(6000)
    const before = server.writes.length
    for (let done = 1; done <= 20; done++) {
      hosts.become(uid, { progress: { doneBytes: done, totalBytes: 100 } })
      await clock.advance(100)
    }
    expect(server.writes.length - before).toBeLessThanOrEqual(4)
    expect(server.writes.length - before).toBeGreaterThan(1)
    hosts.become(uid, { progress: { doneBytes: 21, totalBytes: 100 } })
    await clock.advance(20_000)
    expect(lab.shard(uid)?.status?.progress?.doneBytes).toBe(21)
  })
})

describe('the fence', () => {
  test('nothing is touched before the bookmark; then strangers stop, and only then is the node Synced', async () => {
    const { server, hosts, clock } = open(CLUSTER)
    server.holdBookmark = true
    const stranger = wantedShard({ group: 'gone-0' })
    hosts.adopt(localShard(stranger, 'Ready'))
    await lab.start()
    await clock.advance(30_000)
    expect(hosts.calls).toEqual(['recover'])
    expect(server.sentOf('Synced')).toEqual([])
    server.holdBookmark = false
    lab.network.reset('mini-1')
    await clock.advance(5000)
    expect(hosts.calls).toContain('stop gone-0-e1-0 NotInList 60000+30000')
    expect(server.sentOf('Synced')).toEqual([])
    hosts.become(stranger.metadata.uid, { phase: 'Exited' })
    await clock.advance(5000)
    expect(hosts.calls.at(-1)).toBe('forget gone-0-e1-0')
    expect(server.sentOf('Synced')).toHaveLength(1)
  })

  test('a shard whose uid the server does not know any more is stopped', async () => {
    const { server, hosts, clock } = await open(CLUSTER).start()
    const shard = lab.want(wantedShard())
    hosts.adopt(localShard(shard, 'Loading'))
    await clock.advance(1000)
    server.shards.delete(uid) // forgotten by the server, and the watch never says so
    hosts.become(uid, { phase: 'Ready' })
    await clock.advance(1000)
    expect(hosts.calls).toContain('stop chat-0-e1-0 NotInList 60000+30000')
  })
})

describe('another cluster', () => {
  test.each(['recorded', 'known from its shards'])('%s: stops nothing and ends', async (how) => {
    const { server, hosts, clock } = open(how === 'recorded' ? CLUSTER : '')
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    server.clusterUid = 'cluster-2'
    await lab.start()
    await clock.advance(1000)
    expect(lab.end).toMatchObject({ kind: 'Refused' })
    expect((lab.end as { message: string }).message).toContain('UnknownCluster')
    expect(hosts.calls).toEqual(['recover'])
    expect(hosts.closed).toBe(true)
  })

  test('the first cluster is remembered', async () => {
    await open().start()
    const { agentId } = lab.server.sentOf('Hello')[0] ?? {}
    expect(await lab.record.read()).toEqual({ clusterUid: CLUSTER, agentId })
    expect(lab.server.sentOf('Hello')[0]).toMatchObject({ clusterUid: '', labels: { chip: 'm4' }, bootId: 'boot-1' })
  })

  test('an agent keeps its identity and its cluster over a lost session', async () => {
    const { server, network, clock } = await open().start()
    network.reset('mini-1')
    await clock.advance(5000)
    const [first, second] = server.sentOf('Hello')
    expect(second).toEqual({ ...first, clusterUid: CLUSTER })
  })

  test('a refused credential ends the agent and stops nothing', async () => {
    const { server, hosts } = open(CLUSTER)
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    server.refusal = new OpError('Unauthorized', 'certificate was revoked')
    await lab.start()
    expect(lab.end).toEqual({ kind: 'Refused', message: 'certificate was revoked' })
    expect(hosts.calls).toEqual(['recover'])
  })
})

describe('losing contact', () => {
  test('is no reason to kill a shard: cut off it serves on, and what it missed is made up for', async () => {
    const { server, hosts, clock, network } = await open(CLUSTER).start()
    lab.want(wantedShard({ status: { phase: 'Ready' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    const late = wantedShard({ group: 'late-0' })
    await clock.advance(1000)
    network.cut('mini-1')
    await clock.advance(10 * 60_000)
    expect(hosts.calls).toEqual(['recover'])
    server.remove(uid)
    lab.want(late)
    network.heal('mini-1')
    await clock.advance(45_000)
    expect(hosts.calls.slice(1)).toEqual(['stop chat-0-e1-0 NotInList 60000+30000'])
    hosts.become(uid, { phase: 'Exited' })
    await clock.advance(1_000)
    expect(hosts.calls.slice(2)).toEqual(['forget chat-0-e1-0', 'prepare late-0-e1-0'])
  })

  test('an unreachable server is tried for ever, and found within half a minute of its return', async () => {
    const { server, clock, network } = open()
    network.cut('mini-1')
    await lab.start()
    await clock.advance(60 * 60_000)
    expect(lab.end).toBeUndefined()
    network.heal('mini-1')
    await clock.advance(45_000)
    expect(server.sentOf('Synced')).toHaveLength(1)
  })

  test('each session reads the list whole again, and is Synced anew', async () => {
    const { server, clock, network } = await open().start()
    expect(server.sentOf('Synced')).toHaveLength(1)
    network.reset('mini-1')
    await clock.advance(5000)
    expect(server.watchRequests.map((r) => r.resourceVersion)).toEqual([undefined, undefined])
    expect(server.sentOf('Synced')).toHaveLength(2)
  })

  test('a status that was not acknowledged is written again until it is', async () => {
    const { server, clock } = await open().start()
    server.writeError = new OpError('Unavailable', 'the disk is full')
    lab.want(wantedShard())
    await clock.advance(20_000)
    expect(server.phasesOf(uid)).toEqual([])
    server.writeError = undefined
    await clock.advance(40_000)
    expect(server.phasesOf(uid)).toEqual(['Prepared'])
  })
})

describe('the node', () => {
  test('says what it is once, and again only on change; live memory goes with heartbeats', async () => {
    const { server, clock } = await open().start()
    await clock.advance(30_000)
    const nodeWrites = () => server.writes.filter((w) => w.uid === 'node-uid')
    expect(nodeWrites()).toHaveLength(1)
    expect(nodeWrites()[0]?.patch).toMatchObject({
      nodeInfo: { chip: 'Apple M4', agentVersion: '0.1.0', simulated: false },
      capacity: { memory: '16Gi' },
      engines: [{ name: 'fake' }],
      conditions: [{ type: 'MemoryPressure', status: 'False' }, { type: 'DiskPressure' }, { type: 'EngineMissing' }],
    })
    expect(server.sentOf('Heartbeat').length).toBeGreaterThanOrEqual(6)
    expect(server.sentOf('Heartbeat')[0]?.freeBytes).toBe(9 * GIB)
    lab.facts = { ...lab.facts, headroomBytes: 8 * GIB }
    await clock.advance(6000)
    expect(nodeWrites()).toHaveLength(1)
    lab.facts = { ...lab.facts, pressure: 'Critical' }
    await clock.advance(6000)
    expect(Object.keys(nodeWrites()[1]?.patch ?? {})).toEqual(['conditions'])
  })

  test('a server of the version before, which knows nothing of links, is told the rest', async () => {
    const { server, clock } = open()
    lab.facts = { ...lab.facts, ports: [{ interface: 'en0', type: 'Ethernet', addresses: ['10.0.0.1/24'] }] }
    server.refuses = (patch) => ('ports' in patch ? new OpError('Forbidden', 'may not write ports') : undefined)
    await lab.start()
    await clock.advance(6000)
    expect(server.writes).toHaveLength(1)
    expect(server.writes[0]?.patch).not.toHaveProperty('ports')
    expect(server.sentOf('Synced')).toHaveLength(1)
  })

  test('what the firewall and the cables say is a condition, of which a server of the version before is told nothing', async () => {
    const { server, clock } = open()
    const ports = [{ interface: 'en0', type: 'Ethernet', addresses: ['10.0.0.1/24'] }] as const
    lab.facts = { ...lab.facts, ports, networks: [{ interface: 'en0', address: '10.0.0.1/24' }] }
    const said = { type: 'GangPortsOpen', status: 'True', reason: 'FirewallNotSet', message: 'no nft' } as const
    lab.conditions = [said]
    await lab.start()
    await clock.advance(6000)
    const types = () => (server.writes.at(-1)?.patch['conditions'] as { type: string }[]).map(({ type }) => type)
    expect(server.writes[0]?.patch).toMatchObject({ ports, networks: lab.facts.networks })
    expect(types()).toContain('GangPortsOpen')
    // It goes away by itself: nothing else has changed.
    lab.conditions = [{ ...said, status: 'False', reason: 'GangPortsKept' }]
    await clock.advance(6000)
    expect(server.writes).toHaveLength(2)
    expect(server.writes[1]?.patch['conditions']).toContainEqual(
      expect.objectContaining({ type: 'GangPortsOpen', status: 'False', reason: 'GangPortsKept' }),
    )
    server.refuses = (patch) => ('networks' in patch ? new OpError('Forbidden', 'may not write networks') : undefined)
    lab.network.cut('mini-1')
    await clock.advance(60_000)
    lab.network.heal('mini-1')
    await clock.advance(60_000)
    expect(server.writes.at(-1)?.patch).not.toHaveProperty('networks')
    expect(types()).not.toContain('GangPortsOpen')
  })

  test('a simulated node reports no live memory', async () => {
    open().facts = { ...lab.facts, simulated: true }
    await lab.start()
    expect(lab.server.sentOf('Heartbeat')[0]).toEqual({ type: 'Heartbeat', simulated: true })
    expect(lab.server.writes[0]?.patch).toMatchObject({ nodeInfo: { simulated: true } })
  })

  test('tells the shape of a model once', async () => {
    await open('', [smol]).start()
    await lab.clock.advance(30_000)
    expect(lab.server.sentOf('ModelShape')).toEqual([
      { type: 'ModelShape', source: 'file:smol', digest: 'sha256:a', shape },
    ])
    expect(lab.server.writes[0]?.patch['models']).toEqual([
      { source: 'file:smol', digest: 'sha256:a', state: 'Present' },
    ])
  })
})

describe('logs', () => {
  test("travel up the session, line by line, to the log's end", async () => {
    const { server, hosts, clock } = await open().start()
    hosts.logs.set('chat-0-e2-0', ['one', 'two'])
    hosts.logs.set('chat-0-e1-0', ['before'])
    const ask = { type: 'LogsStart', shardUid: 'u', shardName: 'chat-0-e2-0', follow: false } as const
    server.tell({ ...ask, requestId: 'a', previous: false })
    server.tell({ ...ask, requestId: 'b', previous: true })
    server.tell({ ...ask, requestId: 'c', shardName: 'chat-0-e1-0', previous: true })
    await clock.advance(10)
    const chunks = server.sentOf('LogChunk').map((m) => [m.requestId, m.text])
    expect(chunks.filter(([id]) => id === 'a').map(([, text]) => text)).toEqual(['one\n', 'two\n'])
    expect(chunks.filter(([id]) => id === 'b').map(([, text]) => text)).toEqual(['before\n'])
    const timed = { ...ask, previous: false, timestamps: true, sinceTimeMs: 1_000 }
    server.tell({ ...timed, requestId: 'd' })
    await clock.advance(10)
    const texts = server.sentOf('LogChunk').filter((m) => m.requestId === 'd')
    expect(texts.map((m) => m.text)).toEqual(['1970-01-01T00:00:01.000Z two\n'])
    expect(
      server
        .sentOf('LogEnd')
        .map((m) => [m.requestId, m.error?.code])
        .sort(),
    ).toEqual([
      ['a', undefined],
      ['b', undefined],
      ['c', 'NotFound'],
      ['d', undefined],
    ])
  })
})

describe('stopping the agent', () => {
  test("with shards 'leave' touches none of them", async () => {
    const { hosts } = open(CLUSTER)
    lab.want(wantedShard({ status: { phase: 'Ready' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    await lab.start()
    void lab.agent.stop({ shards: 'leave' })
    await settle()
    await lab.clock.advance(1000)
    expect(lab.end).toEqual({ kind: 'Stopped' })
    expect(hosts.calls.filter((c) => c.startsWith('stop'))).toEqual([])
    expect(hosts.closed).toBe(true)
  })

  test("with shards 'stop' in the first moment stops those that were here before", async () => {
    const { hosts, clock } = open(CLUSTER)
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    void lab.agent.stop({ shards: 'stop' })
    await lab.start()
    expect(hosts.calls).toContain('stop chat-0-e1-0 AgentStopping 60000+30000')
    hosts.become(uid, { phase: 'Exited' })
    await clock.advance(1000)
    expect(lab.end).toEqual({ kind: 'Stopped' })
  })

  test("with shards 'stop' waits for the last engine, and reports no failure of it", async () => {
    const { hosts, clock, server } = open(CLUSTER)
    lab.want(wantedShard({ status: { phase: 'Ready' } }))
    hosts.adopt(localShard(wantedShard(), 'Ready'))
    hosts.adopt(localShard(wantedShard({ group: 'alien-0' }), 'Ready', { clusterUid: 'other' }))
    await lab.start()
    const stopped = lab.agent.stop({ shards: 'stop' })
    await clock.advance(20_000)
    expect(lab.end).toBeUndefined()
    void lab.agent.stop({ shards: 'stop', limits: { drainMs: 0, graceMs: 1000 } })
    await settle()
    hosts.become(uid, { phase: 'Exited' })
    await clock.advance(10)
    await stopped
    await clock.advance(1000)
    expect(lab.end).toEqual({ kind: 'Stopped' })
    expect(hosts.calls.filter((c) => c.startsWith('stop'))).toEqual([
      'stop chat-0-e1-0 AgentStopping 60000+30000',
      'stop chat-0-e1-0 AgentStopping 0+1000',
    ])
    expect(server.phasesOf(uid)).not.toContain('Failed')
  })
})
