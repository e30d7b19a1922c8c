import { describe, expect, test } from 'vitest'
import type { MctlObject } from '../../../src/api/meta.ts'
import { OpError } from '../../../src/lib/errors.ts'
import { memoryClient } from '../../../src/rpc/memory.ts'
import type { AgentMessage, Handlers, WatchEvent } from '../../../src/rpc/messages.ts'
import { createNetwork } from '../../../src/rpc/network.ts'
import { echoHandlers } from '../../support/echohandlers.ts'
import { SeededRandom, VirtualClock, settle } from '../../support/virtualclock.ts'

const version = { serverVersion: '1', apiVersion: 'v', clusterUid: 'c', incarnation: 'i' }
const anObject = (name: string): MctlObject => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: { name, uid: name, resourceVersion: '1', generation: 1, creationTimestamp: '' },
})
const added = (revision: number): WatchEvent => ({
  type: 'ADDED',
  object: anObject(`n${revision}`),
  resourceVersion: String(revision),
})

function aPair(handlers: Partial<Handlers>, seed = 1) {
  const clock = new VirtualClock()
  const network = createNetwork(clock, new SeededRandom(seed))
  const client = memoryClient(echoHandlers(handlers), { identity: { user: 'ada' }, clock, fault: network.link('ada') })
  return { clock, network, client }
}
const outcome = (promise: Promise<unknown>) => {
  const state: { result?: unknown } = {}
  promise.then(
    (value) => (state.result = value),
    (error: unknown) => (state.result = error instanceof OpError ? error.code : error),
  )
  return state
}
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })

describe('the wire in memory', () => {
  test('hands over copies: what one side changes the other does not see', async () => {
    const kept: MctlObject[] = []
    const { client } = aPair({
      create: ({ object }) => {
        kept.push(object as MctlObject)
        return Promise.resolve({ object: object as MctlObject, result: 'created' })
      },
    })
    const object = anObject('a')
    const reply = await client.create({ object: { ...object } })
    expect(reply.object).toEqual(object)
    expect(reply.object).not.toBe(kept[0])
    expect(kept[0]).not.toBe(object)
  })

  test('errors are OpErrors with their code; a handler’s bug is Internal', async () => {
    const { client } = aPair({
      create: () => Promise.reject(new OpError('Conflict', 'no')),
      version: () => {
        throw new TypeError('oops')
      },
    })
    const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'x' } }
    await expect(client.create({ object })).rejects.toMatchObject({ code: 'Conflict' })
    await expect(client.version({})).rejects.toMatchObject({ code: 'Internal', message: 'internal error: oops' })
  })

  test('a message over 4 MiB is refused', async () => {
    const { client } = aPair({})
    const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'x' }, spec: 'x'.repeat(5 * 2 ** 20) }
    await expect(client.create({ object })).rejects.toMatchObject({ code: 'Invalid' })
  })

  test('a reader that stops reading stops the writer', async () => {
    let produced = 0
    const { client } = aPair({
      watch: async function* () {
        for (let i = 1; i <= 1_000; i++) {
          produced = i
          yield added(i)
          await Promise.resolve()
        }
      },
    })
    const iterator = client.watch({ kind: 'Node' })[Symbol.asyncIterator]()
    await iterator.next()
    await settle()
    expect(produced).toBeLessThan(50)
    let read = 1
    while ((await iterator.next()).done !== true) read++
    expect(read).toBe(1_000)
  })

  test('leaving the loop, aborting and the deadline each end the handler', async () => {
    let ended = 0
    const { client, clock } = aPair({
      watch: async function* (_, { signal }) {
        yield added(1)
        await aborted(signal)
        ended++
      },
      version: async (_, { signal }) => {
        await aborted(signal)
        ended++
        return version
      },
    })
    for await (const _ of client.watch({ kind: 'Node' })) break
    await settle()
    expect(ended).toBe(1)
    const control = new AbortController()
    const call = outcome(client.version({}, { signal: control.signal }))
    await settle()
    control.abort()
    await settle()
    expect(call.result).toBe('Cancelled')
    const late = outcome(client.version({}))
    await clock.advance(30_000)
    expect(late.result).toBe('Timeout')
    expect(ended).toBe(3)
  })
})

describe('a network of the mind', () => {
  test('delays keep the order of a stream, and a seed repeats a run', async () => {
    const run = async (seed: number) => {
      const { client, clock, network } = aPair(
        {
          watch: async function* () {
            for (let i = 1; i <= 20; i++) yield added(i)
            await Promise.resolve()
          },
        },
        seed,
      )
      network.faults('ada', { delayMs: [1, 50] })
      const seen: string[] = []
      const reading = (async () => {
        for await (const e of client.watch({ kind: 'Node' }))
          if (e.type === 'ADDED') seen.push(`${e.resourceVersion}@${clock.monotonicMs().toFixed(3)}`)
      })()
      await clock.advance(2_000)
      await reading
      return seen
    }
    const first = await run(3)
    expect(first.map((s) => Number(s.split('@')[0]))).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(await run(3)).toEqual(first)
    expect(await run(4)).not.toEqual(first)
  })

  test('a cut says nothing; healed in time the call goes through, else it is Unavailable', async () => {
    const { client, clock, network } = aPair({ version: () => Promise.resolve(version) })
    network.cut('ada')
    const patient = outcome(client.version({}))
    await clock.advance(5_000)
    expect(patient.result).toBeUndefined()
    network.heal('ada')
    await settle()
    expect(patient.result).toEqual(version)
    network.cut('ada')
    const lost = outcome(client.version({}))
    await clock.advance(10_000)
    expect(lost.result).toBe('Unavailable')
  })

  test('a cut stream ends on both sides when keepalive gives up', async () => {
    let serverSide = 'open'
    const { client, clock, network } = aPair({
      watch: async function* (_, { signal }) {
        yield added(1)
        await aborted(signal)
        serverSide = 'closed'
      },
    })
    const iterator = client.watch({ kind: 'Node' })[Symbol.asyncIterator]()
    await iterator.next()
    const next = outcome(iterator.next())
    network.cut('ada')
    await clock.advance(14_000)
    expect([next.result, serverSide]).toEqual([undefined, 'open'])
    await clock.advance(2_000)
    expect([next.result, serverSide]).toEqual(['Unavailable', 'closed'])
  })

  test('a write whose answer is lost has happened all the same', async () => {
    let writes = 0
    const { client, network } = aPair({
      create: ({ object }) => {
        writes++
        network.reset('ada')
        return Promise.resolve({ object: object as MctlObject, result: 'created' })
      },
    })
    const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'x' } }
    await expect(client.create({ object })).rejects.toMatchObject({ code: 'Unavailable' })
    expect(writes).toBe(1)
  })

  test('random resets break calls now and then', async () => {
    const { client, network } = aPair({ version: () => Promise.resolve(version) })
    network.faults('ada', { resetChance: 0.3 })
    const results = await Promise.allSettled(Array.from({ length: 100 }, () => client.version({})))
    const broken = results.filter((r) => r.status === 'rejected').length
    expect(broken).toBeGreaterThan(20)
    expect(broken).toBeLessThan(80)
  })

  test('a server that is down refuses at once, breaks what was open, and comes back', async () => {
    const { client, network } = aPair({
      version: () => Promise.resolve(version),
      nodeSession: async function* (messages) {
        for await (const _ of messages) yield { type: 'Tick', serverTimeMs: 1 }
      },
    })
    const say = async function* (): AsyncIterable<AgentMessage> {
      yield { type: 'Synced' }
      await new Promise(() => {})
    }
    const session = client.nodeSession(say())[Symbol.asyncIterator]()
    expect((await session.next()).value).toEqual({ type: 'Tick', serverTimeMs: 1 })
    const next = outcome(session.next())
    network.serverDown(true)
    await settle()
    expect(next.result).toBe('Unavailable')
    await expect(client.version({})).rejects.toMatchObject({
      code: 'Unavailable',
      message: 'Unable to connect to the server: connection refused',
    })
    network.serverDown(false)
    expect(await client.version({})).toEqual(version)
  })

  test('links are apart: one is cut, the other is not', async () => {
    const { client, network } = aPair({ version: () => Promise.resolve(version) })
    network.cut('mini-1')
    expect(await client.version({})).toEqual(version)
    expect([network.isCut('mini-1'), network.isCut('ada')]).toEqual([true, false])
  })
})
