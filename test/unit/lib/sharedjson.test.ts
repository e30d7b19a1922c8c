import { expect, test } from 'vitest'
import { sharedJson, sharedJsonBytes } from '../../../src/lib/sharedjson.ts'

const value = () => ({ name: 'größer 数', list: [1, { deep: null }] })

test('JSON of a frozen value is made once', () => {
  const frozen = Object.freeze(value())
  expect(JSON.parse(sharedJson(frozen))).toEqual(value())
  const bytes = sharedJsonBytes(frozen)
  expect(JSON.parse(bytes.toString('utf8'))).toEqual(value())
  expect(sharedJsonBytes(frozen)).toBe(bytes)
  expect(sharedJson(frozen)).toBe(JSON.stringify(value()))
})

test('JSON of a value that may change is made afresh', () => {
  const open = value()
  expect(sharedJson(open)).toBe(JSON.stringify(value()))
  expect(sharedJsonBytes(open).toString()).toBe(JSON.stringify(value()))
  open.name = 'other'
  expect(JSON.parse(sharedJson(open))).toMatchObject({ name: 'other' })
  expect(JSON.parse(sharedJsonBytes(open).toString())).toMatchObject({ name: 'other' })
})
