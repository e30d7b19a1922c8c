/**
 * OpError code ↔ gRPC status, in one table. The whole error (code, message, causes, retryAfterSeconds) travels as JSON in
 * the trailer `mctl-error-bin`; a status without it comes from gRPC itself, never from a handler.
 */
import type { Cause, OpCode } from '../lib/errors.ts'
import { AnsweredError, OpError, isOpError, messageOf, opCodes } from '../lib/errors.ts'

/** Numbers of google.rpc.Code. One to one, so that the reverse is the same table. */
export const grpcCodes: Readonly<Record<OpCode, number>> = {
  Cancelled: 1,
  Invalid: 3,
  Timeout: 4,
  NotFound: 5,
  AlreadyExists: 6,
  Forbidden: 7,
  TooManyRequests: 8,
  Conflict: 10,
  Expired: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  Unauthorized: 16,
}

export const ERROR_TRAILER = 'mctl-error-bin'
/** Trailers must stay below HTTP/2's default header list of 64 KiB, base64 included. */
const MAX_TRAILER_BYTES = 16 * 1024
/** `grpc-message` is percent-encoded on the wire, three bytes for one: it carries the beginning only. */
const MAX_DETAILS_CHARS = 1024

export interface Status {
  readonly code: number
  readonly details: string
  /** JSON for the trailer. */
  readonly trailer: Buffer
}

interface ErrorBody {
  readonly code: OpCode
  readonly message: string
  readonly causes?: readonly Cause[]
  readonly retryAfterSeconds?: number
}

/** Anything that was thrown as a status. What is no OpError is a bug here, and Internal there. */
export function toStatus(thrown: unknown): Status {
  const error = isOpError(thrown) ? thrown : new OpError('Internal', `internal error: ${messageOf(thrown)}`)
  return {
    code: grpcCodes[error.code],
    // grpc-js encodes it as a URI: half a surrogate pair would throw there.
    details: error.message.slice(0, MAX_DETAILS_CHARS).replace(/\p{Surrogate}/gu, '\ufffd'),
    trailer: trailerOf(error),
  }
}

/** As many causes as fit; the last says how many more there were. */
function trailerOf({ code, message, causes, retryAfterSeconds }: OpError): Buffer {
  const body = (kept: readonly Cause[], text: string): ErrorBody => ({
    code,
    message: text,
    ...(kept.length > 0 && { causes: kept }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  })
  let kept = causes
  let bytes = Buffer.from(JSON.stringify(body(kept, message)))
  if (bytes.length <= MAX_TRAILER_BYTES) return bytes
  const text = message.slice(0, 4 * MAX_DETAILS_CHARS)
  for (let count = causes.length; bytes.length > MAX_TRAILER_BYTES && count > 0;) {
    count = Math.floor(count / 2)
    kept = [...causes.slice(0, count), { field: '', message: `and ${causes.length - count} more` }]
    bytes = Buffer.from(JSON.stringify(body(kept, text)))
  }
  return bytes.length > MAX_TRAILER_BYTES ? Buffer.from(JSON.stringify(body([], text))) : bytes
}

/** What a handler threw on the other side; undefined when the status is gRPC's own. */
export function fromTrailer(trailer: Uint8Array | undefined): AnsweredError | undefined {
  if (trailer === undefined) return undefined
  try {
    const body = JSON.parse(Buffer.from(trailer).toString('utf8')) as ErrorBody
    // A newer server may know a code that we do not.
    const code = opCodes.includes(body.code) ? body.code : 'Internal'
    const { causes = [], retryAfterSeconds } = body
    const details = { causes, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) }
    return new AnsweredError(code, body.message, details)
  } catch {
    return undefined
  }
}

const RESOURCE_EXHAUSTED = grpcCodes.TooManyRequests

/** A status of gRPC's own making, said so that a person knows what to do. `address` is the server's. */
export function fromNativeStatus(code: number, details: string, address: string): OpError {
  const opCode = opCodes.find((c) => grpcCodes[c] === code) ?? 'Internal'
  if (code === RESOURCE_EXHAUSTED)
    return new OpError('Invalid', `message to or from ${address} is too large (the limit is 4 MiB): ${details}`)
  if (opCode === 'Unavailable')
    return new OpError('Unavailable', `Unable to connect to the server: ${reachText(details, address)}`)
  if (opCode === 'Timeout') return new OpError('Timeout', `no answer from the server ${address} in time: ${details}`)
  if (opCode === 'Unimplemented')
    return new OpError(
      'Unimplemented',
      `the server ${address} does not know this call (is it of another version?): ${details}`,
    )
  return new OpError(opCode, details === '' ? `call to ${address} failed with gRPC status ${code}` : details)
}

/** grpc-js wraps what the socket said; people need only that. */
function reachText(details: string, address: string): string {
  const socket = /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/s.exec(details)?.[1]?.trim()
  const text = socket === undefined || socket === '' ? details : socket
  return text.includes(address) ? text : `${address}: ${text}`
}
