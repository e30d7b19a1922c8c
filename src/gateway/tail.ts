/** The last bytes of an answer, kept without copying them as they pass. */
export class Tail {
  readonly #atLeast: number
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(atLeast: number) {
    this.#atLeast = atLeast
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    for (let first = this.#chunks[0]; first !== undefined; first = this.#chunks[0]) {
      if (this.#bytes - first.length < this.#atLeast) return
      this.#chunks.shift()
      this.#bytes -= first.length
    }
  }

  /** At most `count` bytes from the end. */
  last(count: number): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
    return (this.#chunks[0] ?? Buffer.alloc(0)).subarray(-count)
  }
}
