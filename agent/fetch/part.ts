/** The bytes of one file on their way onto the disk: `NAME.part`, appended to, hashed as it grows, resumed where it ended. */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rm, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { assert } from '../../src/lib/errors.ts'
import { DiskFull } from './doors.ts'

/** Bytes that came and are not with the system yet: what a SIGKILL costs at most. */
const PENDING_BYTES = 4 * 2 ** 20

/**
 * The part on disk and the hash over it. Writing goes on while the next bytes come; a write that fails is told by the
 * next call, and then the part is worth what is on disk.
 */
export class PartWriter {
  readonly #file: FileHandle
  readonly #onWritten: (bytes: number) => void
  #hash: Hash
  #bytes: number
  #written: number
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #flushing: Promise<void> | undefined

  private constructor(file: FileHandle, hash: Hash, bytes: number, onWritten: (bytes: number) => void) {
    this.#file = file
    this.#hash = hash
    this.#bytes = bytes
    this.#written = bytes
    this.#onWritten = onWritten
  }

  /**
   * What an earlier run left is hashed from disk; more than the file can have is worth nothing. `onWritten` hears how
   * many bytes others can read.
   */
  static async open(
    path: string,
    sizeBytes: number,
    signal: AbortSignal,
    onWritten: (bytes: number) => void,
  ): Promise<PartWriter> {
    const left = await stat(path).then(
      (s) => s.size,
      () => 0,
    )
    if (left > sizeBytes) await rm(path, { force: true })
    const bytes = left > sizeBytes ? 0 : left
    const hash = createHash('sha256')
    if (bytes > 0) await hashInto(hash, path, signal)
    onWritten(bytes)
    return new PartWriter(await open(path, 'a', 0o644).catch(asDiskFull), hash, bytes, onWritten)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Takes the bytes; waits only while many are pending. */
  async write(chunks: readonly Uint8Array[]): Promise<void> {
    for (const chunk of chunks) {
      this.#hash.update(chunk)
      this.#pending.push(chunk)
      this.#bytes += chunk.byteLength
      this.#pendingBytes += chunk.byteLength
    }
    if (this.#flushing === undefined) void this.#begin()
    if (this.#pendingBytes >= PENDING_BYTES) await this.flush()
  }

  /** Resolves when everything that was taken is with the system. */
  async flush(): Promise<void> {
    await this.#flushing
    if (this.#pendingBytes > 0) await this.#begin()
  }

  /** A failure stays in `#flushing`, to be told by each later flush. */
  #begin(): Promise<void> {
    const flushing = this.#writePending().then(() => void (this.#flushing = undefined))
    flushing.catch(() => {})
    this.#flushing = flushing
    return flushing
  }

  async #writePending(): Promise<void> {
    while (this.#pendingBytes > 0) {
      const chunks = this.#pending
      const wanted = this.#pendingBytes
      this.#pending = []
      this.#pendingBytes = 0
      const { bytesWritten } = await this.#file.writev(chunks).catch(asDiskFull)
      if (bytesWritten < wanted) throw new DiskFull(`only ${bytesWritten} of ${wanted} bytes could be written`)
      this.#written += wanted
      this.#onWritten(this.#written)
    }
  }

  async restart(): Promise<void> {
    await this.flush()
    await this.#file.truncate(0)
    this.#hash = createHash('sha256')
    this.#bytes = 0
    this.#written = 0
    this.#onWritten(0)
  }

  /** Of everything that was taken, which is with the system then. */
  async sha256(): Promise<string> {
    await this.flush()
    const { size } = await this.#file.stat()
    assert(size === this.#bytes, `${size} bytes are on disk, ${this.#bytes} were taken`)
    return this.#hash.digest('hex')
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** What an error says when the volume is full, or the quota: DiskFull; undefined for every other error. */
export function diskFullOf(error: unknown): DiskFull | undefined {
  if (error instanceof DiskFull) return error
  const { code } = error as NodeJS.ErrnoException
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return full ? new DiskFull('the volume of the models folder is full', { cause: error }) : undefined
}

function asDiskFull(error: unknown): never {
  throw diskFullOf(error) ?? error
}

async function hashInto(hash: Hash, path: string, signal: AbortSignal): Promise<void> {
  // Each chunk is a turn of the event loop: heartbeats go on.
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hash.update(chunk as Uint8Array)
}

/** sha256 of a file, in hex. */
export async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  await hashInto(hash, path, signal)
  return hash.digest('hex')
}
