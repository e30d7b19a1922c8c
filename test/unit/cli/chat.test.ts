/** The talk with the gateway: a scripted gateway on loopback is the network that is faked. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { Cli } from '../../../src/cli/context.ts'
import { runCommand } from '../../../src/cli/program.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'

type Answer = (response: ServerResponse, body: Record<string, unknown>) => void

const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

async function gateway(...answers: readonly Answer[]) {
  const asked: Record<string, unknown>[] = []
  const server = createServer((request, response) => {
    void readBody(request).then((text) => {
      const body = JSON.parse(text) as Record<string, unknown>
      asked.push(body)
      answers[Math.min(asked.length, answers.length) - 1]?.(response, body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { asked, address: `127.0.0.1:${(server.address() as AddressInfo).port}` }
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

async function type(argv: readonly string[], lines: readonly string[] = [], signal = new AbortController().signal) {
  const said = { out: '', err: '' }
  const left = [...lines]
  const cli: Cli = {
    terminal: {
      out: (text) => void (said.out += text),
      err: (text) => void (said.err += text),
      isTty: false,
      readStdin: () => Promise.resolve(new Uint8Array()),
      question: () => Promise.resolve(left.shift()),
      edit: () => Promise.resolve(),
    },
    env: {},
    cwd: '/',
    clock: systemClock,
    random: systemRandom,
    signal,
    version: 'test',
    connect: () => {
      throw new Error('the server is not asked when a gateway is named')
    },
    starters: {} as Cli['starters'],
    machine: () => Promise.reject(new Error('chat asks nothing of the machine')),
  }
  return { code: await runCommand(cli, ['chat', ...argv]), ...said }
}

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const word = (content: string) => event({ choices: [{ delta: { content } }] })
const stream =
  (...events: readonly string[]): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (const text of events) response.write(text)
    response.end()
  }
const whole = (...words: readonly string[]) =>
  stream(...words.map(word), event({ choices: [], usage: { completion_tokens: words.length } }), 'data: [DONE]\n\n')
const refuse =
  (status: number, message: string, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(JSON.stringify({ error: { message, type: 'x' } }))
  }

test('an answer streams to stdout, and its tokens are told on stderr', async () => {
  const { address, asked } = await gateway(whole('Bon', 'jour', ' 🌍'))
  const flags = ['--system', 'Be brief.', '--max-tokens', '9', '--temperature', '0', '--gateway', address]
  const { code, out, err } = await type(['m', 'Hello', ...flags])
  expect({ code, out }).toEqual({ code: 0, out: 'Bonjour 🌍\n' })
  expect(err).toMatch(/^\(3 tokens, first after \d+\.\d\d s(, [\d.]+ tokens\/s)?\)\n$/)
  expect(asked[0]).toMatchObject({
    model: 'm',
    max_tokens: 9,
    temperature: 0,
    stream: true,
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ],
  })
})

test('a conversation remembers what was said, but not a question that failed', async () => {
  const { address, asked } = await gateway(whole('one'), refuse(503, 'no replica is ready'), whole('two'))
  const { code, out, err } = await type(['m', '--gateway', address], ['first', '', 'second', 'third'])
  expect({ code, out }).toEqual({ code: 0, out: 'one\ntwo\n' })
  expect(err).toContain('error: the gateway answered 503: no replica is ready')
  expect(asked[2]?.['messages']).toEqual([
    { role: 'user', content: 'first' },
    { role: 'assistant', content: 'one' },
    { role: 'user', content: 'third' },
  ])
})

test('a refusal says what, and what to do next', async () => {
  const { address } = await gateway(refuse(404, 'the model "m" does not exist'))
  expect(await type(['m', 'Hello', '--gateway', address])).toEqual({
    code: 1,
    out: '',
    err:
      'error: the gateway answered 404: the model "m" does not exist\n' +
      '`mctl get md -o wide` shows under SERVED-NAME what there is to talk with.\n',
  })
  const busy = await gateway(refuse(503, 'not ready', { 'retry-after': '2' }))
  expect((await type(['m', 'Hello', '--gateway', busy.address])).err).toContain(
    '503: not ready (try again in 2 s)\n`mctl get md` shows what is ready',
  )
})

test('an answer that breaks off is an error, whatever came before', async () => {
  const failing = await gateway(stream(word('Bon'), event({ error: { message: 'rank 1 died' } })))
  const failed = await type(['m', 'Hello', '--gateway', failing.address])
  expect(failed).toEqual({ code: 1, out: 'Bon\n', err: 'error: the answer broke off: rank 1 died; ask again\n' })

  const ending = await gateway(stream(word('Bon')))
  const ended = await type(['m', 'Hello', '--gateway', ending.address])
  expect(ended).toMatchObject({ code: 1, out: 'Bon\n' })
  expect(ended.err).toContain('the connection ended before the answer did')

  const cutting = await gateway((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(word('Bon'), () => response.destroy())
  })
  const cut = await type(['m', 'Hello', '--gateway', cutting.address])
  expect(cut).toMatchObject({ code: 1, out: 'Bon\n' })
  expect(cut.err).toContain('error: the answer broke off')

  const lying = await gateway(stream('data: {"choi\n\n'))
  expect((await type(['m', 'Hello', '--gateway', lying.address])).err).toContain('the gateway sent what is no JSON')
})

test('no gateway at the address', async () => {
  const { address } = await gateway()
  for (const close of closers.splice(0)) close()
  expect(await type(['m', 'Hello', '--gateway', address])).toEqual({
    code: 1,
    out: '',
    err:
      `error: Unable to connect to the gateway: http://${address}: connection refused\n` +
      'Is it running there? `mctl dev` and `mctl server` start one; --gateway names another address.\n',
  })
  expect((await type(['m', 'Hello', '--gateway', 'http://'])).err).toContain('--gateway "http://" is no address')
})

test('Ctrl-C ends an answer without a word and with 130', async () => {
  const control = new AbortController()
  const { address } = await gateway((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(word('Bon'), () => setTimeout(() => control.abort(), 20))
  })
  expect(await type(['m', 'Hello', '--gateway', address], [], control.signal)).toEqual({
    code: 130,
    out: 'Bon\n',
    err: '',
  })
})
