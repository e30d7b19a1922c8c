/** What is learnt of an answer while it passes, and what is not. */
import { expect, test } from 'vitest'
import { PaceMeter } from '../../../src/gateway/pace.ts'
import { Tail } from '../../../src/gateway/tail.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const event = (text: string) => `data: {"choices":[{"finish_reason":null,"delta":{"content":"${text}"}}]}\n\n`
const last = 'data: {"choices":[{"finish_reason":"stop","delta":{}}]}\n\n'
const usage = (prompt: number, completion: number) =>
  `data: {"choices":[],"usage":{"prompt_tokens": ${prompt}, "completion_tokens": ${completion}}}\n\n`
const END = 'data: [DONE]\n\n'

/** An answer whose parts come so many ms after each other; the first after `promptMs`. */
async function paceOf(
  parts: readonly string[],
  eachMs: number,
  options: { promptMs?: number; isStream?: boolean } = {},
) {
  const { promptMs = 5_000, isStream = true } = options
  const clock = new VirtualClock()
  const meter = new PaceMeter({ clock, startedMs: clock.monotonicMs(), isStream, bodyBytes: 400 })
  await clock.advance(promptMs)
  for (const [i, part] of parts.entries()) {
    if (i > 0) await clock.advance(eachMs)
    meter.add(Buffer.from(part))
  }
  return { meter, pace: meter.pace() }
}
const tokens = (count: number) => Array.from({ length: count }, (_, i) => event(`w${i}`))

test('a stream is as fast as its tokens follow the first one: its prompt does not count', async () => {
  const { pace, meter } = await paceOf([...tokens(41), last + END], 25)
  expect(pace).toEqual({ tokens: 40, seconds: 1, contextTokens: 100 + Math.round(41 / 2) })
  expect(meter.saidDone).toBe(true)
})

test('usage says how many tokens there were: not every token makes an event', async () => {
  const { pace } = await paceOf([...tokens(30), last + usage(1000, 61) + END], 50)
  expect(pace).toEqual({ tokens: 60, seconds: 1.5, contextTokens: 1031 })
})

test('tokens that came together with the first one took no time of their own', async () => {
  const { pace } = await paceOf([event('a') + event('b') + event('c'), ...tokens(20), last + END], 10)
  expect(pace?.tokens).toBe(20)
})

test('comments that a prompt is worked on are no tokens', async () => {
  const { pace } = await paceOf([': keepalive 1/2\n\n', ': keepalive 2/2\n\n', ...tokens(21), last + END], 10)
  expect(pace).toMatchObject({ tokens: 20, seconds: 0.2 })
})

test.each([
  ['few tokens', [...tokens(10), last + END], 100],
  ['no time', [...tokens(100), last + END], 0.1],
])('nothing is learnt from %s', async (_, parts, eachMs) => {
  expect((await paceOf(parts, eachMs)).pace).toBeUndefined()
})

test('nothing is learnt when the client was the slower one', async () => {
  const { meter } = await paceOf([...tokens(41), last + END], 25)
  meter.hold()
  expect(meter.pace()).toBeUndefined()
})

test('a whole answer counts when its prompt was short beside it', async () => {
  const whole = (prompt: number, completion: number) =>
    paceOf(
      [
        `{"choices":[{"text":"\\"completion_tokens\\": 9"}],"usage":{"prompt_tokens":${prompt},"completion_tokens":${completion}}}`,
      ],
      0,
      { isStream: false, promptMs: 2_000 },
    )
  expect((await whole(20, 40)).pace).toEqual({ tokens: 40, seconds: 2, contextTokens: 40 })
  expect((await whole(400, 40)).pace).toBeUndefined()
  expect((await whole(2, 20)).pace).toBeUndefined()
})

test('a text that only speaks of the end is not the end', async () => {
  const { meter } = await paceOf([...tokens(3), event('[DONE]') + event('and on and on')], 1)
  expect(meter.saidDone).toBe(false)
})

test('a tail keeps the last bytes, whatever the pieces', () => {
  const tail = new Tail(10)
  for (const piece of ['abc', 'defghijklmno', 'p', 'q', 'rs']) tail.add(Buffer.from(piece))
  expect(tail.last(10).toString()).toBe('jklmnopqrs')
  expect(tail.last(3).toString()).toBe('qrs')
  expect(new Tail(5).last(5)).toHaveLength(0)
})
