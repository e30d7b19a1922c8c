/** A hub of one repository over real HTTP that sends what a test lets it: faults come one per request, in order. */
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ModelFile } from '../../src/api/model.ts'
import type { WantedModel } from '../../agent/fetch/needed.ts'

export const COMMIT = '0123456789abcdef0123456789abcdef01234567'

export interface Asked {
  readonly file: string
  readonly from: number
  sentBytes: number
  readonly authorization: string | undefined
  readonly ifRange?: string | undefined
}

/** What becomes of one request; `send` writes bytes of the file from the asked one on. */
export type Fault = (response: ServerResponse, send: (bytes?: number) => Buffer, from: number) => void

export const faults = {
  status:
    (status: number, headers: Record<string, string> = {}): Fault =>
    (response) =>
      void response.writeHead(status, headers).end(),
  cutAfter:
    (bytes: number): Fault =>
    (response, send, from) => {
      const whole = send()
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': whole.length,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${from + whole.length - 1}/${from + whole.length}` } : {}),
      })
      response.write(send(bytes), () => response.socket?.end())
    },
  /** Says that the file ends here, in good order. */
  shortAfter:
    (bytes: number): Fault =>
    (response, send) =>
      void response.writeHead(200, { 'content-length': bytes }).end(send(bytes)),
  stallAfter:
    (bytes: number): Fault =>
    (response, send) => {
      response.writeHead(200, { 'content-length': send().length })
      response.write(send(bytes))
    },
  corrupt: ((response, send) => {
    const body = Buffer.from(send())
    body[body.length - 1] = (body[body.length - 1] ?? 0) ^ 1
    response.writeHead(200, { 'content-length': body.length }).end(body)
  }) as Fault,
  /** So many bytes at a time, with a pause before each. */
  slow:
    (bytes: number, pauseMs: number): Fault =>
    (response, send, from) => {
      const body = send()
      const last = from + body.length - 1
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': body.length,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${last}/${last + 1}` } : {}),
      })
      let sent = 0
      const timer = setInterval(() => {
        const chunk = body.subarray(sent, sent + bytes)
        sent += chunk.length
        if (sent < body.length) return void response.write(chunk)
        clearInterval(timer)
        response.end(chunk)
      }, pauseMs)
      response.on('close', () => clearInterval(timer))
    },
  tooLong: ((response, send) => {
    const body = Buffer.concat([send(), Buffer.from('and more')])
    response.writeHead(200, { 'content-length': body.length }).end(body)
  }) as Fault,
}

export class FileHub {
  readonly asked: Asked[] = []
  readonly faults = new Map<string, Fault[]>()
  readonly files = new Map<string, Buffer>()
  /** ETag of every file. */
  etag: string | undefined
  /** Serves no ranges at all. */
  rangeless = false
  readonly #server: Server

  constructor(files: Readonly<Record<string, string | Buffer>>) {
    for (const [name, content] of Object.entries(files)) this.files.set(name, Buffer.from(content))
    this.#server = createServer((request, response) => this.#serve(request, response))
  }

  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  model(stage?: readonly [number, number]): WantedModel {
    return {
      source: 'hf://demo/tiny',
      commit: COMMIT,
      digest: 'sha256:d',
      files: this.list(),
      stage,
    }
  }

  list(): readonly ModelFile[] {
    return [...this.files].map(([name, content]) => ({
      name,
      sizeBytes: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
    }))
  }

  /** Bytes of the file that were sent, over all requests. */
  sentBytes(file: string): number {
    return this.asked.filter((a) => a.file === file).reduce((sum, a) => sum + a.sentBytes, 0)
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://hub')
    const prefix = `/demo/tiny/resolve/${COMMIT}/`
    // As the hub does: weights are elsewhere.
    if (url.pathname.startsWith(prefix) && url.pathname.endsWith('.safetensors')) {
      response.writeHead(302, { location: `/cdn/${url.pathname.slice(prefix.length)}` }).end()
      return
    }
    const file = decodeURIComponent(url.pathname.replace(/^\/cdn\//, '').replace(prefix, ''))
    const content = this.files.get(file)
    if (content === undefined) return void response.writeHead(404).end()
    const from = this.rangeless ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const { authorization } = request.headers
    const ifRange = request.headers['if-range']?.toString()
    const asked: Asked = { file, from, sentBytes: 0, authorization, ...(ifRange === undefined ? {} : { ifRange }) }
    this.asked.push(asked)
    const send = (bytes?: number) => {
      const body = content.subarray(from, bytes === undefined ? undefined : from + bytes)
      asked.sentBytes = body.length
      return body
    }
    const fault = this.faults.get(file)?.shift()
    if (fault !== undefined) return fault(response, send, from)
    const body = send()
    if (this.etag !== undefined) response.setHeader('etag', this.etag)
    const range = `bytes ${from}-${content.length - 1}/${content.length}`
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': body.length,
      ...(from > 0 ? { 'content-range': range } : {}),
    })
    response.end(body)
  }
}
