// The leader's door between a gateway and an engine, with raw sockets as the engine.
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { Door, passedOn, refusalOf } from '../../../agent/shardhost/door.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

/** An engine that sees the raw bytes of each connection, once a whole request has come, and says what it likes. */
async function anEngine(answer: (socket: Socket, requestText: string) => void): Promise<number> {
  const server: Server = createServer((socket) => {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0)
      const bodyAt = text.indexOf('\r\n\r\n') + 4
      if (bodyAt > 3 && text.length - bodyAt >= length) answer(socket, text)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => server.close())
  return (server.address() as AddressInfo).port
}

async function anOpenDoor(enginePort: number): Promise<{ door: Door; port: number }> {
  const door = new Door({ address: '127.0.0.1', port: 0, enginePort, shardUid: 'uid-1' })
  const port = await door.listen()
  door.set('Open')
  cleanups.push(() => door.close())
  return { door, port }
}

interface Got {
  readonly status: number
  readonly rawHeaders: readonly string[]
  readonly text: string
  readonly cut: boolean
}

function post(port: number, body: string, options: { uid?: string; agent?: Agent } = {}): Promise<Got> {
  const headers = {
    'mctl-shard': options.uid ?? 'uid-1',
    'Content-Type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'X-Odd-Case': 'kept',
  }
  return new Promise((resolve, reject) => {
    const sent = { host: '127.0.0.1', port, method: 'POST', path: '/v1/completions?x=1', headers }
    const call = request({ ...sent, agent: options.agent ?? false }, (reply) => {
      let text = ''
      const done = (cut: boolean) => resolve({ status: reply.statusCode ?? 0, rawHeaders: reply.rawHeaders, text, cut })
      reply.on('data', (chunk: Buffer) => (text += chunk.toString()))
      reply.on('end', () => done(false))
      reply.on('error', () => done(true))
    })
    call.on('error', reject)
    call.end(body)
  })
}

test('a request and its answer pass untouched, whatever their size', async () => {
  let seen = ''
  const body = JSON.stringify({ prompt: 'é'.repeat(110_000) })
  const enginePort = await anEngine((socket, text) => {
    seen = text
    socket.end('HTTP/1.0 200 Fine\r\nContent-Length: 5\r\nX-From: engine\r\n\r\nhello')
  })
  const got = await post((await anOpenDoor(enginePort)).port, body)
  expect(got).toMatchObject({ status: 200, text: 'hello', cut: false })
  expect(got.rawHeaders.slice(0, 4)).toEqual(['Content-Length', '5', 'X-From', 'engine'])
  const [head = '', sentBody = ''] = seen.split('\r\n\r\n')
  expect(head.split('\r\n')[0]).toBe('POST /v1/completions?x=1 HTTP/1.1')
  expect(head).toContain('X-Odd-Case: kept')
  expect(head).not.toContain('mctl-shard')
  expect(Buffer.from(sentBody, 'latin1').toString()).toBe(body)
})

test('another shard uid, or none, is misdirected before anything else', () => {
  expect(refusalOf('uid-2', 'uid-1', 'Open')).toMatchObject({ status: 421, code: 'wrong_shard' })
  expect(refusalOf(undefined, 'uid-1', 'NotReady')).toMatchObject({ status: 421 })
  expect(refusalOf('uid-1', 'uid-1', 'NotReady')).toMatchObject({ status: 503, code: 'shard_not_ready' })
  expect(refusalOf('uid-1', 'uid-1', 'Draining')).toMatchObject({ status: 503, code: 'shard_stopping' })
  expect(refusalOf('uid-1', 'uid-1', 'Open')).toBeUndefined()
})

test('an engine that does not answer is 502, and the kept connection serves on', async () => {
  let hangsUp = true
  const enginePort = await anEngine((socket) => {
    if (hangsUp) socket.destroy()
    else socket.end('HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok')
  })
  const { port } = await anOpenDoor(enginePort)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  cleanups.push(() => agent.destroy())
  const failed = await post(port, '{}', { agent })
  expect(failed.status).toBe(502)
  expect(JSON.parse(failed.text)).toMatchObject({ error: { code: 'engine_unavailable' } })
  hangsUp = false
  expect(await post(port, '{}', { agent })).toMatchObject({ status: 200, text: 'ok' })
})

const streamHead = 'HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n'

test('a stream that ends with its connection is whole when it has said [DONE]', async () => {
  const enginePort = await anEngine((socket) => socket.end(`${streamHead}data: {"a":1}\n\ndata: [DONE]\n\n`))
  const got = await post((await anOpenDoor(enginePort)).port, '{}')
  expect(got).toMatchObject({ status: 200, cut: false, text: 'data: {"a":1}\n\ndata: [DONE]\n\n' })
})

test.each([
  ['a stream that only stops', `${streamHead}data: {"a":1}\n\n`],
  ['an answer shorter than its length', 'HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\ndata: {"a":1}\n\n'],
  ['chunks without their end', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\ndata: {"a":1}\n\n\r\n'],
])('%s reaches the client as a cut connection', async (_, said) => {
  const enginePort = await anEngine((socket) => socket.end(said))
  const got = await post((await anOpenDoor(enginePort)).port, '{}')
  expect(got).toMatchObject({ status: 200, cut: true })
  expect(got.text.startsWith('data: {"a":1}')).toBe(true)
})

test('a client that goes away takes its request to the engine with it', async () => {
  let closed: Promise<unknown> = Promise.resolve()
  const enginePort = await anEngine((socket) => {
    closed = once(socket, 'close')
    socket.write(`${streamHead}data: {"a":1}\n\n`)
  })
  const { door, port } = await anOpenDoor(enginePort)
  await new Promise<void>((resolve) => {
    const headers = { 'mctl-shard': 'uid-1' }
    const call = request({ host: '127.0.0.1', port, method: 'POST', headers, agent: false }, (reply) => {
      reply.on('error', () => {})
      reply.once('data', () => {
        call.destroy()
        resolve()
      })
    })
    call.on('error', () => {})
    call.end('{}')
  })
  await closed
  await door.drained()
})

test('the door is drained when its last answer is out', async () => {
  let onAsked: (socket: Socket) => void = () => {}
  const asked = new Promise<Socket>((resolve) => (onAsked = resolve))
  const enginePort = await anEngine((socket) => {
    socket.write(`${streamHead}data: {"a":1}\n\n`)
    onAsked(socket)
  })
  const { door, port } = await anOpenDoor(enginePort)
  const answer = post(port, '{}')
  const engineSocket = await asked
  door.set('Draining')
  expect((await post(port, '{}')).status).toBe(503)
  let drained = false
  const whenDrained = door.drained().then(() => (drained = true))
  expect(drained).toBe(false)
  engineSocket.end('data: [DONE]\n\n')
  expect((await answer).cut).toBe(false)
  await whenDrained
})

test('headers of one hop are not passed on, all others as they were', () => {
  const raw = [
    'Host',
    'a',
    'CONNECTION',
    'keep-alive',
    'mctl-shard',
    'u',
    'X-a',
    '1',
    'X-a',
    '2',
    'Keep-Alive',
    'timeout=5',
  ]
  expect(passedOn(raw)).toEqual(['Host', 'a', 'X-a', '1', 'X-a', '2'])
})
