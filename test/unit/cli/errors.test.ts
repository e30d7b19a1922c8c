/** Whose error it is: what a server answered is told as such, what this machine found is not. */
import { expect, test } from 'vitest'
import { failureOf } from '../../../src/cli/errors.ts'
import { AnsweredError, OpError } from '../../../src/lib/errors.ts'
import { fromTrailer, toStatus } from '../../../src/rpc/status.ts'

test('what a handler threw on the other side is an error from the server', () => {
  const answer = fromTrailer(toStatus(new OpError('Forbidden', 'nodes "a" is forbidden')).trailer)
  expect(answer).toBeInstanceOf(AnsweredError)
  expect(failureOf(answer, 'error when deleting "a.yaml"').text).toBe(
    'Error from server (Forbidden): error when deleting "a.yaml": nodes "a" is forbidden',
  )
})

test('what this machine found is told with its cause, and blames nobody else', () => {
  const held = new OpError('Unavailable', 'open the store in /d: process 7 is using it', { cause: new Error('locked') })
  expect(failureOf(held)).toEqual({ text: 'error: open the store in /d: process 7 is using it: locked', exitCode: 1 })
})
