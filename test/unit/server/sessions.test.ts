import { describe, expect, test } from 'vitest'
import type { Model, ModelShape } from '../../../src/api/model.ts'
import { systemModelName } from '../../../src/api/modelname.ts'
import { settle } from '../../support/virtualclock.ts'
import { tinyShape } from '../../support/cluster.ts'
import { RESET_ANNOTATION } from '../../../src/api/trust.ts'
import { aNode, aServer, hello, session } from './fixture.ts'
import type { Fixture } from './fixture.ts'

const nodeOf = ({ store }: Fixture, name: string) => store.snapshot().get('Node', '', name)

describe('a node session', () => {
  test('makes the Node with the agent’s labels and welcomes it; a second time the Node stands as people left it', async () => {
    const server = await aServer()
    const { store, clock } = server
    const first = session(server.agent('mini-1'), hello('mini-1', { labels: { chip: 'm4' } }))
    await settle()
    const node = nodeOf(server, 'mini-1')
    expect(node?.metadata.labels).toEqual({ chip: 'm4' })
    expect(first.down).toEqual([
      {
        type: 'Welcome',
        nodeUid: node?.metadata.uid,
        clusterUid: store.clusterUid,
        incarnation: store.incarnation,
        serverTimeMs: clock.nowMs(),
        heartbeatMs: 5_000,
      },
      { type: 'Members', members: [{ node: 'mini-1', uid: node?.metadata.uid }] },
    ])
    first.leave()
    await first.ended
    session(server.agent('mini-1'), hello('mini-1', { labels: { chip: 'm9' }, clusterUid: store.clusterUid }))
    await settle()
    expect(nodeOf(server, 'mini-1')).toEqual(node)
  })

  test('ticks every 5 s with the server’s time', async () => {
    const { agent, clock } = await aServer()
    const { down } = session(agent('mini-1'), hello('mini-1'))
    await clock.advance(10_000)
    const start = clock.nowMs() - 10_000
    expect(down.slice(2)).toEqual([
      { type: 'Tick', serverTimeMs: start + 5_000 },
      { type: 'Tick', serverTimeMs: start + 10_000 },
    ])
  })

  test('hears whose certificates count: at its beginning, and when a Node comes, is reset or goes', async () => {
    const { agent, person } = await aServer()
    const { down } = session(agent('mini-1'), hello('mini-1'))
    await settle()
    const members = () =>
      down.flatMap((message) => (message.type === 'Members' ? [message.members.map(({ node }) => node).join()] : []))
    const create = await person().create({ object: aNode('mini-2') })
    await settle()
    expect(members()).toEqual(['mini-1', 'mini-1,mini-2'])
    const key = { kind: 'Node', namespace: '', name: 'mini-2' } as const
    const annotate = (annotations: Record<string, string>) =>
      person().patch({ ref: key, type: 'merge', patch: { metadata: { annotations } } })
    await annotate({ note: 'nothing to do with it' })
    await settle()
    expect(members()).toHaveLength(2)
    await annotate({ [RESET_ANNOTATION]: '2026-01-01T00:00:00Z' })
    await settle()
    expect(down.at(-1)).toMatchObject({
      type: 'Members',
      members: [{ node: 'mini-1' }, { uid: create.object.metadata.uid, validFromMs: Date.parse('2026-01-01') }],
    })
    await person().delete({ ref: key })
    await settle()
    expect(members().at(-1)).toBe('mini-1')
  })

  test('heartbeats stay in memory: last seen, headroom, and no revision', async () => {
    const { agent, sessions, clock, store } = await aServer()
    const { say, leave, ended } = session(agent('mini-1'), hello('mini-1'))
    await settle()
    const { revision } = store.snapshot()
    await clock.advance(7_000)
    say({ type: 'Heartbeat', freeBytes: 5e9, pressure: 'Normal' })
    await settle()
    expect(sessions.lastSeenMs('mini-1')).toBe(7_000)
    expect(sessions.headroomBytes()).toEqual(new Map([['mini-1', 5e9]]))
    say({ type: 'Heartbeat', freeBytes: 5e9, pressure: 'Warn' })
    await settle()
    expect(sessions.headroomBytes()).toEqual(new Map([['mini-1', 0]]))
    say({ type: 'Heartbeat' })
    await settle()
    expect(sessions.headroomBytes()).toEqual(new Map())
    expect(store.snapshot().revision).toBe(revision)
    leave()
    await ended
    expect(sessions.lastSeenMs('mini-1')).toBe(7_000)
    expect(sessions.lastSeenMs('mini-2')).toBeUndefined()
  })

  test('is synced from Synced to its end, and each step is told', async () => {
    const { agent, sessions } = await aServer()
    const told: string[] = []
    const off = sessions.onChange((node) => told.push(`${node} ${sessions.synced(node)}`))
    const { say, crash, ended } = session(agent('mini-1'), hello('mini-1'))
    await settle()
    say({ type: 'Synced' })
    await settle()
    crash()
    await ended
    await settle()
    expect(told).toEqual(['mini-1 false', 'mini-1 true', 'mini-1 false'])
    expect(sessions.connected()).toEqual([])
    off()
  })

  test.each([
    ['1.0.9', 'Upgrade the agent first'],
    ['1.4.0', 'Upgrade the server first'],
  ])('an agent of version %s, two minor versions away, is told which to upgrade first', async (agentVersion, what) => {
    const server = await aServer()
    const { ended } = session(server.agent('mini-1'), hello('mini-1', { agentVersion }))
    const message = expect.stringMatching(new RegExp(`^VersionSkew: .*${agentVersion}.*1.2.3.*${what}`)) as string
    expect(await ended).toMatchObject({ code: 'Forbidden', message })
    expect(nodeOf(server, 'mini-1')).toBeUndefined()
    session(server.agent('mini-1'), hello('mini-1', { agentVersion: '1.1.0' }))
    await settle()
    expect(nodeOf(server, 'mini-1')).toBeDefined()
  })

  test('another cluster’s agent is refused and told what to do', async () => {
    const server = await aServer()
    const { ended } = session(server.agent('mini-1'), hello('mini-1', { clusterUid: 'another' }))
    expect(await ended).toMatchObject({
      code: 'Forbidden',
      message: expect.stringMatching(/^UnknownCluster: .*another.*--data-dir/) as string,
    })
    expect(nodeOf(server, 'mini-1')).toBeUndefined()
  })

  test('only the agent of a node may hold its session', async () => {
    const { agent, person } = await aServer()
    expect(await session(agent('mini-2'), hello('mini-1')).ended).toMatchObject({ code: 'Forbidden' })
    expect(await session(person(), hello('mini-1')).ended).toMatchObject({ code: 'Forbidden' })
  })

  test('a session begins with Hello, in time', async () => {
    const { agent, clock } = await aServer()
    expect(await session(agent('mini-1'), { type: 'Synced' }).ended).toMatchObject({ code: 'Invalid' })
    const silent = session(agent('mini-1'))
    await clock.advance(10_000)
    expect(await silent.ended).toMatchObject({ code: 'Timeout' })
  })

  test('labels that cannot be are refused, and the name is free again', async () => {
    const { agent } = await aServer()
    const bad = session(agent('mini-1'), hello('mini-1', { labels: { 'not a label': 'x' } }))
    expect(await bad.ended).toMatchObject({ code: 'Invalid' })
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, '']))
    expect(await session(agent('mini-1'), hello('mini-1', { labels: many })).ended).toMatchObject({ code: 'Invalid' })
    const good = session(agent('mini-1'), hello('mini-1', { bootId: 'boot-2' }))
    await settle()
    expect(good.down[0]?.type).toBe('Welcome')
  })

  test('the same agent again takes the place of its old session', async () => {
    const { agent, sessions } = await aServer()
    const old = session(agent('mini-1'), hello('mini-1'))
    await settle()
    const fresh = session(agent('mini-1'), hello('mini-1'))
    expect(await old.ended).toMatchObject({ code: 'Conflict' })
    await settle()
    expect(fresh.down[0]?.type).toBe('Welcome')
    expect(fresh.isOver()).toBe(false)
    expect(sessions.connected()).toEqual(['mini-1'])
  })

  test('another agent of a living one’s name is refused, and takes the name when that one is silent', async () => {
    const { agent, clock } = await aServer()
    const old = session(agent('mini-1'), hello('mini-1'))
    await clock.advance(2_000)
    const other = session(agent('mini-1'), hello('mini-1', { bootId: 'boot-2' }))
    expect(await other.ended).toMatchObject({
      code: 'Conflict',
      message: expect.stringMatching(/boot boot-1, heard 2 s ago.*--name/) as string,
    })
    const twin = session(agent('mini-1'), hello('mini-1', { agentId: 'b' }))
    expect(await old.ended).toMatchObject({ code: 'Conflict' })
    const third = session(agent('mini-1'), hello('mini-1', { agentId: 'c' }))
    expect(await third.ended).toMatchObject({ code: 'Conflict' })
    await clock.advance(15_000)
    const late = session(agent('mini-1'), hello('mini-1', { bootId: 'boot-2' }))
    expect(await twin.ended).toMatchObject({ code: 'Conflict' })
    await settle()
    expect(late.down[0]?.type).toBe('Welcome')
  })

  test('when its Node is deleted the session ends, and the next one makes a new Node', async () => {
    const server = await aServer()
    const first = session(server.agent('mini-1'), hello('mini-1'))
    await settle()
    const uid = nodeOf(server, 'mini-1')?.metadata.uid
    await server.person().delete({ ref: { kind: 'Node', namespace: '', name: 'mini-1' } })
    expect(await first.ended).toMatchObject({ code: 'Unavailable' })
    session(server.agent('mini-1'), hello('mini-1'))
    await settle()
    expect(nodeOf(server, 'mini-1')?.metadata.uid).not.toBe(uid)
  })

  test('a server that stops ends every session with Unavailable', async () => {
    const { agent, sessions } = await aServer()
    const one = session(agent('mini-1'), hello('mini-1'))
    await settle()
    sessions.close()
    expect(await one.ended).toMatchObject({ code: 'Unavailable', message: 'the server is stopping' })
  })

  test('a link that is cut ends the session on both sides, and the last contact stays known', async () => {
    const { agent, network, clock, sessions } = await aServer()
    const one = session(agent('mini-1'), hello('mini-1'))
    await settle()
    network.cut('mini-1')
    await clock.advance(20_000)
    expect(await one.ended).toMatchObject({ code: 'Unavailable' })
    expect(sessions.connected()).toEqual([])
    expect(sessions.lastSeenMs('mini-1')).toBe(0)
  })
})

describe('shapes of models from agents', () => {
  const source = 'file:tiny'
  const name = systemModelName(source)
  const shapeMessage = (digest: string, shape: ModelShape = tinyShape) =>
    ({ type: 'ModelShape', source, digest, shape }) as const
  const modelIn = ({ store }: Fixture): Model | undefined => store.snapshot().get('Model', '', name)

  test('names are readable, unique by source and revision, and names', () => {
    expect(name).toMatch(/^tiny-[0-9a-f]{8}$/)
    expect(systemModelName('hf://mlx-community/Qwen2.5-7B_4bit', 'main')).toMatch(/^mlx-community-qwen2-5-7b-4bit-/)
    expect(systemModelName('hf://a/b', 'x')).not.toBe(systemModelName('hf://a/b', 'y'))
    expect(systemModelName(`file:${'x'.repeat(200)}`).length).toBeLessThanOrEqual(63)
    expect(systemModelName(`file:---`)).toMatch(/^[0-9a-f]{8}$/)
  })

  test('become the system’s Model, once', async () => {
    const server = await aServer()
    const { say } = session(server.agent('mini-1'), hello('mini-1'))
    say(shapeMessage('sha256:1'))
    await settle()
    expect(modelIn(server)).toMatchObject({ spec: { source }, status: { shape: tinyShape, digest: 'sha256:1' } })
    const { revision } = server.store.snapshot()
    say(shapeMessage('sha256:1'))
    await settle()
    expect(server.store.snapshot().revision).toBe(revision)
    say(shapeMessage('sha256:2'))
    await settle()
    expect(modelIn(server)?.status?.digest).toBe('sha256:2')
  })

  test('of other files under the same name do not take over while a node holds the known ones', async () => {
    const server = await aServer()
    const one = session(server.agent('mini-1'), hello('mini-1'))
    const two = session(server.agent('mini-2'), hello('mini-2'))
    await settle()
    one.say(shapeMessage('sha256:1'))
    const uid = server.store.snapshot().get('Node', '', 'mini-1')?.metadata.uid ?? ''
    const holding = (digest: string) => ({ uid, patch: { models: [{ source, digest, state: 'Present' }] } })
    await server.agent('mini-1').updateStatus(holding('sha256:1'))
    two.say(shapeMessage('sha256:2'))
    await settle()
    expect(modelIn(server)?.status?.digest).toBe('sha256:1')
    await server.agent('mini-1').updateStatus(holding('sha256:2'))
    one.say(shapeMessage('sha256:2'))
    await settle()
    expect(modelIn(server)?.status?.digest).toBe('sha256:2')
  })

  test('that make no sense are refused, and the session lives on', async () => {
    const server = await aServer()
    const { say, isOver } = session(server.agent('mini-1'), hello('mini-1'))
    say(shapeMessage('sha256:1', { ...tinyShape, layers: -4 }))
    say({ ...shapeMessage('sha256:1'), source: 'file:../../etc' })
    await settle()
    expect(server.store.snapshot().list('Model')).toEqual([])
    expect(isOver()).toBe(false)
  })
})
