import { describe, expect, test } from 'vitest'
import type { LogsRequest, ServerMessage } from '../../../src/rpc/messages.ts'
import { settle } from '../../support/virtualclock.ts'
import { aServer, aShard, hello, session } from './fixture.ts'
import type { Fixture } from './fixture.ts'

type Start = Extract<ServerMessage, { type: 'LogsStart' }>

const NAME = 'tiny-0-e1-0'
const request: LogsRequest = { namespace: 'default', shard: NAME }

/** Reads a log; `text()` is what has come so far. */
function reading({ person }: Fixture, wanted: LogsRequest = request) {
  let text = ''
  const control = new AbortController()
  const ended = (async () => {
    for await (const chunk of person().logs(wanted, { signal: control.signal })) text += chunk.text
  })().catch((error: unknown) => error)
  return { text: () => text, ended, stop: () => control.abort() }
}

async function aNodeWithShard() {
  const server = await aServer()
  const { object } = await server.person().create({ object: aShard('mini-1') })
  const agent = session(server.agent('mini-1'), hello('mini-1'))
  await settle()
  const starts = () => agent.down.filter((m): m is Start => m.type === 'LogsStart')
  return { server, agent, starts, uid: object.metadata.uid }
}

describe('logs of a shard', () => {
  test('are asked of its node and come back in order', async () => {
    const { server, agent, starts, uid } = await aNodeWithShard()
    const log = reading(server, { ...request, tail: 2 })
    await settle()
    const [start] = starts()
    expect(start).toMatchObject({ shardUid: uid, shardName: NAME, follow: false, previous: false, tail: 2 })
    const requestId = start?.requestId ?? ''
    agent.say({ type: 'LogChunk', requestId, text: 'one\n' })
    agent.say({ type: 'LogChunk', requestId: 'of another', text: 'not for us\n' })
    agent.say({ type: 'LogChunk', requestId, text: 'two\n' })
    agent.say({ type: 'LogEnd', requestId })
    expect(await log.ended).toBeUndefined()
    expect(log.text()).toBe('one\ntwo\n')
  })

  test('follow until the reader leaves; the agent is told', async () => {
    const { server, agent, starts } = await aNodeWithShard()
    const log = reading(server, { ...request, follow: true })
    await settle()
    const requestId = starts()[0]?.requestId ?? ''
    agent.say({ type: 'LogChunk', requestId, text: 'one\n' })
    await settle()
    expect(log.text()).toBe('one\n')
    log.stop()
    await log.ended
    await settle()
    expect(agent.down.at(-1)).toEqual({ type: 'LogsStop', requestId })
    agent.say({ type: 'LogChunk', requestId, text: 'late\n' })
    await settle()
    expect(agent.isOver()).toBe(false)
  })

  test('say what the agent says is wrong', async () => {
    const { server, agent, starts } = await aNodeWithShard()
    const log = reading(server)
    await settle()
    const requestId = starts()[0]?.requestId ?? ''
    agent.say({ type: 'LogEnd', requestId, error: { code: 'NotFound', message: 'no log of epoch 0' } })
    expect(await log.ended).toMatchObject({ code: 'NotFound', message: 'no log of epoch 0' })
  })

  test('are Unavailable while the agent is away, and when it goes away under the reading', async () => {
    const { server, agent } = await aNodeWithShard()
    const log = reading(server, { ...request, follow: true })
    await settle()
    agent.crash()
    expect(await log.ended).toMatchObject({ code: 'Unavailable', message: expect.stringContaining('mini-1') as string })
    await server.clock.advance(4_000)
    expect(await reading(server).ended).toMatchObject({
      code: 'Unavailable',
      message: expect.stringMatching(/node "mini-1".*last heard 4 s ago/) as string,
    })
  })

  test('a reader that takes nothing holds up neither heartbeats nor memory', async () => {
    const { server, agent, starts } = await aNodeWithShard()
    const log = server.person().logs(request)[Symbol.asyncIterator]()
    const first = log.next()
    await settle()
    const requestId = starts()[0]?.requestId ?? ''
    const text = 'x'.repeat(2 ** 20)
    for (let i = 0; i < 64; i++) agent.say({ type: 'LogChunk', requestId, text })
    agent.say({ type: 'Heartbeat', freeBytes: 7 })
    await settle()
    expect(server.sessions.headroomBytes().get('mini-1')).toBe(7)
    expect(agent.down.at(-1)).toEqual({ type: 'LogsStop', requestId })
    await first
    const rest = (async () => {
      while ((await log.next()).done !== true);
    })()
    await expect(rest).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining('--tail') as string,
    })
  })

  test('of a shard that is gone are found by name on the node that still has them', async () => {
    const server = await aServer()
    const one = session(server.agent('mini-1'), hello('mini-1'))
    const two = session(server.agent('mini-2'), hello('mini-2'))
    await settle()
    const log = reading(server, { ...request, follow: true })
    await settle()
    const asked = (agent: typeof one) => agent.down.find((m): m is Start => m.type === 'LogsStart')
    expect(asked(one)).toMatchObject({ shardUid: '', shardName: NAME, follow: false })
    const notHere = { code: 'NotFound', message: 'not here' } as const
    one.say({ type: 'LogEnd', requestId: asked(one)?.requestId ?? '', error: notHere })
    await settle()
    const requestId = asked(two)?.requestId ?? ''
    two.say({ type: 'LogChunk', requestId, text: 'last words\n' })
    two.say({ type: 'LogEnd', requestId })
    expect(await log.ended).toBeUndefined()
    expect(log.text()).toBe('last words\n')
  })

  test('of a shard that nobody knows are NotFound, even when an agent does not answer', async () => {
    const server = await aServer()
    const one = session(server.agent('mini-1'), hello('mini-1'))
    await settle()
    const log = reading(server)
    await server.clock.advance(5_000)
    expect(await log.ended).toMatchObject({
      code: 'NotFound',
      message: expect.stringContaining('shards.mctl.dev "tiny-0-e1-0" not found') as string,
    })
    expect(one.down.at(-1)?.type).toMatch(/LogsStop|Tick/)
    expect(one.down.some((m) => m.type === 'LogsStop')).toBe(true)
  })

  test('are not for agents', async () => {
    const server = await aServer()
    const own = server.agent('mini-1').logs(request)[Symbol.asyncIterator]()
    await expect(own.next()).rejects.toMatchObject({ code: 'Forbidden' })
  })
})
