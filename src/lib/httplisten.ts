/** What small HTTP doors share: listening on `host:port`, and plain answers. */
import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { joinHostPort, splitHostPort } from './hostport.ts'

export interface HttpDoor {
  /** `host:port` as bound. */
  readonly address: string
  /** Resolves when nothing is open any more; calls under way are cut. */
  stop(): Promise<void>
}

const REQUEST_TIMEOUT_MS = 10_000

/**
 * `listen` is `host:port`, port 0 any free one. Who takes longer than ten seconds to ask is cut off. Rejects with Node's
 * error when it cannot be listened on.
 */
export function listenHttp(server: Server, listen: string): Promise<HttpDoor> {
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.headersTimeout = REQUEST_TIMEOUT_MS
  const { host, port } = splitHostPort(listen)
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      const bound = server.address() as AddressInfo
      resolve({
        address: joinHostPort(bound.address, bound.port),
        stop: () =>
          new Promise((done) => {
            server.close(() => done())
            server.closeAllConnections()
          }),
      })
    })
  })
}

/** One line of text, and the connection ends. */
export function sayHttp(
  response: ServerResponse,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, connection: 'close' })
  response.end(text.endsWith('\n') ? text : `${text}\n`)
}
