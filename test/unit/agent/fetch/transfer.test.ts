/** Bytes from a socket onto disk, in this thread and in one of their own; and answers that no good server gives. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createServer as createTlsServer } from 'node:https'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { localTransfers } from '../../../../agent/fetch/transfer/local.ts'
import { threadedTransfers } from '../../../../agent/fetch/transfer/threads.ts'
import type { Head, PartFile, ReceiveOptions, Transfers } from '../../../../agent/fetch/transfer/transfers.ts'
import { certificateProblem } from '../../../../src/lib/certificates.ts'
import { sleep, systemClock } from '../../../../src/lib/clock.ts'
import { ownTls } from '../../../support/hub.ts'

const CONTENT = Buffer.alloc(300_000, 'content of a file')
const sha = createHash('sha256').update(CONTENT).digest('hex')
const never = new AbortController().signal

let dir: string
let server: Server
let answer: (socket: Socket) => void
let asked: string

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mctl-transfer-'))
  asked = ''
  server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      asked += data.toString()
      if (asked.endsWith('\r\n\r\n')) answer(socket)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve))
  await rm(dir, { recursive: true })
})

const path = () => join(dir, 'file.part')
const open = (transfers: Transfers, sizeBytes = CONTENT.length) => transfers.open({ path: path(), sizeBytes }, never)
function receive(part: PartFile, options: Partial<ReceiveOptions> = {}, authorization?: string): Promise<void> {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a?b`
  const secret = authorization === undefined ? {} : { authorization }
  return part.receive({
    request: { url, headers: { range: 'bytes=7-' }, ...secret, redirects: 2, connectMsMax: 5_000 },
    judge: () => 'Append',
    onBytes: () => {},
    signal: never,
    ...options,
  })
}
const say = (head: string, body: string | Buffer = '') => {
  answer = (socket) => {
    socket.write(head.replaceAll('\n', '\r\n') + '\r\n\r\n')
    socket.end(body)
  }
}

const threaded = threadedTransfers({ clock: systemClock, threadsMax: 2 })
afterAll(() => threaded.close())

describe.each([
  ['in this thread', localTransfers(systemClock)],
  ['in a thread of its own', threaded],
])('%s', (_, transfers) => {
  test('the body comes into the part, with the head judged before', async () => {
    say(`HTTP/1.1 206 Partial\nContent-Length: ${CONTENT.length}\nETag: "e"`, CONTENT)
    const part = await open(transfers)
    let told = -1
    const heads: Head[] = []
    await receive(
      part,
      {
        judge: (head) => (heads.push(head), 'Append'),
        onBytes: (bytes) => (told = bytes),
      },
      'Bearer t',
    )
    expect(heads).toEqual([{ status: 206, headers: { 'content-length': `${CONTENT.length}`, etag: '"e"' } }])
    expect([part.bytes, told, await part.sha256()]).toEqual([CONTENT.length, CONTENT.length, sha])
    await part.close()
    expect(readFileSync(path()).equals(CONTENT)).toBe(true)
    expect(asked).toMatch(/^GET \/a\?b HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n/)
    expect(asked).toContain('\r\nrange: bytes=7-\r\nauthorization: Bearer t\r\n')
  })

  test('what is on disk counts, and is forgotten where the body is the file from its first byte on', async () => {
    writeFileSync(path(), CONTENT.subarray(0, 100_000))
    const part = await open(transfers)
    expect(part.bytes).toBe(100_000)
    say(`HTTP/1.1 206 Partial\nContent-Length: 100000`, CONTENT.subarray(100_000, 200_000))
    await receive(part)
    expect(part.bytes).toBe(200_000)
    say(`HTTP/1.1 200 OK\nContent-Length: ${CONTENT.length}`, CONTENT)
    await receive(part, { judge: () => 'Restart' })
    expect(await part.sha256()).toBe(sha)
    await part.restart()
    expect(part.bytes).toBe(0)
    await part.close()
    expect(readFileSync(path()).length).toBe(0)
  })

  test('a refused head is the error of the request, and costs nothing', async () => {
    say(`HTTP/1.1 500 No\nContent-Length: ${CONTENT.length}`, CONTENT)
    const part = await open(transfers)
    const refusal = new Error('not this one')
    const judge = () => {
      throw refusal
    }
    await expect(receive(part, { judge })).rejects.toBe(refusal)
    expect(part.bytes).toBe(0)
    await part.close()
  })

  test('stopping ends it at once with the reason; what has come stays', async () => {
    answer = (socket) => void socket.write(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), CONTENT]))
    const part = await open(transfers, 2 * CONTENT.length)
    const control = new AbortController()
    const onBytes = (bytes: number) => bytes === CONTENT.length && control.abort(new Error('enough of it'))
    await expect(receive(part, { onBytes, signal: control.signal })).rejects.toThrow('enough of it')
    expect(part.bytes).toBe(CONTENT.length)
    await part.close()
  })

  test('over TLS: from a server that shows a certificate of an authority that is trusted, and from no other', async () => {
    const tls = await ownTls()
    const secure = createTlsServer(tls, (_, response) => response.end(CONTENT))
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
    const request = {
      url: `https://127.0.0.1:${(secure.address() as AddressInfo).port}/`,
      headers: {},
      redirects: 0,
      connectMsMax: 5_000,
    }
    const part = await open(transfers)
    const untrusted = await receive(part, { request }).then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(certificateProblem(untrusted)).toMatch(/^its certificate is signed by an authority.*NODE_EXTRA_CA_CERTS/)
    expect(part.bytes).toBe(0)
    const trusting = { ...request, identity: { ca: tls.authorityPem } }
    await receive(part, { request: trusting })
    expect(await part.sha256()).toBe(sha)
    await part.close()
    secure.closeAllConnections()
    await new Promise((resolve) => secure.close(resolve))
  })

  test('a part that cannot be written says with which code', async () => {
    await expect(transfers.open({ path: join(dir, 'none', 'x.part'), sizeBytes: 1 }, never)).rejects.toMatchObject({
      code: 'ENOENT',
    })
  })
})

describe('an answer', () => {
  const transfers = localTransfers(systemClock)
  async function received(): Promise<number> {
    const part = await open(transfers)
    try {
      await receive(part)
      return part.bytes
    } finally {
      await part.close()
    }
  }

  test('in chunks, after an interim one, and of which the head comes byte by byte, is understood', async () => {
    const head = 'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
    const dribble = async (socket: Socket) => {
      for (const byte of head) {
        socket.write(byte)
        await sleep(systemClock, 0)
      }
      socket.write('5\r\nhello\r\n')
      socket.end('6;x=y\r\n world\r\n0\r\n\r\n')
    }
    answer = (socket) => void dribble(socket)
    expect(await received()).toBe(11)
    expect(readFileSync(path(), 'utf8')).toBe('hello world')
  })

  test('without a length ends with its connection', async () => {
    say('HTTP/1.0 200 OK', CONTENT.subarray(0, 1000))
    expect(await received()).toBe(1000)
  })

  test('of no body is one', async () => {
    say('HTTP/1.1 416 No\nContent-Length: 0')
    expect(await received()).toBe(0)
  })

  test.each([
    ['that is none', 'SSH-2.0-OpenSSH', '', 'Parse Error'],
    ['that never comes', '', '', 'closed without an answer'],
    ['cut in its body', 'HTTP/1.1 200 OK\nContent-Length: 9', 'four', 'closed in mid-answer'],
    ['cut in a chunk', 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked', '9\r\nfour', 'closed in mid-answer'],
    ['of negative length', 'HTTP/1.1 200 OK\nContent-Length: -9', 'nine', 'content-length is no number'],
    [
      'with a negative chunk',
      'HTTP/1.1 200 OK\nTransfer-Encoding: chunked',
      '5\r\nhello\r\n-6\r\nx',
      'chunk of its body has no',
    ],
    ['with an endless head', `HTTP/1.1 200 OK\nX: ${'y'.repeat(5_000_000)}`, '', 'max header size'],
    ['that redirects to itself', 'HTTP/1.1 302 Found\nLocation: /a', '', 'redirects without end'],
    ['that redirects to no web', 'HTTP/1.1 302 Found\nLocation: file:///etc/passwd', '', 'or to no address'],
  ])('%s is an error', async (_, head, body, message) => {
    say(head, body)
    if (head === '') answer = (socket) => void socket.end()
    asked = ''
    await expect(received()).rejects.toThrow(message)
  })

  test('elsewhere is asked for without what is for its own server alone', async () => {
    let elsewhere = ''
    const other = createServer((socket) => {
      socket.on('data', (data) => {
        elsewhere += data.toString()
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      })
    })
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    say(`HTTP/1.1 302 Found\nLocation: http://localhost:${(other.address() as AddressInfo).port}/cdn`)
    const part = await open(transfers)
    await receive(part, {}, 'Bearer secret')
    await part.close()
    await new Promise((resolve) => other.close(resolve))
    expect(asked).toContain('Bearer secret')
    expect(elsewhere).toMatch(/^GET \/cdn HTTP/)
    expect(elsewhere).not.toContain('secret')
  })
})
