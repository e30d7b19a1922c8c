/** Logs: a shard's engine log, fetched from its node over the session that the agent opened. */
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import type { Clock } from '../lib/clock.ts'
import { sleep } from '../lib/clock.ts'
import { OpError, isOpError } from '../lib/errors.ts'
import type { Handlers, LogChunk, LogsRequest } from '../rpc/messages.ts'
import { notFound } from '../store/refusals.ts'
import { checkPerson } from './trust/access.ts'
import type { ServerDoors } from './handlers.ts'
import type { LogOrder, Sessions } from './sessions.ts'

/** How long one agent may take to say whether it still has the log of a shard that is gone. */
const SEARCH_MS = 5_000

export function logCalls({ store, sessions, clock }: ServerDoors): Pick<Handlers, 'logs'> {
  return {
    async *logs(request, { identity, signal }) {
      checkPerson(identity, 'read logs')
      const namespace = request.namespace || DEFAULT_NAMESPACE
      const shard = store.snapshot().get('Shard', namespace, request.shard)
      const order = orderOf(request, namespace, shard?.metadata.uid ?? '')
      if (shard === undefined) return yield* searched(sessions, order, clock, signal)
      const { nodeName } = shard.spec
      yield* readOut(fetched(sessions, nodeName, order, signal) ?? unreachableNode(nodeName, sessions, clock))
    },
  }
}

function orderOf(request: LogsRequest, namespace: string, shardUid: string): LogOrder {
  const { shard, follow = false, previous = false, tail, sinceTimeMs, sinceAgoMs, timestamps } = request
  if (tail !== undefined && tail < 0) throw new OpError('Invalid', `tail: Invalid value: ${tail}: must not be negative`)
  return {
    shardUid,
    namespace,
    shardName: shard,
    follow,
    previous,
    ...(tail !== undefined && { tail }),
    ...(sinceTimeMs !== undefined && { sinceTimeMs }),
    ...(sinceAgoMs !== undefined && { sinceAgoMs }),
    ...(timestamps !== undefined && { timestamps }),
  }
}

interface Fetching {
  readonly log: AsyncIterator<LogChunk>
  /** Ends the log and tells the agent; the end comes by itself when the log was read to it. */
  stop(): void
}

/** The log from one node; undefined when its agent is not in session. */
function fetched(sessions: Sessions, node: string, order: LogOrder, signal: AbortSignal): Fetching | undefined {
  const request = sessions.requestLog(node, order)
  if (request === undefined) return undefined
  const { relay } = request
  const stop = () => {
    signal.removeEventListener('abort', stop)
    relay.end()
    request.stop()
  }
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  return { log: relay.read(), stop }
}

async function* readOut({ log, stop }: Fetching): AsyncIterable<LogChunk> {
  try {
    yield* { [Symbol.asyncIterator]: () => log }
  } finally {
    stop()
  }
}

/** The shard is gone, but an agent keeps the logs of the last epochs by name: the first that has it answers. */
async function* searched(
  sessions: Sessions,
  order: LogOrder,
  clock: Clock,
  signal: AbortSignal,
): AsyncIterable<LogChunk> {
  const once = { ...order, follow: false }
  for (const node of sessions.connected()) {
    const fetching = fetched(sessions, node, once, signal)
    if (fetching === undefined) continue
    const first = await firstWithin(fetching, clock)
    if (first === undefined) continue
    if (first.done !== true) yield first.value
    yield* readOut(fetching)
    return
  }
  const key = { kind: 'Shard', namespace: order.namespace, name: order.shardName }
  throw new OpError('NotFound', `${notFound(key).message}, and no connected agent keeps a log of that name`)
}

/** undefined: this agent does not have it, or does not say so in time. */
async function firstWithin(
  { log, stop }: Fetching,
  clock: Clock,
): Promise<IteratorResult<LogChunk, unknown> | undefined> {
  const waited = new AbortController()
  const late = sleep(clock, SEARCH_MS, waited.signal).then(() => undefined)
  try {
    const first = await Promise.race([log.next(), late])
    if (first === undefined) stop()
    return first
  } catch (error) {
    stop()
    if (isOpError(error, 'NotFound') || isOpError(error, 'Unavailable')) return undefined
    throw error
  } finally {
    waited.abort()
  }
}

function unreachableNode(node: string, sessions: Sessions, clock: Clock): never {
  const seenMs = sessions.lastSeenMs(node)
  const seen =
    seenMs === undefined
      ? 'not heard of since this server started'
      : `last heard ${Math.round((clock.monotonicMs() - seenMs) / 1000)} s ago`
  throw new OpError(
    'Unavailable',
    `the log is on node "${node}", whose agent is not connected (${seen}): try again when it is`,
  )
}
