import { expect, test } from 'vitest'
import { ageOf, ageSince } from '../../../src/api/age.ts'

const minutes = 60
const hours = 60 * minutes
const days = 24 * hours

test.each([
  [-5, '0s'],
  [0, '0s'],
  [119, '119s'],
  [120, '2m'],
  [9 * minutes + 5, '9m5s'],
  [10 * minutes, '10m'],
  [179 * minutes + 59, '179m'],
  [3 * hours, '3h'],
  [7 * hours + 5 * minutes, '7h5m'],
  [8 * hours + 59 * minutes, '8h'],
  [47 * hours, '47h'],
  [48 * hours, '2d'],
  [7 * days + 3 * hours, '7d3h'],
  [8 * days + 3 * hours, '8d'],
  [729 * days, '729d'],
  [(3 * 365 + 40) * days, '3y40d'],
  [9 * 365 * days, '9y'],
])('%i seconds are %s', (seconds, age) => {
  expect(ageOf(seconds * 1000)).toBe(age)
})

test('a time that is missing or none is unknown', () => {
  expect(ageSince(undefined, 0)).toBe('<unknown>')
  expect(ageSince('soon', 0)).toBe('<unknown>')
  expect(ageSince('2026-03-01T12:00:00Z', Date.parse('2026-03-01T12:01:00Z'))).toBe('60s')
})
