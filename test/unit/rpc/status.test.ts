import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { status as grpc } from '@grpc/grpc-js'
import type { OpCode } from '../../../src/lib/errors.ts'
import { OpError, opCodes } from '../../../src/lib/errors.ts'
import { fromNativeStatus, fromTrailer, grpcCodes, toStatus } from '../../../src/rpc/status.ts'

describe('codes and gRPC status', () => {
  test('every code has a status of its own, as kubernetes.md §1.4 lists them', () => {
    expect(new Set(opCodes.map((code) => grpcCodes[code])).size).toBe(opCodes.length)
    const wanted: Partial<Record<OpCode, number>> = {
      NotFound: grpc.NOT_FOUND,
      AlreadyExists: grpc.ALREADY_EXISTS,
      Conflict: grpc.ABORTED,
      Invalid: grpc.INVALID_ARGUMENT,
      Expired: grpc.OUT_OF_RANGE,
      Forbidden: grpc.PERMISSION_DENIED,
      Unauthorized: grpc.UNAUTHENTICATED,
      TooManyRequests: grpc.RESOURCE_EXHAUSTED,
      Unavailable: grpc.UNAVAILABLE,
      Timeout: grpc.DEADLINE_EXCEEDED,
      Unimplemented: grpc.UNIMPLEMENTED,
      Cancelled: grpc.CANCELLED,
      Internal: grpc.INTERNAL,
    }
    expect(grpcCodes).toEqual(wanted)
  })

  test('an error crosses whole: code, message, causes and the time to wait', () => {
    const error = fc.record({
      code: fc.constantFrom(...opCodes),
      message: fc.string({ unit: 'grapheme' }),
      causes: fc.array(fc.record({ field: fc.string(), message: fc.string({ unit: 'grapheme' }) }), { maxLength: 20 }),
      retryAfterSeconds: fc.option(fc.nat(), { nil: undefined }),
    })
    fc.assert(
      fc.property(error, ({ code, message, causes, retryAfterSeconds }) => {
        const sent = new OpError(code, message, {
          causes,
          ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
        })
        const status = toStatus(sent)
        const got = fromTrailer(status.trailer)
        expect(status.code).toBe(grpcCodes[code])
        expect(got).toMatchObject({ code, message, causes, retryAfterSeconds })
      }),
    )
  })

  test('ten thousand causes still fit into trailers, and the last says how many are missing', () => {
    const causes = Array.from({ length: 10_000 }, (_, i) => ({
      field: `spec.split[${i}]`,
      message: 'must be positive',
    }))
    const status = toStatus(new OpError('Invalid', 'x'.repeat(1_000_000), { causes }))
    const got = fromTrailer(status.trailer)
    expect(status.trailer.length).toBeLessThanOrEqual(16 * 1024)
    expect(status.details.length).toBeLessThanOrEqual(1024)
    expect(got?.causes.length).toBeGreaterThan(50)
    expect(got?.causes.at(-1)?.message).toMatch(/^and \d+ more$/)
  })

  test('a message cut in the middle of a character can still be sent', () => {
    const status = toStatus(new OpError('Internal', `${'x'.repeat(1023)}😀`))
    expect(encodeURI(status.details)).toContain('%EF%BF%BD')
  })

  test('a bug in a handler is Internal and says what it was', () => {
    expect(fromTrailer(toStatus(new TypeError('x is undefined')).trailer)).toMatchObject({
      code: 'Internal',
      message: 'internal error: x is undefined',
    })
  })

  test('a code of a newer server is Internal, not a crash', () => {
    const trailer = Buffer.from(JSON.stringify({ code: 'Teapot', message: 'short and stout' }))
    expect(fromTrailer(trailer)).toMatchObject({ code: 'Internal', message: 'short and stout' })
    expect(fromTrailer(Buffer.from('no json'))).toBeUndefined()
  })

  test('what gRPC says by itself is told in words that help', () => {
    const refused = 'No connection established. Last error: connect ECONNREFUSED 127.0.0.1:6480. Resolution note: '
    expect(fromNativeStatus(grpc.UNAVAILABLE, refused, '127.0.0.1:6480')).toMatchObject({
      code: 'Unavailable',
      message: 'Unable to connect to the server: connect ECONNREFUSED 127.0.0.1:6480',
    })
    expect(fromNativeStatus(grpc.RESOURCE_EXHAUSTED, 'larger than max', 'a:1').code).toBe('Invalid')
    expect(fromNativeStatus(grpc.DEADLINE_EXCEEDED, 'Deadline exceeded', 'a:1').code).toBe('Timeout')
    expect(fromNativeStatus(grpc.DATA_LOSS, '', 'a:1').code).toBe('Internal')
  })
})
