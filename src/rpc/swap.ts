/** A client whose connection can be changed for another: calls under way on the old one end, new ones take the new one. */
import { clientOn } from './client.ts'
import type { Transport } from './client.ts'
import type { Client, Unary } from './messages.ts'

export interface SwappableClient extends Client {
  /** Closes the connection so far. */
  swap(next: Client): void
}

export function swappable(first: Client): SwappableClient {
  let current = first
  const transport: Transport = {
    unary: (name: Unary, request: never, options) => current[name](request, options) as never,
    watch: (request, options) => current.watch(request, options),
    logs: (request, options) => current.logs(request, options),
    nodeSession: (messages, options) => current.nodeSession(messages, options),
    close: () => current.close(),
  }
  return {
    ...clientOn(transport),
    swap(next) {
      const old = current
      current = next
      old.close()
    },
  }
}
