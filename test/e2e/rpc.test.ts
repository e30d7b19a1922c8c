import net from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { MctlObject } from '../../src/api/meta.ts'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { ConnectOptions } from '../../src/rpc/grpcclient.ts'
import { connect } from '../../src/rpc/grpcclient.ts'
import { serve } from '../../src/rpc/grpcserver.ts'
import { identityOfHeaders } from '../../src/rpc/identity.ts'
import type { AgentMessage, CallContext, Client, Handlers, WatchEvent } from '../../src/rpc/messages.ts'
import { makeHandlers } from '../../src/server/handlers.ts'
import { createSessions } from '../../src/server/sessions.ts'
import { createObject, patchObject } from '../../src/store/objects.ts'
import { openStore } from '../../src/store/sqlite.ts'
import { echoHandlers } from '../support/echohandlers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function aServer(handlers: Partial<Handlers>, listen = '127.0.0.1:0') {
  const server = await serve(echoHandlers(handlers), { listen, identityOf: identityOfHeaders, log: silentLogger })
  cleanups.push(() => server.stop(0))
  return server
}
function aClient(address: string, options: ConnectOptions = {}): Client {
  const client = connect(address, { user: 'ada', ...options })
  cleanups.push(() => client.close())
  return client
}
async function aPair(handlers: Partial<Handlers>, options: ConnectOptions = {}): Promise<Client> {
  const { address } = await aServer(handlers)
  return aClient(address, options)
}

const anObject = (name: string, extra: object = {}): MctlObject => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: {
    name,
    uid: `uid-${name}`,
    resourceVersion: '7',
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  ...extra,
})
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: unknown) => (error instanceof OpError ? error.code : String(error)),
  )
const allOf = async <T>(events: AsyncIterable<T>): Promise<T[]> => {
  const seen: T[] = []
  for await (const event of events) seen.push(event)
  return seen
}
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
const watchNodes = { kind: 'Node' } as const

describe('unary calls over gRPC', () => {
  test('request, reply and identity cross', async () => {
    const client = await aPair({
      apply: (request, { identity }) =>
        Promise.resolve({
          object: anObject(request.object.metadata.name, { spec: { ...request.options, by: identity.user } }),
          result: 'created',
        }),
    })
    const object = { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'mini-ü' } }
    expect(await client.apply({ object, options: { fieldManager: 'mctl' } })).toEqual({
      object: anObject('mini-ü', { spec: { fieldManager: 'mctl', by: 'ada' } }),
      result: 'created',
    })
  })

  test('an agent is known by its node', async () => {
    const seen: unknown[] = []
    const { address } = await aServer({
      version: (_, { identity }) => {
        seen.push(identity)
        return Promise.resolve({ serverVersion: '1', apiVersion: 'v', clusterUid: 'c', incarnation: 'i' })
      },
    })
    await aClient(address, { node: 'mini-1' }).version({})
    expect(await codeOf(aClient(address, { node: 'Not A Name' }).version({}))).toBe('Unauthorized')
    expect(seen).toEqual([{ user: 'system:node:mini-1', node: 'mini-1' }])
  })

  test('an error crosses whole', async () => {
    const causes = [{ field: 'spec.replicas', message: 'Invalid value: -1: must be positive — größer' }]
    const client = await aPair({
      create: () => Promise.reject(new OpError('Invalid', 'is invalid: ü', { causes, retryAfterSeconds: 3 })),
      get: () => Promise.reject(new TypeError('oops')),
    })
    const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'x' } }
    await expect(client.create({ object })).rejects.toMatchObject({
      code: 'Invalid',
      message: 'is invalid: ü',
      causes,
      retryAfterSeconds: 3,
    })
    const get = client.get({ ref: { kind: 'Node', namespace: '', name: 'x' } })
    await expect(get).rejects.toMatchObject({ code: 'Internal', message: 'internal error: oops' })
    expect(await codeOf(client.plan({ objects: [] }))).toBe('Unimplemented')
  })

  test('a message over 4 MiB is refused on either side, and the connection lives on', async () => {
    const big = anObject('big', { spec: 'x'.repeat(5 * 2 ** 20) })
    const client = await aPair({
      create: () => Promise.resolve({ object: anObject('small'), result: 'created' }),
      get: () => Promise.resolve({ object: big }),
    })
    await expect(client.create({ object: { ...big, spec: big.spec } })).rejects.toMatchObject({
      code: 'Invalid',
      message: expect.stringContaining('4 MiB') as string,
    })
    const get = client.get({ ref: { kind: 'Node', namespace: '', name: 'x' } })
    await expect(get).rejects.toMatchObject({ code: 'Invalid' })
    const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'x' } }
    expect((await client.create({ object })).result).toBe('created')
  })

  test('the deadline and the caller both cancel the handler', async () => {
    const ends: string[] = []
    const client = await aPair({
      version: async (_, { signal }) => {
        await aborted(signal)
        ends.push('aborted')
        throw new OpError('Cancelled', 'gone')
      },
    })
    expect(await codeOf(client.version({}, { timeoutMs: 50 }))).toBe('Timeout')
    const controller = new AbortController()
    const call = client.version({}, { signal: controller.signal })
    setTimeout(() => controller.abort(), 50)
    expect(await codeOf(call)).toBe('Cancelled')
    expect(await codeOf(client.version({}, { signal: controller.signal }))).toBe('Cancelled')
    await expect.poll(() => ends).toEqual(['aborted', 'aborted'])
  })

  test('a list without a limit puts the pages of the server together', async () => {
    const client = await aPair({
      list: ({ continueToken = '0', limit }) => {
        const page = Number(continueToken)
        const more = page < 2 ? { continueToken: String(page + 1) } : {}
        return Promise.resolve({
          items: [anObject(`n${page}-${limit}`)],
          resourceVersion: '5',
          incarnation: 'i',
          ...more,
        })
      },
    })
    const whole = await client.list({ kind: 'Node' })
    expect(whole.items.map((o) => o.metadata.name)).toEqual(['n0-undefined', 'n1-undefined', 'n2-undefined'])
    expect(whole.continueToken).toBeUndefined()
    expect((await client.list({ kind: 'Node', limit: 1 })).continueToken).toBe('1')
  })
})

describe('a server that is not there', () => {
  test('nobody listens: Unavailable at once, in kubectl’s words', async () => {
    const free = await aServer({})
    await free.stop(0)
    const client = aClient(free.address)
    const failure = expect.objectContaining({
      code: 'Unavailable',
      message: expect.stringMatching(/^Unable to connect to the server: .*ECONNREFUSED/) as string,
    }) as Error
    await expect(client.version({})).rejects.toEqual(failure)
    await expect(allOf(client.watch(watchNodes))).rejects.toEqual(failure)
  })

  test('a silent address: Unavailable when the time to connect is over', async () => {
    const silent = net.createServer(() => {})
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    cleanups.push(() => silent.close())
    const { port } = silent.address() as net.AddressInfo
    const client = aClient(`127.0.0.1:${port}`, { connectTimeoutMs: 100 })
    await expect(client.version({})).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringMatching(/^Unable to connect to the server: .*within 0.1 s/) as string,
    })
  })

  test('the same client finds a server that came back', async () => {
    const version = () => Promise.resolve({ serverVersion: '1', apiVersion: 'v', clusterUid: 'c', incarnation: 'i' })
    const first = await aServer({ version })
    const client = aClient(first.address)
    await client.version({})
    await first.stop(0)
    expect(await codeOf(client.version({}))).toBe('Unavailable')
    await aServer({ version }, first.address)
    await expect.poll(() => codeOf(client.version({})), { timeout: 10_000 }).toBe('ok')
  })

  test('an address in use is refused with the address in it', async () => {
    const { address } = await aServer({})
    await expect(aServer({}, address)).rejects.toMatchObject({
      code: 'Unavailable',
      message: expect.stringContaining(address) as string,
    })
  })

  test('an address that is none is Invalid', () => {
    expect(() => connect('localhost')).toThrow(/must be HOST:PORT/)
  })
})

describe('streams over gRPC', () => {
  const event = (revision: number, extra: object = {}): WatchEvent => ({
    type: 'ADDED',
    object: anObject(`n${revision}`, extra),
    resourceVersion: String(revision),
  })

  test('events arrive in order, then the end; an error comes after all that was sent before it', async () => {
    const client = await aPair({
      watch: async function* ({ labelSelector }) {
        for (let i = 1; i <= 100; i++) yield event(i)
        await Promise.resolve()
        if (labelSelector !== undefined) throw new OpError('Expired', 'too old resource version: 1 (5)')
      },
    })
    expect((await allOf(client.watch(watchNodes))).map((e) => 'resourceVersion' in e && e.resourceVersion)).toEqual(
      Array.from({ length: 100 }, (_, i) => String(i + 1)),
    )
    const seen: WatchEvent[] = []
    const failing = async () => {
      for await (const e of client.watch({ kind: 'Node', labelSelector: 'a' })) seen.push(e)
    }
    await expect(failing()).rejects.toMatchObject({ code: 'Expired', message: 'too old resource version: 1 (5)' })
    expect(seen.length).toBe(100)
  })

  test('a reader that stops reading stops the writer, and others go on', async () => {
    const produced = { slow: 0, quick: 0 }
    const client = await aPair({
      watch: async function* ({ labelSelector }, { signal }) {
        const who = labelSelector === 'slow' ? 'slow' : 'quick'
        for (let i = 1; i <= 3_000 && !signal.aborted; i++) {
          produced[who] = i
          yield event(i, { spec: 'x'.repeat(2_000) })
          await Promise.resolve()
        }
      },
    })
    const slow = client.watch({ kind: 'Node', labelSelector: 'slow' })[Symbol.asyncIterator]()
    await slow.next()
    expect(await allOf(client.watch(watchNodes))).toHaveLength(3_000)
    // What is under way: the windows of HTTP/2 and of both streams, far below what the handler has.
    const held = produced.slow
    expect(held).toBeLessThan(500)
    expect(await allOf(client.watch(watchNodes))).toHaveLength(3_000)
    expect(produced.slow).toBe(held)
    let more = 1
    while ((await slow.next()).done !== true) more++
    expect(more).toBe(3_000)
  })

  test('who leaves the loop, aborts, or goes away ends the handler', async () => {
    const ended: string[] = []
    const { address } = await aServer({
      watch: async function* ({ labelSelector = '' }, { signal }) {
        yield event(1)
        await aborted(signal)
        ended.push(labelSelector)
      },
    })
    const client = aClient(address)
    for await (const _ of client.watch({ kind: 'Node', labelSelector: 'leaves' })) break
    await expect.poll(() => ended).toEqual(['leaves'])
    const controller = new AbortController()
    const reading = allOf(client.watch({ kind: 'Node', labelSelector: 'aborts' }, { signal: controller.signal }))
    setTimeout(() => controller.abort(), 50)
    expect(await codeOf(reading)).toBe('Cancelled')
    await expect.poll(() => ended).toEqual(['leaves', 'aborts'])
    const other = connect(address)
    const iterator = other.watch({ kind: 'Node', labelSelector: 'goes' })[Symbol.asyncIterator]()
    await iterator.next()
    other.close()
    await iterator.return?.()
    await expect.poll(() => ended).toEqual(['leaves', 'aborts', 'goes'])
  })

  test('a session talks both ways, and either side can end it', async () => {
    const heard: AgentMessage[] = []
    const client = await aPair({
      nodeSession: async function* (messages) {
        for await (const message of messages) {
          heard.push(message)
          if (message.type === 'Synced') throw new OpError('Forbidden', 'another agent of that name lives')
          yield { type: 'Tick', serverTimeMs: heard.length }
        }
      },
    })
    const say = async function* (...messages: AgentMessage[]) {
      for (const message of messages) yield await Promise.resolve(message)
    }
    const beat: AgentMessage = { type: 'Heartbeat', freeBytes: 7 }
    expect(await allOf(client.nodeSession(say(beat, beat)))).toEqual([
      { type: 'Tick', serverTimeMs: 1 },
      { type: 'Tick', serverTimeMs: 2 },
    ])
    await expect(allOf(client.nodeSession(say(beat, { type: 'Synced' }, beat)))).rejects.toMatchObject({
      code: 'Forbidden',
      message: 'another agent of that name lives',
    })
    expect(heard).toEqual([beat, beat, beat, { type: 'Synced' }])
  })

  test('a session whose messages fail says why', async () => {
    const client = await aPair({
      nodeSession: async function* (messages) {
        for await (const _ of messages) yield { type: 'Tick', serverTimeMs: 0 }
      },
    })
    const failing = async function* (): AsyncIterable<AgentMessage> {
      yield { type: 'Synced' }
      await Promise.resolve()
      throw new OpError('Internal', 'the agent is broken')
    }
    await expect(allOf(client.nodeSession(failing()))).rejects.toMatchObject({ message: 'the agent is broken' })
  })

  test('a server that stops ends its streams with Unavailable and waits for no idle client', async () => {
    const contexts: CallContext[] = []
    const server = await aServer({
      watch: async function* (_, context) {
        contexts.push(context)
        yield event(1)
        await aborted(context.signal)
      },
    })
    const client = aClient(server.address)
    const iterator = client.watch(watchNodes)[Symbol.asyncIterator]()
    await iterator.next()
    const next = expect(iterator.next()).rejects.toMatchObject({
      code: 'Unavailable',
      message: 'the server is stopping',
    })
    await server.stop(5_000)
    await next
    expect(contexts[0]?.signal.aborted).toBe(true)
  })

  test('a server that stops cuts a handler that does not end', async () => {
    const server = await aServer({ version: () => new Promise(() => {}) })
    // It looks for a server that comes back, as long as a connection may take.
    const client = aClient(server.address, { connectTimeoutMs: 200 })
    const call = codeOf(client.version({}))
    await new Promise((resolve) => setTimeout(resolve, 100))
    await server.stop(100)
    expect(await call).toBe('Unavailable')
  })
})

describe('the server on a real socket', () => {
  test('a watcher that does not read is closed and told to list again; others miss nothing', async () => {
    const doors = { clock: systemClock, random: systemRandom, log: silentLogger }
    const store = await openStore({ dataDir: ':memory:', ...doors })
    const sessions = createSessions({ store, ...doors })
    const facts = { planReport: () => ({}), serverVersion: '1', gatewayUrl: () => undefined }
    const { address } = await aServer(makeHandlers({ store, sessions, ...doors, ...facts }))
    cleanups.push(() => store.close())
    const node = { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'n' }, spec: {} } as const
    await store.transact((tx) => createObject(tx, node))

    const slow = aClient(address).watch(watchNodes)[Symbol.asyncIterator]()
    await slow.next()
    const seen: string[] = []
    let listed = false
    const control = new AbortController()
    const quick = (async () => {
      for await (const e of aClient(address).watch(watchNodes, { signal: control.signal })) {
        if (e.type === 'BOOKMARK') listed = true
        if (e.type === 'MODIFIED') seen.push(e.resourceVersion)
      }
    })().catch((error: unknown) => error)
    const ref = { kind: 'Node', namespace: '', name: 'n' } as const
    await expect.poll(() => listed, { timeout: 30_000 }).toBe(true)
    const revisions: string[] = []
    const changes = 4_000
    for (let i = 0; i < changes; i += 200) {
      const note = (n: number) => ({ metadata: { annotations: { note: `${n} ${'x'.repeat(2_000)}` } } })
      const batch = Array.from({ length: 200 }, (_, k) =>
        store.transact((tx) => patchObject(tx, ref, 'merge', note(i + k)).object.metadata.resourceVersion),
      )
      revisions.push(...(await Promise.all(batch)))
      await expect.poll(() => seen.length, { timeout: 30_000 }).toBe(revisions.length)
    }
    expect(seen).toEqual(revisions)

    const rest: string[] = []
    const reading = async () => {
      for (let next = await slow.next(); next.done !== true; next = await slow.next()) rest.push(next.value.type)
    }
    await expect(reading()).rejects.toMatchObject({
      code: 'Expired',
      message: expect.stringContaining('unresponsiveness') as string,
    })
    expect(rest.length).toBeLessThan(changes / 2)
    control.abort()
    expect(await quick).toMatchObject({ code: 'Cancelled' })
  })
})
