/** What one engine of the simulator wrote. */
export class SimLog {
  readonly shardUid: string
  readonly lines: string[] = []
  ended = false
  #wakes: (() => void)[] = []

  constructor(shardUid: string) {
    this.shardUid = shardUid
  }

  write(line: string): void {
    this.lines.push(line)
    this.#wake()
  }

  end(): void {
    this.ended = true
    this.#wake()
  }

  /** Resolves at the next line, the end, or when the signal aborts. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#wakes.push(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }
}
