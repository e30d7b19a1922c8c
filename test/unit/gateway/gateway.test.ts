import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { ObservedSpeed } from '../../../src/api/speed.ts'
import type { Gateway, GatewayOptions } from '../../../src/gateway/gateway.ts'
import { startGateway } from '../../../src/gateway/gateway.ts'
import type { Replica } from '../../../src/gateway/routes.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'

type Answer = (request: IncomingMessage, response: ServerResponse, body: string) => void
const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

let uid = 0
/** A leader's door: a real HTTP server that answers as told and remembers what it saw. */
async function aDoor(answer: Answer, concurrency = 4): Promise<Replica & { seen: { body: string; shard: unknown }[] }> {
  const seen: { body: string; shard: unknown }[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      seen.push({ body, shard: request.headers['mctl-shard'] })
      answer(request, response, body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const n = ++uid
  return {
    shardUid: `uid-${n}`,
    group: `g-${n}`,
    node: 'mini-1',
    address: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    concurrency,
    seen,
  }
}

async function aGateway(replicas: Replica[] | undefined, options: Partial<GatewayOptions> = {}): Promise<Gateway> {
  const gateway = await startGateway({
    listen: '127.0.0.1:0',
    clock: systemClock,
    log: silentLogger,
    clusterUid: () => 'c',
    ...options,
  })
  cleanups.push(() => gateway.stop(0))
  if (replicas !== undefined) gateway.setTable(new Map([['m', replicas]]))
  return gateway
}

const ask = (gateway: Gateway, body: unknown = { model: 'm', prompt: 'x' }, signal?: AbortSignal) =>
  fetch(`http://${gateway.address}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  })
const json: Answer = (_, response) => {
  response.setHeader('content-type', 'application/json')
  response.end('{"ok":true}')
}
const codeOf = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code

test('bytes pass unchanged, with the uid of the shard that is meant', async () => {
  const door = await aDoor(json)
  const gateway = await aGateway([door])
  const response = await fetch(`http://${gateway.address}/v1/completions`, {
    method: 'POST',
    body: '{"model" :  "m","n":1.0}',
    headers: { authorization: 'Bearer secret' },
  })
  expect(await response.text()).toBe('{"ok":true}')
  expect(door.seen).toEqual([{ body: '{"model" :  "m","n":1.0}', shard: door.shardUid }])
})

test('404 for a model that nobody deployed, 503 with Retry-After for one that is not ready', async () => {
  const gateway = await aGateway([])
  const unknown = await ask(gateway, { model: 'other' })
  expect([unknown.status, await codeOf(unknown)]).toEqual([404, 'model_not_found'])
  const notReady = await ask(gateway)
  expect([notReady.status, notReady.headers.get('retry-after')]).toEqual([503, '2'])
})

test('400 without a model, 413 over the limit, 404 for another path', async () => {
  const gateway = await aGateway([], { bodyBytesMax: 1000 })
  expect((await ask(gateway, {})).status).toBe(400)
  expect((await ask(gateway, { model: 'm', prompt: 'x'.repeat(2000) })).status).toBe(413)
  expect((await fetch(`http://${gateway.address}/v1/embeddings`, { method: 'POST' })).status).toBe(404)
})

test('a replica that fails before its first byte is retried elsewhere', async () => {
  const broken = await aDoor((request) => request.socket.destroy())
  const good = await aDoor(json)
  const gateway = await aGateway([broken, good])
  for (let i = 0; i < 4; i++) expect((await ask(gateway)).status).toBe(200)
  // The first failure puts it aside: the others did not wait for it.
  expect([broken.seen.length, good.seen.length]).toEqual([1, 4])
})

test('headers alone are no first byte: the retry is still possible', async () => {
  const broken = await aDoor((request, response) => {
    response.setHeader('content-type', 'text/event-stream')
    response.flushHeaders()
    setTimeout(() => request.socket.destroy(), 20)
  })
  const good = await aDoor(json)
  const gateway = await aGateway([broken, good])
  expect(await (await ask(gateway)).text()).toBe('{"ok":true}')
})

test('a stale table is noticed by 421, told, and the request goes elsewhere', async () => {
  let stale = 0
  const stranger = await aDoor((_, response) => response.writeHead(421).end())
  const good = await aDoor(json)
  const gateway = await aGateway([stranger, good], { onStaleTable: () => stale++ })
  expect((await ask(gateway)).status).toBe(200)
  expect(stale).toBe(1)
})

test('when every replica failed the client hears 503, not a hang', async () => {
  const gateway = await aGateway([await aDoor((request) => request.socket.destroy())])
  expect((await ask(gateway)).status).toBe(503)
})

test('a stream that breaks off ends with an error event; one that ends with [DONE] is left alone', async () => {
  const streamOf =
    (parts: string[], end: (socket: Socket, response: ServerResponse) => void): Answer =>
    (request, response) => {
      response.setHeader('content-type', 'text/event-stream')
      for (const part of parts) response.write(part)
      setTimeout(() => end(request.socket, response), 20)
    }
  const dies = await aGateway([await aDoor(streamOf(['data: {"a":1}\n\n'], (socket) => socket.destroy()))])
  expect(await (await ask(dies)).text()).toMatch(/^data: \{"a":1\}\n\ndata: \{"error":.*replica_failed/)
  const endsEarly = await aGateway([await aDoor(streamOf(['data: {"a":1}\n\n'], (_, response) => response.end()))])
  expect(await (await ask(endsEarly)).text()).toMatch(/replica_failed/)
  const whole = await aGateway([
    await aDoor(streamOf(['data: {"a":1}\n\n', 'data: [DO', 'NE]\n\n'], (_, response) => response.end())),
  ])
  expect(await (await ask(whole)).text()).toBe('data: {"a":1}\n\ndata: [DONE]\n\n')
})

test('a half-sent JSON body is cut, never passed off as whole', async () => {
  const gateway = await aGateway([
    await aDoor((request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' })
      response.write('{"half":')
      setTimeout(() => request.socket.destroy(), 20)
    }),
  ])
  await expect(ask(gateway).then((r) => r.text())).rejects.toThrow()
})

test('least in flight first; over the planned concurrency requests wait; over the queue 429', async () => {
  const open: ServerResponse[] = []
  const hold: Answer = (_, response) => void open.push(response)
  const one = await aDoor(hold, 1)
  const two = await aDoor(hold, 1)
  const gateway = await aGateway([one, two], { queueMax: 1 })
  const first = [ask(gateway), ask(gateway)]
  await expect.poll(() => open.length).toBe(2)
  expect([one.seen.length, two.seen.length]).toEqual([1, 1])
  const waiting = ask(gateway)
  await expect.poll(async () => (await ask(gateway)).status).toBe(429)
  for (const response of open.splice(0)) response.end('{}')
  await expect.poll(() => open.length).toBe(1)
  open[0]?.end('{}')
  expect((await Promise.all([...first, waiting])).map((r) => r.status)).toEqual([200, 200, 200])
})

test('a client that goes away cancels its request and frees its place', async () => {
  let cancelled = 0
  const door = await aDoor((request) => void request.socket.on('close', () => cancelled++), 1)
  const gateway = await aGateway([door])
  const leaving = new AbortController()
  const gone = ask(gateway, undefined, leaving.signal)
  await expect.poll(() => door.seen.length).toBe(1)
  leaving.abort()
  await expect(gone).rejects.toThrow()
  await expect.poll(() => cancelled).toBe(1)
  const next = new AbortController()
  const again = ask(gateway, undefined, next.signal)
  await expect.poll(() => door.seen.length).toBe(2)
  next.abort()
  await expect(again).rejects.toThrow()
})

test('lists the ready models, answers health with its cluster, and metrics', async () => {
  const gateway = await aGateway([await aDoor(json)])
  await ask(gateway)
  const models = (await (await fetch(`http://${gateway.address}/v1/models`)).json()) as { data: { id: string }[] }
  expect(models.data.map((m) => m.id)).toEqual(['m'])
  expect(await (await fetch(`http://${gateway.address}/healthz`)).json()).toEqual({ status: 'ok', clusterUid: 'c' })
  expect(await (await fetch(`http://${gateway.address}/metrics`)).text()).toContain(
    'mctl_gateway_requests_total{model="m",code="200"} 1',
  )
})

test('the pace of an answer is told for its replica, unless another one was answered beside it', async () => {
  const told: ObservedSpeed[] = []
  const slowly: Answer = (_, response) => {
    response.setHeader('content-type', 'text/event-stream')
    let left = 40
    const timer = setInterval(() => {
      if (left-- > 0) return void response.write('data: {"choices":[{"text":"x"}]}\n\n')
      clearInterval(timer)
      response.end('data: {"choices":[{"text":""}]}\n\ndata: [DONE]\n\n')
    }, 4)
  }
  const door = await aDoor(slowly)
  const gateway = await aGateway([door], { tellSpeeds: (speeds) => Promise.resolve(told.push(...speeds)) })
  await (await ask(gateway)).text()
  await Promise.all([ask(gateway), ask(gateway)].map(async (answer) => (await answer).text()))
  await gateway.stop(0)
  expect(told).toMatchObject([{ shardUid: door.shardUid, answers: 1 }])
  expect(told[0]?.tokens).toBeGreaterThan(30)
})
