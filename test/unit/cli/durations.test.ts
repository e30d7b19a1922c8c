import { expect, test } from 'vitest'
import { parseDurationMs } from '../../../src/cli/durations.ts'

test.each([
  ['0', 0],
  ['30s', 30_000],
  ['1h30m', 5_400_000],
  ['1.5s', 1500],
  ['1500ms', 1500],
  ['2d', 172_800_000],
  ['-1s', -1000],
])('%s is %d ms', (text, ms) => expect(parseDurationMs(text)).toBe(ms))

test.each(['', '5', 's', '5 s', '1h30', '10m!', '-', '--1s', 'm5', '1s2'])('"%s" is no duration', (text) =>
  expect(() => parseDurationMs(text)).toThrow(`invalid duration "${text}"`),
)
