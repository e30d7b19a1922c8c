/** A server in memory: the real store, handlers and wire; the clock is the test's. */
import { onTestFinished } from 'vitest'
import type { Manifest, MctlObject } from '../../../src/api/meta.ts'
import { API_VERSION } from '../../../src/api/meta.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { shardName } from '../../../src/api/shard.ts'
import { OpError } from '../../../src/lib/errors.ts'
import type { Facts, Logger } from '../../../src/lib/log.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { Pipe } from '../../../src/rpc/flow.ts'
import { memoryClient } from '../../../src/rpc/memory.ts'
import type { AgentMessage, Client, ServerMessage, WatchEvent, WatchRequest } from '../../../src/rpc/messages.ts'
import type { Network } from '../../../src/rpc/network.ts'
import { createNetwork } from '../../../src/rpc/network.ts'
import { makeHandlers } from '../../../src/server/handlers.ts'
import type { Sessions } from '../../../src/server/sessions.ts'
import { createSessions } from '../../../src/server/sessions.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { SeededRandom, VirtualClock, settle } from '../../support/virtualclock.ts'

export interface Fixture {
  readonly store: Store
  readonly clock: VirtualClock
  readonly sessions: Sessions
  readonly network: Network
  /** Audit and other info lines. */
  readonly lines: { readonly message: string; readonly facts: Facts }[]
  person(user?: string): Client
  agent(node: string): Client
}

const SERVER_VERSION = '1.2.3'

export async function aServer(): Promise<Fixture> {
  const clock = new VirtualClock()
  const random = new SeededRandom(7)
  const lines: { message: string; facts: Facts }[] = []
  const log: Logger = { ...silentLogger, info: (message, facts = {}) => void lines.push({ message, facts }) }
  const store = await openStore({ dataDir: ':memory:', clock, random, log: silentLogger })
  const sessions = createSessions({ store, serverVersion: SERVER_VERSION, clock, random, log })
  const network = createNetwork(clock, random)
  const handlers = makeHandlers({
    store,
    clock,
    random,
    log,
    sessions,
    planReport: (request, snapshot) => ({ planned: request.objects.length, atRevision: snapshot.revision }),
    serverVersion: SERVER_VERSION,
    gatewayUrl: () => 'http://127.0.0.1:6481',
  })
  onTestFinished(async () => {
    sessions.close()
    await store.close()
  })
  return {
    store,
    clock,
    sessions,
    network,
    lines,
    person: (user = 'ada') => memoryClient(handlers, { identity: { user }, clock }),
    agent: (node) =>
      memoryClient(handlers, {
        identity: { user: `system:node:${node}`, node },
        clock,
        fault: network.link(node),
      }),
  }
}

export const aDeployment = (name: string, extra: { labels?: Record<string, string>; replicas?: number } = {}) =>
  ({
    apiVersion: API_VERSION,
    kind: 'ModelDeployment',
    metadata: { name, ...(extra.labels && { labels: extra.labels }) },
    spec: { model: { source: 'file:tiny' }, ...(extra.replicas !== undefined && { replicas: extra.replicas }) },
  }) as const satisfies Manifest

export const aNode = (name: string, labels: Record<string, string> = {}) =>
  ({ apiVersion: API_VERSION, kind: 'Node', metadata: { name, labels }, spec: {} }) as const satisfies Manifest

export const aShard = (nodeName: string, group = 'tiny-0', rank = 0) =>
  ({
    apiVersion: API_VERSION,
    kind: 'Shard',
    metadata: { name: shardName(group, 1, rank), namespace: 'default' },
    spec: {
      nodeName,
      deployment: 'tiny',
      group,
      epoch: 1,
      revision: 1,
      rank,
      worldSize: rank + 1,
      strategy: rank === 0 ? 'Single' : 'Tensor',
      transport: 'Ring',
      stage: [0, 4],
      split: [],
      engine: { name: 'fake', args: [] },
      model: { source: 'file:tiny', layers: 4, vocabSize: 1000 },
      serving: { servedName: 'tiny', contextTokens: 1024, concurrency: 1, maxOutputTokens: 256 },
      memoryBytes: 100,
      parts: { weights: 50, kv: 30, runtime: 20 },
      rendezvous: null,
    } satisfies Shard['spec'],
  }) as const satisfies Manifest

/** The code of a refused call, or 'ok'. */
export const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'ok',
    (error: unknown) => (error instanceof OpError ? error.code : String(error)),
  )

export const nameOf = (object: MctlObject): string => object.metadata.name

/** A watch that is read as it comes; `told()` is what it said so far, in short. */
export function watching(client: Client, request: WatchRequest) {
  const events: WatchEvent[] = []
  const control = new AbortController()
  const ended = (async () => {
    for await (const event of client.watch(request, { signal: control.signal })) events.push(event)
  })().catch((error: unknown) => error)
  return {
    events,
    ended,
    stop: () => control.abort(),
    async told(): Promise<readonly string[]> {
      await settle()
      return events.splice(0).map((e) => {
        if (e.type === 'HEADER') return e.type
        return e.type === 'BOOKMARK' ? (e.initialEventsEnd ? 'LISTED' : 'BOOKMARK') : `${e.type} ${nameOf(e.object)}`
      })
    },
  }
}

export const hello = (nodeName: string, extra: Partial<Extract<AgentMessage, { type: 'Hello' }>> = {}) =>
  ({
    type: 'Hello',
    nodeName,
    bootId: 'boot-1',
    agentVersion: '1.2.0',
    clusterUid: '',
    labels: {},
    ...extra,
  }) satisfies AgentMessage

/** An agent's session, driven by hand. */
export function session(client: Client, ...first: AgentMessage[]) {
  const up = new Pipe<AgentMessage>(1_000)
  const down: ServerMessage[] = []
  const control = new AbortController()
  let over = false
  for (const message of first) up.push(message)
  const ended = (async () => {
    for await (const message of client.nodeSession(up, { signal: control.signal })) down.push(message)
  })()
    .catch((error: unknown) => error as OpError)
    .finally(() => (over = true))
  return {
    down,
    ended,
    isOver: () => over,
    say: (message: AgentMessage) => void up.push(message),
    leave: () => up.end(),
    crash: () => control.abort(),
  }
}
