/** `Client` on top of a transport: what gRPC and memory have in common. */
import type { RequestOf, ReplyOf } from './codec.ts'
import { unaryNames } from './codec.ts'
import type {
  AgentMessage,
  CallOptions,
  Client,
  ListReply,
  ListRequest,
  LogChunk,
  LogsRequest,
  ServerMessage,
  Unary,
  WatchEvent,
  WatchRequest,
} from './messages.ts'

export interface Transport {
  unary<M extends Unary>(method: M, request: RequestOf<M>, options?: CallOptions): Promise<ReplyOf<M>>
  watch(request: WatchRequest, options?: CallOptions): AsyncIterable<WatchEvent>
  logs(request: LogsRequest, options?: CallOptions): AsyncIterable<LogChunk>
  nodeSession(messages: AsyncIterable<AgentMessage>, options?: CallOptions): AsyncIterable<ServerMessage>
  close(): void
}

/** A list without a limit is whole: the pages that the server makes of it are put together again. */
export function clientOn(transport: Transport): Client {
  const calls = Object.fromEntries(
    unaryNames.map((name) => [
      name,
      (request: RequestOf<Unary>, options?: CallOptions) => transport.unary(name, request, options),
    ]),
  ) as unknown as Pick<Client, Unary>
  return {
    ...calls,
    list: (request, options) => listPages(transport, request, options),
    watch: (request, options) => transport.watch(request, options),
    logs: (request, options) => transport.logs(request, options),
    nodeSession: (messages, options) => transport.nodeSession(messages, options),
    close: () => transport.close(),
  }
}

/** Later pages carry the revision of the first: a watch from it misses nothing. */
async function listPages(transport: Transport, request: ListRequest, options?: CallOptions): Promise<ListReply> {
  const first = await transport.unary('list', request, options)
  if (request.limit !== undefined || first.continueToken === undefined) return first
  const items = [...first.items]
  const rows = [...(first.rows ?? [])]
  for (let token: string | undefined = first.continueToken; token !== undefined;) {
    const page: ListReply = await transport.unary('list', { ...request, continueToken: token }, options)
    items.push(...page.items)
    rows.push(...(page.rows ?? []))
    token = page.continueToken
  }
  const { continueToken: _, ...whole } = first
  return { ...whole, items, ...(first.rows !== undefined && { rows }) }
}
