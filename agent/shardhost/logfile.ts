/** The engine's log: bounded to two files, the older one named `.1`. A full disk loses log lines, never the engine. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'

export const LOG_BYTES_MAX = 8 * 2 ** 20

export class LogFile {
  readonly #path: string
  readonly #bytesMax: number
  #fd: number
  #bytes: number

  constructor(path: string, bytesMax: number = LOG_BYTES_MAX) {
    this.#path = path
    this.#bytesMax = bytesMax
    this.#fd = openSync(path, 'a', 0o600)
    this.#bytes = fstatSync(this.#fd).size
  }

  /** Synchronous, so that the last words before a crash are on disk. */
  write(chunk: Buffer | string): void {
    try {
      if (this.#bytes >= this.#bytesMax) this.#rotate()
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      this.#bytes += writeSync(this.#fd, bytes)
    } catch {
      // Nothing to be done about it here, and the engine must go on.
    }
  }

  close(): void {
    closeSync(this.#fd)
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`)
    closeSync(this.#fd)
    this.#fd = openSync(this.#path, 'a', 0o600)
    this.#bytes = 0
  }
}
