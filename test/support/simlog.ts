/** What one engine of the simulator wrote. */
export class SimLog {
  readonly shardUid: string
  readonly lines: { readonly text: string; readonly atMs: number }[] = []
  ended = false
  #wakes: (() => void)[] = []

  constructor(shardUid: string) {
    this.shardUid = shardUid
  }

  write(text: string, atMs: number): void {
    this.lines.push({ text, atMs })
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
