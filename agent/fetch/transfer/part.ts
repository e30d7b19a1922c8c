/**
 * The bytes of one file on their way onto the disk: `NAME.part`, appended to, hashed as it grows, resumed where it
 * ended. Writes wait for the system, so this is for threads that nobody waits for.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { assert } from '../../../src/lib/errors.ts'
import { hashInto } from './hash.ts'
import type { PartPlace } from './transfers.ts'

export class Part {
  readonly sizeBytes: number
  readonly #file: number
  #hash: Hash
  #bytes: number

  private constructor(sizeBytes: number, file: number, hash: Hash, bytes: number) {
    this.sizeBytes = sizeBytes
    this.#file = file
    this.#hash = hash
    this.#bytes = bytes
  }

  /** What an earlier run left is hashed from disk; more than the file can have is worth nothing. */
  static async open({ path, sizeBytes }: PartPlace, signal: AbortSignal): Promise<Part> {
    const left = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    if (left > sizeBytes) rmSync(path, { force: true })
    const bytes = left > sizeBytes ? 0 : left
    const hash = createHash('sha256')
    if (bytes > 0) await hashInto(hash, path, signal)
    return new Part(sizeBytes, openSync(path, 'a', 0o644), hash, bytes)
  }

  /** With the system. */
  get bytes(): number {
    return this.#bytes
  }

  /** As much of it as the file can have. What throws leaves a part that is worth what is on disk. */
  append(piece: Uint8Array): void {
    const taken = piece.subarray(0, this.sizeBytes - this.#bytes)
    this.#hash.update(taken)
    for (let at = 0; at < taken.byteLength;) at += writeSync(this.#file, taken, at)
    this.#bytes += taken.byteLength
  }

  restart(): void {
    ftruncateSync(this.#file, 0)
    this.#hash = createHash('sha256')
    this.#bytes = 0
  }

  sha256(): string {
    const { size } = fstatSync(this.#file)
    assert(size === this.#bytes, `${size} bytes are on disk, ${this.#bytes} were taken`)
    return this.#hash.copy().digest('hex')
  }

  close(): void {
    closeSync(this.#file)
  }
}
