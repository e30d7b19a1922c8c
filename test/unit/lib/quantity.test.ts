import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatBytes, parseBytes, quantityOf, tryParseBytes } from '../../../src/lib/quantity.ts'

test('reads binary, decimal and plain quantities', () => {
  expect(parseBytes('16Gi')).toBe(17179869184)
  expect(parseBytes('10922Mi')).toBe(10922 * 2 ** 20)
  expect(parseBytes('1.5Gi')).toBe(1610612736)
  expect(parseBytes('4e9')).toBe(4e9)
  expect(parseBytes('2G')).toBe(2e9)
  expect(parseBytes(7)).toBe(7)
})

test('refuses what is no quantity, and says so', () => {
  for (const text of ['', '-1Gi', '16GiB', 'x', '1e99', 'NaN', '0x10']) expect(tryParseBytes(text)).toBe(undefined)
  expect(() => parseBytes('16GB')).toThrow('Invalid value: "16GB": must be a quantity of bytes such as 16Gi')
})

test('what is stored reads back exactly', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 50 }), (bytes) => {
      expect(parseBytes(quantityOf(bytes))).toBe(bytes)
    }),
  )
})

test('people read one decimal from 1 Gi on', () => {
  expect([formatBytes(11.73e9), formatBytes(512 * 2 ** 20), formatBytes(2048), formatBytes(0)]).toEqual([
    '10.9Gi',
    '512Mi',
    '2Ki',
    '0',
  ])
})
