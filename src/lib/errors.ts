/**
 * Operations that fail throw an `OpError` with a code that a caller can branch on. Refusals are values, not errors;
 * bugs assert and crash. `src/rpc` maps the codes to gRPC status in one table.
 */
export const opCodes = [
  'NotFound',
  'AlreadyExists',
  'Conflict',
  'Invalid',
  'Expired',
  'Forbidden',
  'Unauthorized',
  'TooManyRequests',
  'Unavailable',
  'Timeout',
  'Unimplemented',
  'Cancelled',
  'Internal',
] as const
export type OpCode = (typeof opCodes)[number]

/** One cause of an Invalid, in Kubernetes' wording: `${field}: ${message}`. `where` is `file:line` when it came from a file. */
export interface Cause {
  readonly field: string
  readonly message: string
  readonly where?: string
}

export interface OpErrorDetails {
  readonly cause?: unknown
  readonly causes?: readonly Cause[]
  readonly retryAfterSeconds?: number
}

export class OpError extends Error {
  readonly code: OpCode
  readonly causes: readonly Cause[]
  readonly retryAfterSeconds: number | undefined
  constructor(code: OpCode, message: string, details: OpErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'OpError'
    this.code = code
    this.causes = details.causes ?? []
    this.retryAfterSeconds = details.retryAfterSeconds
  }
}

/** One that a server answered, as opposed to one that was thrown on this machine: people are told which. */
export class AnsweredError extends OpError {}

export const isOpError = (error: unknown, code?: OpCode): error is OpError =>
  error instanceof OpError && (code === undefined || error.code === code)

/** The message of anything that was thrown, with its whole chain of causes. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message}: ${messageOf(error.cause)}`
}

/** A bug: what the code believed does not hold. Never caught to go on; the process restarts from what is persisted. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`bug: ${message}`)
}

/** For the default branch of a switch that must be exhaustive. */
export function unreachable(value: never): never {
  throw new Error(`bug: unreachable value ${JSON.stringify(value)}`)
}
