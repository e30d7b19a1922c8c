/** The door of `mctl server --metrics`: `/metrics` for Prometheus, and `/healthz` for whoever watches over processes. */
import { createServer } from 'node:http'
import { messageOf } from '../lib/errors.ts'
import type { HttpDoor } from '../lib/httplisten.ts'
import { listenHttp, sayHttp } from '../lib/httplisten.ts'
import type { Logger } from '../lib/log.ts'

/** `texts` are told one after the other, each in the text format of Prometheus. `listen` is `host:port`. */
export function openMetricsDoor(
  texts: readonly (() => Promise<string>)[],
  listen: string,
  log: Logger,
): Promise<HttpDoor> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    if (request.method !== 'GET') return sayHttp(response, 405, 'there is only GET')
    if (pathname === '/healthz') return sayHttp(response, 200, 'ok')
    if (pathname !== '/metrics') return sayHttp(response, 404, 'there is GET /metrics, and GET /healthz')
    Promise.all(texts.map((text) => text())).then(
      (told) => sayHttp(response, 200, told.join('\n'), 'text/plain; version=0.0.4; charset=utf-8'),
      (error: unknown) => {
        log.warn('metrics failed', { error: messageOf(error) })
        sayHttp(response, 500, 'the metrics cannot be read; the log of the server says why')
      },
    )
  })
  return listenHttp(server, listen)
}
