/**
 * The engine's log: each line with its time, bounded to two files, the older one named `.1`. A full disk loses log
 * lines, never the engine.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, writeSync } from 'node:fs'
import { Stamper } from './stamps.ts'

export const LOG_BYTES_MAX = 8 * 2 ** 20
/** A file ends with a line; one that does not end is cut after so much more. */
const LINE_BYTES_MAX = 64 * 2 ** 10

export class LogFile {
  readonly #path: string
  readonly #bytesMax: number
  readonly #stamper: Stamper
  #fd: number
  #bytes: number

  constructor(path: string, nowMs: () => number, bytesMax: number = LOG_BYTES_MAX) {
    this.#path = path
    this.#bytesMax = bytesMax
    this.#fd = openSync(path, 'a+', 0o600)
    this.#bytes = fstatSync(this.#fd).size
    this.#stamper = new Stamper(nowMs, true)
    // A writer that was killed in the middle of a line: the next line is one of its own.
    if (!this.#endsWithLine()) this.#append(Buffer.from('\n'))
  }

  /** Synchronous, so that the last words before a crash are on disk. */
  write(chunk: Buffer | string): void {
    const over = this.#bytes - this.#bytesMax
    if (over >= LINE_BYTES_MAX || (over >= 0 && this.#stamper.atLineStart)) this.#rotate()
    this.#append(this.#stamper.stamp(typeof chunk === 'string' ? Buffer.from(chunk) : chunk))
  }

  close(): void {
    closeSync(this.#fd)
  }

  #append(bytes: Buffer): void {
    try {
      this.#bytes += writeSync(this.#fd, bytes)
    } catch {
      // Nothing to be done about it here, and the engine must go on.
    }
  }

  #rotate(): void {
    try {
      renameSync(this.#path, `${this.#path}.1`)
      const fd = openSync(this.#path, 'a', 0o600)
      closeSync(this.#fd)
      this.#fd = fd
      this.#bytes = 0
      this.#stamper.startOver()
    } catch {
      // The old file is written on: what is lost is the bound, not a line.
    }
  }

  #endsWithLine(): boolean {
    if (this.#bytes === 0) return true
    const last = Buffer.alloc(1)
    readSync(this.#fd, last, 0, 1, this.#bytes - 1)
    return last[0] === 0x0a
  }
}
