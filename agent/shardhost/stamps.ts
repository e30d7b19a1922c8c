/**
 * The time at which a line of an engine's log began, in front of the line: `2026-01-01T00:00:00.000Z text`. It is in the
 * file itself, so that it lasts as long as the line, whoever reads it; `tail -f` shows it, `mctl logs` when it is asked.
 */
const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) /
const NEWLINE = 0x0a

export interface LogLine {
  readonly text: string
  /** undefined: written before lines had times. */
  readonly atMs: number | undefined
}

/** Puts the time of now in front of each line as its first byte comes; pieces of a line may come one by one. */
export class Stamper {
  readonly #nowMs: () => number
  #atLineStart: boolean

  constructor(nowMs: () => number, atLineStart: boolean) {
    this.#nowMs = nowMs
    this.#atLineStart = atLineStart
  }

  get atLineStart(): boolean {
    return this.#atLineStart
  }

  /** What comes next is the first of a file. */
  startOver(): void {
    this.#atLineStart = true
  }

  stamp(chunk: Buffer): Buffer {
    const stamp = Buffer.from(`${new Date(this.#nowMs()).toISOString()} `)
    const parts: Buffer[] = []
    for (let at = 0; at < chunk.length;) {
      const newline = chunk.indexOf(NEWLINE, at)
      const end = newline === -1 ? chunk.length : newline + 1
      if (this.#atLineStart) parts.push(stamp)
      parts.push(chunk.subarray(at, end))
      this.#atLineStart = newline !== -1
      at = end
    }
    return Buffer.concat(parts)
  }
}

/** Takes times off lines; a piece of a long line has the time of the piece before it. */
export class StampReader {
  #lastMs: number | undefined

  read(line: string): LogLine {
    const [stamped, time] = STAMP.exec(line) ?? []
    const ms = Date.parse(time ?? '')
    if (stamped === undefined || Number.isNaN(ms)) return { text: line, atMs: this.#lastMs }
    this.#lastMs = ms
    return { text: line.slice(stamped.length), atMs: ms }
  }
}
