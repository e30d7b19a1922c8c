/** What a request may say, without an engine: one Python process checks the whole table. */
import { expect, test } from 'vitest'
import { runPython, shimMain } from '../../support/mlx.ts'

type Outcome = { body: Record<string, unknown> } | { status: number; param: string | null; code: string | null }

const harness = `
import json, os, sys
sys.path.insert(0, os.path.dirname(os.path.dirname(${JSON.stringify(shimMain)})))
from shim import guard
out = []
for case in json.load(sys.stdin):
    limits = guard.Limits("tiny", 1024, 512, case["world"], 300, 258)
    try:
        body = guard.check(case["body"], case["chat"], limits)
        out.append({"body": guard.fit_tokens(body, case["promptTokens"], limits)})
    except guard.Refusal as r:
        out.append({"status": r.status, "param": r.param, "code": r.code})
print(json.dumps(out))
`

interface Case {
  body: unknown
  chat?: boolean
  world?: number
  promptTokens?: number
}

function judge(cases: Case[]): Outcome[] {
  const full = cases.map((one) => ({ chat: false, world: 1, promptTokens: 5, ...one }))
  return JSON.parse(runPython(['-c', harness], JSON.stringify(full))) as Outcome[]
}

const text = (rest: object): Case => ({ body: { prompt: 'hello', ...rest } })
const chat = (rest: object): Case => ({ chat: true, body: { messages: [{ role: 'user', content: 'hi' }], ...rest } })

/** [what is wrong, the request, the parameter that the answer blames]. */
const refused: [string, Case, string | null][] = [
  ['a body that is a list', { body: [] }, null],
  ['a list of prompts', text({ prompt: ['a', 'b'] }), 'prompt'],
  ['an empty prompt', text({ prompt: '' }), 'prompt'],
  ['no prompt', { body: {} }, 'prompt'],
  ['a stop that is a number', text({ stop: [5] }), 'stop'],
  ['an empty stop', text({ stop: ['a', ''] }), 'stop'],
  ['more stops than allowed', text({ stop: Array<string>(17).fill('x') }), 'stop'],
  ['top_k above the vocabulary', text({ top_k: 301 }), 'top_k'],
  ['top_k below 0', text({ top_k: -1 }), 'top_k'],
  ['a bias for an id that the head does not have', text({ logit_bias: { 300: 1 } }), 'logit_bias'],
  ['a bias for an id without a text', text({ logit_bias: { 258: 1 } }), 'logit_bias'],
  ['a bias for a negative id', text({ logit_bias: { '-1': 1 } }), 'logit_bias'],
  ['a bias for a word', text({ logit_bias: { the: 1 } }), 'logit_bias'],
  ['a bias that is no number', text({ logit_bias: { 3: [1] } }), 'logit_bias'],
  ['a seed beyond 64 bits', text({ seed: 2 ** 70 }), 'seed'],
  ['a seed with a fraction', text({ seed: 1.5 }), 'seed'],
  ['a seed in a gang', { ...text({ seed: 7 }), world: 2 }, 'seed'],
  ['stream_options without include_usage', text({ stream: true, stream_options: {} }), 'stream_options'],
  ['stream_options that is a text', text({ stream: true, stream_options: 'usage' }), 'stream_options'],
  ['stream that is a text', text({ stream: 'yes' }), 'stream'],
  ['max_tokens 0', text({ max_tokens: 0 }), 'max_tokens'],
  ['max_tokens as a text', text({ max_tokens: '5' }), 'max_tokens'],
  ['max_tokens true', text({ max_tokens: true }), 'max_tokens'],
  ['max_completion_tokens below 1', chat({ max_completion_tokens: -1 }), 'max_completion_tokens'],
  ['logprobs as a number', chat({ logprobs: 3 }), 'logprobs'],
  ['more top_logprobs than the engine has', chat({ logprobs: true, top_logprobs: 12 }), 'top_logprobs'],
  ['a temperature that is a text', text({ temperature: 'hot' }), 'temperature'],
  ['a temperature below 0', text({ temperature: -1 }), 'temperature'],
  ['top_p above 1', text({ top_p: 1.5 }), 'top_p'],
  ['an xtc_threshold that the engine raises on', text({ xtc_threshold: 0.9 }), 'xtc_threshold'],
  ['a context size that no number holds', text({ repetition_context_size: 1e30 }), 'repetition_context_size'],
  ['adapters', text({ adapters: '/tmp/x' }), 'adapters'],
  ['a draft model', text({ draft_model: '/tmp/x' }), 'draft_model'],
  ['several answers at once', text({ n: 2 }), 'n'],
  ['a promise of JSON', chat({ response_format: { type: 'json_object' } }), 'response_format'],
  ['no messages', { chat: true, body: {} }, 'messages'],
  ['empty messages', chat({ messages: [] }), 'messages'],
  ['messages that are a text', chat({ messages: 'hi' }), 'messages'],
  ['a message that is a number', chat({ messages: [1] }), 'messages[0]'],
  ['a message without a role', chat({ messages: [{ content: 'hi' }] }), 'messages[0].role'],
  ['an image', chat({ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }), 'messages[0].content'],
  [
    'a template argument for the tokenizer',
    chat({ chat_template_kwargs: { return_dict: true } }),
    'chat_template_kwargs',
  ],
  ['half a surrogate pair', text({ stop: '\ud800' }), null],
  ['a model that is a number', text({ model: 5 }), 'model'],
]

test('a request that would harm the engine is refused, and the answer names the parameter', () => {
  const outcomes = judge(refused.map(([, one]) => one))
  const found = refused.map(([what], i) => [what, outcomes[i]])
  expect(found).toEqual(refused.map(([what, , param]) => [what, expect.objectContaining({ status: 400, param })]))
})

test('another model is not found', () => {
  expect(judge([text({ model: 'other' })])).toEqual([{ status: 404, param: 'model', code: 'model_not_found' }])
})

test('what does not fit the context is refused and never cut', () => {
  const outcomes = judge([
    { ...text({ max_tokens: 100 }), promptTokens: 925 },
    { ...text({}), promptTokens: 1024 },
    { ...text({ max_tokens: 513 }), promptTokens: 5 },
    { ...text({ max_completion_tokens: 513 }), promptTokens: 5 },
  ])
  expect(outcomes).toEqual(Array(4).fill(expect.objectContaining({ status: 400, code: 'context_length_exceeded' })))
})

test('without max_tokens an answer gets what fits', () => {
  const outcomes = judge([
    { ...text({}), promptTokens: 5 },
    { ...text({}), promptTokens: 1000 },
    { ...text({ max_tokens: 24 }), promptTokens: 1000 },
    { ...text({ max_tokens: 9, max_completion_tokens: 7 }), promptTokens: 1000 },
  ])
  expect(outcomes.map((one) => 'body' in one && one.body['max_tokens'])).toEqual([512, 24, 24, 7])
})

test('null means absent, unknown fields are dropped, values come in the engine’s form', () => {
  const outcomes = judge([
    text({
      model: null,
      seed: null,
      stop: null,
      temperature: null,
      max_tokens: null,
      stream: null,
      user: 'me',
      metadata: {},
    }),
    text({ seed: -1, top_k: 300, temperature: 1e-300, xtc_probability: 1, stop: 'end', n: 1 }),
    chat({
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
    }),
  ])
  const common = { model: 'tiny', stream: false, logprobs: false, max_tokens: 512 }
  expect(outcomes).toEqual([
    { body: { ...common, prompt: 'hello' } },
    {
      body: {
        ...common,
        prompt: 'hello',
        seed: Number(2n ** 64n - 1n),
        top_k: 0,
        temperature: 0,
        xtc_probability: 1,
        stop: ['end'],
      },
    },
    { body: { ...common, messages: [{ role: 'user', content: 'ab' }] } },
  ])
})
