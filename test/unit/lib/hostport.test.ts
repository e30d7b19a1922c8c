import { expect, test } from 'vitest'
import { joinHostPort, splitHostPort } from '../../../src/lib/hostport.ts'

test.each([
  ['127.0.0.1:6480', '127.0.0.1', 6480],
  ['mini-1.local:1', 'mini-1.local', 1],
  ['[::1]:0', '::1', 0],
  ['[2001:db8::1]:65535', '2001:db8::1', 65_535],
])('%s', (address, host, port) => {
  expect(splitHostPort(address)).toEqual({ host, port })
  expect(joinHostPort(host, port)).toBe(address)
})

test('no port is no number', () => {
  expect(splitHostPort('host:').port).toBeNaN()
  expect(splitHostPort('host:x').port).toBeNaN()
  expect(splitHostPort('').port).toBeNaN()
})
