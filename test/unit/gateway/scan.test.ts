import fc from 'fast-check'
import { expect, test } from 'vitest'
import { topLevelString } from '../../../src/gateway/scan.ts'

const scan = (text: string) => topLevelString(Buffer.from(text), 'model')

test('finds the top-level model, whatever stands around it', () => {
  expect(scan('{"model":"a"}')).toBe('a')
  expect(scan('{ "messages":[{"model":"no","content":"\\"model\\":\\"no\\""}], "model" : "yes" }')).toBe('yes')
  expect(scan('{"x":"model","y":{"model":"no"},"model":"a\\u00e9\\"b"}')).toBe('aé"b')
})

test('the last one wins, as in every JSON reader', () => {
  expect(scan('{"model":"a","model":"b"}')).toBe('b')
})

test('says undefined where there is no string model', () => {
  for (const text of ['', '[]', '{"model":1}', '{"model":null}', '"model"', '["model","x"]', '{"model"', '{"model":"a'])
    expect(scan(text)).toBe(undefined)
})

test('agrees with JSON.parse on any object', () => {
  const value = fc.dictionary(fc.oneof(fc.constant('model'), fc.string()), fc.jsonValue())
  fc.assert(
    fc.property(value, (object) => {
      const parsed = (JSON.parse(JSON.stringify(object)) as Record<string, unknown>)['model']
      expect(scan(JSON.stringify(object))).toBe(typeof parsed === 'string' ? parsed : undefined)
    }),
  )
})
