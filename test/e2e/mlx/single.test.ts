/** One rank on its own: it answers, refuses, cancels and stops. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  ask,
  beat,
  complete,
  endOf,
  greedyIds,
  startSingle,
  startStream,
  stopAll,
  tinyModel,
} from '../../support/mlx.ts'
import type { Rank } from '../../support/mlx.ts'

let rank: Rank

beforeAll(async () => {
  rank = await startSingle({ model: tinyModel('llama', 4), contextTokens: 2048, maxOutputTokens: 2000, concurrency: 2 })
})
afterAll(stopAll)

const hello = { prompt: 'hello', max_tokens: 4 }

/** One of each kind that ends or wedges a bare mlx_lm.server; guard.test.ts has the whole table. */
const poison: [string, string, unknown][] = [
  ['a list of prompts', '/v1/completions', { ...hello, prompt: ['a', 'b'] }],
  ['an empty prompt', '/v1/completions', { ...hello, prompt: '' }],
  ['a stop that is no text', '/v1/completions', { ...hello, stop: [5] }],
  ['top_k above the vocabulary', '/v1/completions', { ...hello, top_k: 1000, temperature: 1 }],
  ['a bias that segfaults', '/v1/completions', { ...hello, logit_bias: { 100000: 1 } }],
  ['a seed beyond 64 bits', '/v1/completions', { ...hello, seed: 2 ** 70 }],
  ['empty stream_options', '/v1/completions', { ...hello, stream: true, stream_options: {} }],
  [
    'a template argument for the tokenizer',
    '/v1/chat/completions',
    { messages: [{ role: 'user', content: 'a' }], chat_template_kwargs: { return_dict: true } },
  ],
  [
    'arguments of a tool call that are no JSON',
    '/v1/chat/completions',
    { messages: [{ role: 'user', content: 'a', tool_calls: [{ function: { arguments: '{' } }] }] },
  ],
  ['no JSON', '/v1/completions', '{"prompt":'],
  ['JSON that is no object', '/v1/completions', '[]'],
]

test('it reports its way to readiness and what it holds', () => {
  expect(rank.events.filter(({ ev }) => ev !== 'hb').map(({ ev }) => ev)).toEqual([
    'start',
    'joined',
    'loading',
    'loaded',
    'ready',
  ])
  const loaded = rank.events.find(({ ev }) => ev === 'loaded')
  // 4 layers, 2 (keys and values) of 4 heads of 16 numbers of 4 bytes.
  expect(loaded).toMatchObject({ layers: [0, 4], files: 3, kvBytesPerToken: 4 * 2 * 4 * 16 * 4, concurrency: 2 })
})

test('it answers under the served name, to it, to default_model and without a name', async () => {
  for (const model of ['tiny', 'default_model', undefined]) {
    const { model: named, choices, usage } = await complete(rank, { ...hello, model })
    expect([named, choices[0]?.finish_reason, usage]).toEqual([
      'tiny',
      'length',
      expect.objectContaining({ prompt_tokens: 5, completion_tokens: 4 }),
    ])
  }
  expect((await ask(rank, '/v1/models')).json).toMatchObject({
    object: 'list',
    data: [{ id: 'tiny', object: 'model' }],
  })
  expect((await ask(rank, '/health')).status).toBe(200)
})

test('another model is 404 and the served one stays', async () => {
  const { status, json } = await ask(rank, '/v1/completions', { ...hello, model: '/etc' })
  expect([status, json]).toEqual([404, { error: expect.objectContaining({ code: 'model_not_found', param: 'model' }) }])
  expect((await complete(rank, hello)).usage.completion_tokens).toBe(4)
})

test('a stream ends with usage and [DONE]', async () => {
  const body = {
    messages: [{ role: 'user', content: 'hi' }],
    max_tokens: 4,
    stream: true,
    stream_options: { include_usage: true },
  }
  const { status, text } = await ask(rank, '/v1/chat/completions', body)
  const lines = text.split('\n').filter((line) => line.startsWith('data: '))
  expect([status, lines.at(-1)]).toEqual([200, 'data: [DONE]'])
  expect(JSON.parse(lines.at(-2)?.slice(6) ?? '')).toMatchObject({ usage: { completion_tokens: 4 } })
})

test.each(poison)('it refuses %s and answers the next request', async (_what, path, body) => {
  const { status, json } = await ask(rank, path, body)
  expect([status, json]).toEqual([400, { error: expect.objectContaining({ type: 'invalid_request_error' }) }])
  expect((await complete(rank, hello)).usage.completion_tokens).toBe(4)
})

test('it counts tokens after the template and refuses what does not fit', async () => {
  // The template makes "u:…\na:" of it: 5 tokens more.
  const chat = (letters: number, maxTokens: number): Promise<{ status: number; json: unknown }> =>
    ask(rank, '/v1/chat/completions', {
      messages: [{ role: 'user', content: 'a'.repeat(letters) }],
      max_tokens: maxTokens,
    })
  expect((await chat(2041, 2)).status).toBe(200)
  const { status, json } = await chat(2042, 2)
  expect([status, json]).toEqual([400, { error: expect.objectContaining({ code: 'context_length_exceeded' }) }])
  const tooMuch = await ask(rank, '/v1/completions', { prompt: 'a', max_tokens: 2001 })
  expect([tooMuch.status, tooMuch.json]).toEqual([
    400,
    { error: expect.objectContaining({ code: 'context_length_exceeded' }) },
  ])
})

test('a seed gives the same answer twice', async () => {
  const seeded = { ...hello, seed: -3, temperature: 1 }
  const [one, two] = [await complete(rank, seeded), await complete(rank, seeded)]
  expect(one.choices[0]?.text).toBe(two.choices[0]?.text)
})

test('a prompt that was seen before gives the same tokens from the cache', async () => {
  const first = await greedyIds(rank, 'once upon a time', 8)
  expect(await greedyIds(rank, 'once upon a time', 8)).toEqual(first)
})

test('a request is cancelled when its client leaves, streaming or not', async () => {
  const stream = await startStream(rank, 2000)
  const plain = new AbortController()
  const answer = ask(rank, '/v1/completions', { prompt: 'go', max_tokens: 2000 }, plain.signal)
  await beat(rank, ({ active }) => active === 2)
  stream.cancel()
  plain.abort()
  await expect(answer).rejects.toThrow('abort')
  const idle = await beat(rank, ({ busy }) => busy === false)
  expect(idle['gtok']).toBeLessThan(3000)
})

test('more requests than fit wait for a place, and all are answered', async () => {
  const answers = Array.from({ length: 5 }, (_, i) => complete(rank, { prompt: `${i}`, max_tokens: 300 }))
  const { active } = await beat(rank, ({ queued }) => Number(queued) > 0)
  expect(active).toBeLessThanOrEqual(2)
  expect((await Promise.all(answers)).map(({ usage }) => usage.completion_tokens)).toEqual(Array(5).fill(300))
})

test('asked to stop it ends with 0', async () => {
  rank.process.kill('SIGTERM')
  expect(await endOf(rank)).toEqual({ code: 0, signal: null, reason: 'stopped' })
})
