/** A server of the mind for agent tests: one Node, its shards, and a tap on what the agent says. Behind `memoryClient`. */
import type { Shard } from '../../src/api/shard.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { AgentMessage, CallContext, Handlers, ServerMessage, WatchEvent } from '../../src/rpc/messages.ts'
import { CLUSTER } from './agentworld.ts'
import { echoHandlers } from './echohandlers.ts'

type Push<T> = (item: T) => void

/** Items pushed from outside, until the call's signal aborts. */
async function* stream<T>(signal: AbortSignal, begin: (push: Push<T>) => () => void): AsyncGenerator<T> {
  const queue: T[] = []
  let wake = () => {}
  const end = begin((item) => {
    queue.push(item)
    wake()
  })
  const abort = () => wake()
  signal.addEventListener('abort', abort)
  try {
    while (!signal.aborted) {
      const next = queue.shift()
      if (next !== undefined) yield next
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  } finally {
    end()
  }
}

export class ScriptedServer {
  readonly messages: AgentMessage[] = []
  /** Every accepted write, in order. */
  readonly writes: { uid: string; patch: Record<string, unknown> }[] = []
  readonly watchRequests: { resourceVersion: string | undefined }[] = []
  readonly shards = new Map<string, Shard>()
  clusterUid = CLUSTER
  nowMs: () => number = () => 0
  /** Set to refuse sessions. */
  refusal: OpError | undefined
  /** Set to hold watches before their bookmark. */
  holdBookmark = false
  /** Set to fail writes with this. */
  writeError: OpError | undefined
  /** Set to refuse some writes. */
  refuses: (patch: object) => OpError | undefined = () => undefined
  #revision = 10
  #watchers = new Set<Push<WatchEvent>>()
  #sessions = new Set<{ push: Push<ServerMessage>; fail: (error: OpError) => void }>()

  readonly handlers: Handlers = echoHandlers({
    nodeSession: (messages, context) => this.#session(messages, context),
    watch: (request, { signal }) => {
      this.watchRequests.push({ resourceVersion: request.resourceVersion })
      return stream<WatchEvent>(signal, (push) => this.#watch(push, request.resourceVersion))
    },
    updateStatus: ({ uid, patch }) => {
      const error = this.writeError ?? this.refuses(patch)
      if (error !== undefined) return Promise.reject(error)
      if (uid !== 'node-uid' && !this.shards.has(uid))
        return Promise.reject(new OpError('NotFound', `nothing has uid ${uid}`))
      this.writes.push({ uid, patch: patch as Record<string, unknown> })
      const shard = this.shards.get(uid)
      const object = shard ?? { ...node, status: patch }
      if (shard === undefined) return Promise.resolve({ object, result: 'configured' })
      const status = Object.fromEntries(Object.entries({ ...shard.status, ...patch }).filter(([, v]) => v !== null))
      return Promise.resolve({
        object: this.put({ ...shard, status: status as Shard['status'] & object }),
        result: 'configured',
      })
    },
  })

  put(shard: Shard): Shard {
    const resourceVersion = String(++this.#revision)
    const object = { ...shard, metadata: { ...shard.metadata, resourceVersion } }
    const type = this.shards.has(shard.metadata.uid) ? 'MODIFIED' : 'ADDED'
    this.shards.set(shard.metadata.uid, object)
    for (const push of this.#watchers) push({ type, object, resourceVersion })
    return object
  }

  remove(uid: string): void {
    const object = this.shards.get(uid)
    if (object === undefined) return
    this.shards.delete(uid)
    const resourceVersion = String(++this.#revision)
    for (const push of this.#watchers) push({ type: 'DELETED', object, resourceVersion })
  }

  tell(message: ServerMessage): void {
    for (const session of this.#sessions) session.push(message)
  }

  sentOf<T extends AgentMessage['type']>(type: T): Extract<AgentMessage, { type: T }>[] {
    return this.messages.filter((m): m is Extract<AgentMessage, { type: T }> => m.type === type)
  }

  phasesOf(uid: string): unknown[] {
    return this.writes.filter((w) => w.uid === uid && w.patch['phase'] !== undefined).map((w) => w.patch['phase'])
  }

  #watch(push: Push<WatchEvent>, from: string | undefined): () => void {
    push({ type: 'HEADER', incarnation: 'inc', clusterUid: this.clusterUid })
    if (from === undefined) {
      for (const object of this.shards.values())
        push({ type: 'ADDED', object, resourceVersion: object.metadata.resourceVersion })
      if (!this.holdBookmark)
        push({ type: 'BOOKMARK', resourceVersion: String(this.#revision), initialEventsEnd: true })
    }
    this.#watchers.add(push)
    return () => this.#watchers.delete(push)
  }

  async *#session(messages: AsyncIterable<AgentMessage>, { signal }: CallContext): AsyncGenerator<ServerMessage> {
    if (this.refusal !== undefined) throw this.refusal
    void (async () => {
      for await (const message of messages) this.messages.push(message)
    })().catch(() => {})
    const serverTimeMs = this.nowMs()
    yield {
      type: 'Welcome',
      nodeUid: 'node-uid',
      clusterUid: this.clusterUid,
      incarnation: 'inc',
      serverTimeMs,
      heartbeatMs: 5000,
    }
    yield* stream<ServerMessage>(signal, (push) => {
      const session = { push, fail: () => {} }
      this.#sessions.add(session)
      return () => this.#sessions.delete(session)
    })
  }
}

const node = {
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Node',
  metadata: {
    name: 'mini-1',
    uid: 'node-uid',
    resourceVersion: '1',
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
}
