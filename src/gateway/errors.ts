/** OpenAI's error shape: what clients of the API already know how to read. */
import type { ServerResponse } from 'node:http'

export interface ApiError {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly retryAfterSeconds?: number
}

export const errorBody = (error: ApiError): string =>
  JSON.stringify({
    error: {
      message: error.message,
      type: error.status < 500 ? 'invalid_request_error' : 'server_error',
      param: null,
      code: error.code,
    },
  })

/** Answers with the error; where a stream has begun, ends it with an error event instead: never silently. */
export function sendError(response: ServerResponse, error: ApiError): void {
  if (response.headersSent) {
    endBrokenReply(response, error)
    return
  }
  response.writeHead(error.status, {
    'content-type': 'application/json',
    ...(error.retryAfterSeconds === undefined ? {} : { 'retry-after': String(error.retryAfterSeconds) }),
  })
  response.end(errorBody(error))
}

function endBrokenReply(response: ServerResponse, error: ApiError): void {
  const isStream = String(response.getHeader('content-type') ?? '').startsWith('text/event-stream')
  if (isStream) response.end(`data: ${errorBody(error)}\n\n`)
  // A cut connection is the only honest end of a half-sent JSON body.
  else response.destroy()
}
