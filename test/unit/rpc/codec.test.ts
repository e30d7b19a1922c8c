import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { kindNames } from '../../../src/api/kinds.ts'
import { OpError, opCodes } from '../../../src/lib/errors.ts'
import type { Codec } from '../../../src/rpc/codec.ts'
import { logsCall, sessionCall, unaryCalls, watchCall } from '../../../src/rpc/codec.ts'
import { objectToJson } from '../../../src/rpc/json.ts'
import { protoMethod, protoMethods } from '../../../src/rpc/proto.ts'

/** Through the codec and through protobuf bytes: what the .proto forgets is lost here and seen. */
function overTheWire<T>(rpc: string, way: 'request' | 'reply', codec: Codec<T>, value: T): T {
  const { requestSerialize, requestDeserialize, responseSerialize, responseDeserialize } = protoMethod(rpc)
  const [serialize, deserialize] =
    way === 'request' ? [requestSerialize, requestDeserialize] : [responseSerialize, responseDeserialize]
  return codec.decode(deserialize(serialize(codec.encode(value))))
}

const text = fc.string({ unit: 'grapheme', maxLength: 12 })
const whole = fc.nat({ max: 2 ** 31 - 1 })
/** Fields that may be absent, never present as undefined. */
const record = (
  required: Record<string, fc.Arbitrary<unknown>>,
  optional: Record<string, fc.Arbitrary<unknown>> = {},
) => fc.record<Record<string, unknown>, string>({ ...required, ...optional }, { requiredKeys: Object.keys(required) })

const key = fc.stringMatching(/^[a-z]{1,6}$/)
const json = fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.parse(JSON.stringify(value)) as never)
const manifest = record({
  apiVersion: fc.constant('mctl.dev/v1alpha1'),
  kind: fc.constantFrom(...kindNames),
  metadata: record({ name: fc.string({ minLength: 1 }) }, { namespace: text, labels: fc.dictionary(key, text) }),
  spec: json,
})
const ref = record({ kind: fc.constantFrom(...kindNames), namespace: text, name: text })
const options = record(
  {},
  { dryRun: fc.boolean(), fieldManager: text, fieldValidation: fc.constantFrom('Strict', 'Warn', 'Ignore') },
)
const preconditions = record({}, { uid: text, resourceVersion: text })
const selection = { kind: fc.constantFrom(...kindNames) }
const selectors = { namespace: text, labelSelector: text, fieldSelector: text }
const columns = fc.array(record({ name: text, priority: fc.nat(1) }))
const row = record({ cells: fc.array(text) })

const seconds = fc.double({ min: 0, max: 1e6, noNaN: true, noDefaultInfinity: true })
const logTimes = { sinceTimeMs: whole, sinceAgoMs: whole, timestamps: fc.boolean() }
const requests: Record<string, fc.Arbitrary<unknown>> = {
  version: fc.constant({}),
  create: record({ object: manifest }, { options }),
  update: record({ object: manifest }, { options }),
  apply: record({ object: manifest }, { options, force: fc.boolean() }),
  patch: record({ ref, type: fc.constantFrom('merge', 'json'), patch: json }, { options, preconditions }),
  delete: record(
    { ref },
    { propagation: fc.constantFrom('Background', 'Foreground', 'Orphan'), dryRun: fc.boolean(), preconditions },
  ),
  get: record({ ref }, { table: fc.boolean() }),
  list: record(selection, { ...selectors, limit: whole, continueToken: text, table: fc.boolean() }),
  updateStatus: record({ uid: text, patch: fc.dictionary(key, json) }),
  plan: record({ objects: fc.array(manifest, { maxLength: 3 }) }, { independent: fc.boolean() }),
  join: record(
    { node: text, requestPem: text },
    { token: record({ id: text, secret: text }), labels: fc.dictionary(key, text, { minKeys: 1 }) },
  ),
  sign: record({ requestPem: text }, { user: text }),
  changeAuthority: record({ action: fc.constantFrom('Rotate', 'Retire') }, { name: text, force: fc.boolean() }),
  observe: record(
    { speeds: fc.array(record({ shardUid: text, answers: whole, tokens: whole, seconds, contextTokens: whole })) },
    {
      traffic: record(
        {
          gateway: text,
          replicas: fc.array(record({ shardUid: text, inFlight: whole, tokensPerSecond: seconds })),
          queues: fc.array(record({ servedName: text, waiting: whole })),
        },
        { trusts: fc.array(text, { minLength: 1 }) },
      ),
    },
  ),
  live: fc.constant({}),
}
const figures = {
  pressure: fc.constantFrom('Normal', 'Warn', 'Critical'),
  simulated: fc.boolean(),
  ...{ freeBytes: whole, wiredBytes: whole, usedBytes: whole, gpuBusy: seconds },
}
const writeReply = record(
  { object: manifest, result: fc.constantFrom('created', 'configured', 'unchanged') },
  { warnings: fc.array(text, { minLength: 1 }) },
)
const certificate = record({ certificatePem: text, authorityPem: text })
const replies: Record<string, fc.Arbitrary<unknown>> = {
  version: record({ serverVersion: text, apiVersion: text, clusterUid: text, incarnation: text }, { gatewayUrl: text }),
  create: writeReply,
  update: writeReply,
  apply: writeReply,
  patch: writeReply,
  updateStatus: writeReply,
  delete: record({ object: manifest, gone: fc.boolean() }),
  get: record({ object: manifest }, { columns, row }),
  list: record(
    { items: fc.array(manifest, { maxLength: 3 }), resourceVersion: text, incarnation: text },
    { continueToken: text, columns, rows: fc.array(row) },
  ),
  plan: record({ report: json }),
  join: certificate,
  sign: certificate,
  changeAuthority: record({ name: text, notes: fc.array(text) }),
  observe: fc.constant({}),
  live: record({
    nodes: fc.array(
      record({ name: text, connected: fc.boolean() }, { heardAgoMs: whole, reading: record({}, figures) }),
    ),
    groups: fc.array(
      record({
        ...{ namespace: text, name: text, deployment: text, nodes: fc.array(text) },
        ...{ inFlight: whole, tokensPerSecond: seconds },
      }),
    ),
    queues: fc.array(record({ namespace: text, deployment: text, waiting: whole })),
    gateways: whole,
  }),
}

describe('the codec, through protobuf bytes', () => {
  test.each(Object.entries(unaryCalls))('%s: request and reply come back as they were', (name, call) => {
    fc.assert(
      fc.property(requests[name] as fc.Arbitrary<unknown>, (value) => {
        expect(overTheWire(call.rpc, 'request', call.request as Codec<unknown>, value)).toEqual(value)
      }),
    )
    fc.assert(
      fc.property(replies[name] as fc.Arbitrary<unknown>, (value) => {
        expect(overTheWire(call.rpc, 'reply', call.reply as Codec<unknown>, value)).toEqual(value)
      }),
    )
  })

  test('watch and logs: requests and events come back as they were', () => {
    const watchRequest = record(selection, {
      ...selectors,
      resourceVersion: text,
      incarnation: text,
      table: fc.boolean(),
    })
    const event = fc.oneof(
      record({ type: fc.constant('HEADER'), incarnation: text, clusterUid: text }, { columns }),
      record(
        { type: fc.constantFrom('ADDED', 'MODIFIED', 'DELETED'), object: manifest, resourceVersion: text },
        { row },
      ),
      record({ type: fc.constant('BOOKMARK'), resourceVersion: text, initialEventsEnd: fc.boolean() }),
    )
    const logs = record(
      { namespace: text, shard: text },
      { follow: fc.boolean(), tail: whole, previous: fc.boolean(), ...logTimes },
    )
    const same = (rpc: string, way: 'request' | 'reply', codec: unknown) => (value: unknown) => {
      expect(overTheWire(rpc, way, codec as Codec<unknown>, value)).toEqual(value)
    }
    fc.assert(fc.property(watchRequest, same('Watch', 'request', watchCall.request)))
    fc.assert(fc.property(event, same('Watch', 'reply', watchCall.event)))
    fc.assert(fc.property(logs, same('Logs', 'request', logsCall.request)))
    fc.assert(fc.property(record({ text }), same('Logs', 'reply', logsCall.event)))
  })

  test('a session: every message of both sides comes back as it was', () => {
    const up = fc.oneof(
      record(
        {
          type: fc.constant('Hello'),
          nodeName: text,
          bootId: text,
          agentVersion: text,
          clusterUid: text,
          labels: fc.dictionary(key, text),
        },
        { agentId: text, trusts: fc.array(text, { minLength: 1 }) },
      ),
      record({ type: fc.constant('Heartbeat') }, figures),
      record({ type: fc.constant('Synced') }),
      record({ type: fc.constant('ModelShape'), source: text, digest: text, shape: fc.dictionary(key, json) }),
      record({ type: fc.constant('LogChunk'), requestId: text, text }),
      record(
        { type: fc.constant('LogEnd'), requestId: text },
        { error: record({ code: fc.constantFrom(...opCodes), message: text }) },
      ),
      record({ type: fc.constant('PeersAsked'), requestId: text, source: text, commit: text }),
      record({
        type: fc.constant('LinkMeasured'),
        requestId: text,
        measurement: fc.oneof(
          record({
            kind: fc.constant('Measured'),
            bytesPerSecond: fc.integer({ min: 1, max: 1e10 }),
            latencyMicros: fc.integer({ min: 0, max: 1e9 }),
          }),
          record({
            kind: fc.constant('Measured'),
            bytesPerSecond: fc.integer({ min: 1, max: 1e10 }),
            latencyMicros: fc.integer({ min: 0, max: 1e9 }),
            engine: fc.oneof(
              record({
                kind: fc.constant('Measured'),
                allReduceMicros: fc.integer({ min: 1, max: 1e9 }),
                hopMicros: fc.integer({ min: 1, max: 1e9 }),
              }),
              record({ kind: fc.constantFrom('Failed', 'NotDone'), message: text }),
            ),
          }),
          record({ kind: fc.constantFrom('Failed', 'NotDone'), message: text }),
        ),
      }),
    )
    const time = fc.integer({ min: 0, max: 4e12 })
    const down = fc.oneof(
      record({
        type: fc.constant('Welcome'),
        nodeUid: text,
        clusterUid: text,
        incarnation: text,
        serverTimeMs: time,
        heartbeatMs: time,
      }),
      record({ type: fc.constant('Tick'), serverTimeMs: time }),
      record({ type: fc.constant('Trust'), authorities: fc.array(text), signing: text }),
      record({
        type: fc.constant('MeasureLink'),
        requestId: text,
        order: record(
          { peer: text, address: text, peerAddress: text, port: fc.integer({ min: 0, max: 65535 }) },
          { engine: fc.boolean() },
        ),
      }),
      record(
        {
          type: fc.constant('LogsStart'),
          requestId: text,
          shardUid: text,
          follow: fc.boolean(),
          previous: fc.boolean(),
        },
        { tail: whole, namespace: text, shardName: text, ...logTimes },
      ),
      record({ type: fc.constant('LogsStop'), requestId: text }),
      record({
        type: fc.constant('Members'),
        members: fc.array(record({ node: text, uid: text }, { validFromMs: fc.nat() })),
      }),
      record({
        type: fc.constant('Peers'),
        requestId: text,
        peers: fc.array(record({ node: text, address: text, port: fc.nat(65_535) }, { bytesPerSecond: fc.nat() })),
      }),
    )
    const same = (way: 'request' | 'reply', codec: unknown) => (value: unknown) => {
      expect(overTheWire('NodeSession', way, codec as Codec<unknown>, value)).toEqual(value)
    }
    fc.assert(fc.property(up, same('request', sessionCall.up)))
    fc.assert(fc.property(down, same('reply', sessionCall.down)))
  })

  test('the .proto has exactly the calls that the codec has', () => {
    const rpcs = [...Object.values(unaryCalls).map((c) => c.rpc), watchCall.rpc, logsCall.rpc, sessionCall.rpc]
    expect(Object.keys(protoMethods()).sort()).toEqual(rpcs.sort())
  })

  test('a message of a newer peer is skipped', () => {
    expect(sessionCall.up.decode({})).toBeUndefined()
    expect(sessionCall.down.decode({ somethingNew: { x: 1 } })).toBeUndefined()
  })
})

describe('requests that nobody may send', () => {
  const causesOf = (run: () => unknown): readonly string[] => {
    try {
      run()
    } catch (error) {
      if (error instanceof OpError && error.code === 'Invalid')
        return error.causes.map((c) => `${c.field}: ${c.message}`)
      throw error
    }
    return []
  }
  const create = (bytes: string | undefined) => () =>
    unaryCalls.create.request.decode(bytes === undefined ? {} : { object: Buffer.from(bytes) })

  test.each([
    [undefined, ['object: Required value']],
    ['{"a":', ['object: Invalid value: must be JSON']],
    ['[]', ['object: Invalid value: must be a JSON object']],
    ['{}', ['apiVersion: Required value', 'kind: Required value', 'metadata.name: Required value']],
    ['{"apiVersion":"v","kind":"Node","metadata":{"name":7}}', ['metadata.name: Required value']],
  ])('an object of %s is Invalid and says why', (bytes, causes) => {
    expect(causesOf(create(bytes))).toEqual(causes)
  })

  test('an unknown kind, patch type or propagation names the words that there are', () => {
    const known = { kind: 'Node', namespace: '', name: 'x' }
    expect(causesOf(() => unaryCalls.get.request.decode({ ref: { ...known, kind: 'Pod' } }))[0]).toMatch(
      /^ref\.kind: Unsupported value: "Pod": supported values: "Node", /,
    )
    expect(causesOf(() => unaryCalls.patch.request.decode({ ref: known, type: 'strategic' }))[0]).toBe(
      'type: Unsupported value: "strategic": supported values: "merge", "json"',
    )
    expect(causesOf(() => unaryCalls.delete.request.decode({ ref: known, propagation: 'Now' }))[0]).toMatch(/"Now"/)
  })
})

describe('bytes of objects', () => {
  const object = { apiVersion: 'v', kind: 'Node', metadata: { name: 'a' } } as never

  test('a frozen object is serialised once, however many watch it', () => {
    const frozen = Object.freeze(structuredClone(object))
    expect(objectToJson(frozen)).toBe(objectToJson(frozen))
  })

  test('an object that may still change is serialised each time', () => {
    const loose = structuredClone(object) as { metadata: { name: string } }
    const before = objectToJson(loose as never)
    loose.metadata.name = 'b'
    expect(objectToJson(loose as never).toString()).not.toBe(before.toString())
  })
})
