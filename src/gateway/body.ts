/** Reads a request body whole, within a bound: routing needs its "model", and a retry needs its bytes again. */
import type { IncomingMessage } from 'node:http'

export type Body =
  { readonly kind: 'Body'; readonly bytes: Buffer } | { readonly kind: 'TooLarge' } | { readonly kind: 'ClientGone' }

export function readBody(request: IncomingMessage, maxBytes: number): Promise<Body> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) {
    // Without reading it the client would never look for the answer; with a bound it may send what is under way.
    request.resume()
    return Promise.resolve({ kind: 'TooLarge' })
  }
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= maxBytes) chunks.push(chunk)
      else resolve({ kind: 'TooLarge' })
    })
    request.on('end', () =>
      resolve({ kind: 'Body', bytes: chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks) }),
    )
    request.on('error', () => resolve({ kind: 'ClientGone' }))
    request.on('close', () => resolve({ kind: 'ClientGone' }))
  })
}
