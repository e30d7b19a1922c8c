/** Bytes in, lines out; and the last few of them kept for whoever asks what the engine said. */
import { StringDecoder } from 'node:string_decoder'

/** A line without an end is cut here: a progress bar must not fill the memory. */
const MAX_LINE_CHARACTERS = 16_384

export class LineSplitter {
  readonly #onLine: (line: string) => void
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  push(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#onLine(line.endsWith('\r') ? line.slice(0, -1) : line)
    while (this.#rest.length > MAX_LINE_CHARACTERS) {
      this.#onLine(this.#rest.slice(0, MAX_LINE_CHARACTERS))
      this.#rest = this.#rest.slice(MAX_LINE_CHARACTERS)
    }
  }

  /** The last line, when it had no end. */
  finish(): void {
    const rest = this.#rest + this.#decoder.end()
    this.#rest = ''
    if (rest !== '') this.#onLine(rest)
  }
}

export class LastLines {
  readonly #limit: number
  #lines: string[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  push(line: string): void {
    if (line.trim() === '') return
    this.#lines.push(line.length > 500 ? `${line.slice(0, 500)}…` : line)
    if (this.#lines.length > this.#limit) this.#lines = this.#lines.slice(-this.#limit)
  }

  lines(): readonly string[] {
    return [...this.#lines]
  }
}
