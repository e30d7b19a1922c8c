/** Small answers of peers over HTTP: connections are kept, for they are asked again and again. */
import { Agent } from 'undici'
import type { Dispatcher } from 'undici'
import type { PeerAnswer } from './doors.ts'
import type { Identity } from './transfer/transfers.ts'

const MAX_BYTES = 2 * 2 ** 20

export const makeDispatcher = (connectMsMax: number, identity: Partial<Identity> = {}): Dispatcher =>
  new Agent({ connect: { timeout: connectMsMax, ...identity } })

/** Resolves with the answer, whatever its status. Rejects when there is none, it is too long, or the signal aborts. */
export async function ask(
  dispatcher: Dispatcher,
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<PeerAnswer> {
  const { origin, pathname, search } = url
  const { statusCode, body } = await dispatcher.request({
    origin,
    path: `${pathname}${search}`,
    method: 'GET',
    headers: { ...headers },
    signal,
  })
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of body as AsyncIterable<Uint8Array>) {
    bytes += piece.byteLength
    if (bytes > MAX_BYTES) throw new Error(`its list is longer than ${MAX_BYTES} bytes`)
    pieces.push(piece)
  }
  return { status: statusCode, text: Buffer.concat(pieces).toString() }
}
