/** sha256 of what is on disk, read in large pieces; between two of them whoever else has the thread gets it. */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'

export async function hashInto(hash: Hash, path: string, signal: AbortSignal): Promise<void> {
  // Each chunk is a turn of the event loop: heartbeats go on.
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hash.update(chunk as Uint8Array)
}

/** sha256 of a file, in hex. */
export async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  await hashInto(hash, path, signal)
  return hash.digest('hex')
}
