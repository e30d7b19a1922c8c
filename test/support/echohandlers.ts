/** Handlers without a cluster behind them, for tests of the wire alone: what a call brings is told by the test. */
import { OpError } from '../../src/lib/errors.ts'
import type { Handlers } from '../../src/rpc/messages.ts'

const unimplemented = () => Promise.reject(new OpError('Unimplemented', 'not part of this test'))
const noStream = (): AsyncIterable<never> => ({
  [Symbol.asyncIterator]: () => ({ next: unimplemented }),
})

export const echoHandlers = (handlers: Partial<Handlers>): Handlers => ({
  version: unimplemented,
  create: unimplemented,
  update: unimplemented,
  patch: unimplemented,
  apply: unimplemented,
  delete: unimplemented,
  get: unimplemented,
  list: unimplemented,
  updateStatus: unimplemented,
  plan: unimplemented,
  join: unimplemented,
  sign: unimplemented,
  changeAuthority: unimplemented,
  observe: unimplemented,
  live: unimplemented,
  watch: noStream,
  logs: noStream,
  nodeSession: noStream,
  ...handlers,
})
