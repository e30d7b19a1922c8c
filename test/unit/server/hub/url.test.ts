/** One GGUF file on any server, over real sockets: read by its header, known by its content. */
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock, systemRandom } from '../../../../src/lib/clock.ts'
import { messageOf } from '../../../../src/lib/errors.ts'
import { createHub } from '../../../../src/server/hub/hub.ts'
import { F16, ggufFile } from '../../api/modelfiles/gguffile.ts'

const metadata = {
  'general.architecture': 'llama',
  'llama.block_count': 1,
  'llama.embedding_length': 32,
  'llama.attention.head_count': 2,
  'llama.vocab_size': 4,
}
const tensors = {
  'token_embd.weight': [F16, 32, 4],
  'blk.0.attn_q.weight': [F16, 32, 32],
  'blk.0.attn_k.weight': [F16, 32, 32],
} as const
const made = ggufFile(metadata, tensors)
const gguf = Buffer.concat([made.bytes, Buffer.alloc(made.sizeBytes - made.bytes.length)])
const sha256 = createHash('sha256').update(gguf).digest('hex')

let server: Server
let origin: string
let headers: Record<string, string>
let status: number
let body: Buffer
const asked: IncomingMessage[] = []

beforeEach(async () => {
  headers = { etag: '"v1"' }
  status = 206
  body = gguf
  asked.length = 0
  server = createServer((request, response) => {
    asked.push(request)
    if (status !== 206) return void response.writeHead(status).end()
    const [, start = '0', end = ''] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    const part = body.subarray(Number(start), Number(end) + 1)
    const range = `bytes ${start}-${Number(start) + part.length - 1}/${body.length}`
    response.writeHead(206, { ...headers, 'content-range': range, 'content-length': part.length }).end(part)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))

const read = (given?: string, path = '/models/tiny%20Q4.gguf?sig=secret') =>
  createHub({
    endpoint: 'http://127.0.0.1:9',
    token: 'hf_secret',
    clock: systemClock,
    random: systemRandom,
    stallMs: 500,
    attempts: 2,
    firstBackoffMs: 5,
  }).readFile(`${origin}${path}`, given, new AbortController().signal)
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error: unknown) => messageOf(error),
  )

test('its shape is read by range; without a sha256 the server’s ETag stands for the content', async () => {
  const model = await read()
  expect(model.shape).toMatchObject({ format: 'Gguf', architecture: 'llama', layers: 1 })
  expect(model.files).toEqual([{ name: 'tiny_Q4.gguf', sizeBytes: gguf.length, etag: '"v1"' }])
  expect(model.resolvedRevision).toMatch(/^[0-9a-f]{40}$/)
  expect(asked.every(({ headers }) => headers.range !== undefined && headers.authorization === undefined)).toBe(true)
  headers = { etag: '"v2"' }
  const later = await read()
  expect([later.digest === model.digest, later.resolvedRevision === model.resolvedRevision]).toEqual([false, false])
})

test.each([
  [
    'a weak ETag counts for nothing',
    { etag: 'W/"x"', 'last-modified': 'Mon, 05 Jan 2026 10:00:00 GMT' },
    'Mon, 05 Jan 2026 10:00:00 GMT',
  ],
  ['a server that says nothing', {}, ''],
])('%s', async (_, told, etag) => {
  headers = told
  expect((await read()).files).toMatchObject([{ etag }])
})

test('a sha256 that the source gives, or the hub tells, is what every node must get', async () => {
  expect((await read(sha256)).files).toEqual([{ name: 'tiny_Q4.gguf', sizeBytes: gguf.length, sha256 }])
  headers = { 'x-linked-etag': `"${sha256}"` }
  expect((await read()).files).toMatchObject([{ sha256 }])
  expect(await failure(read('0'.repeat(64)))).toContain(`expected sha256 ${'0'.repeat(64)}, the server says ${sha256}`)
})

test.each([
  [404, 'there is no such file (404)'],
  [403, 'the server refuses it (403)'],
  [503, 'it answers 503'],
])('a server that answers %i: told, without the query of the address', async (answer, text) => {
  status = answer
  const told = await failure(read())
  expect(told).toContain(text)
  expect(told).toContain('/models/tiny')
  expect(told).not.toContain('secret')
})

test('what is no GGUF is refused with file and cause', async () => {
  body = Buffer.from('<html>not found</html>'.repeat(40))
  expect(await failure(read())).toContain('tiny_Q4.gguf')
})
