/** Tables as kubectl prints them: upper-case headers, columns as wide as their widest cell, three blanks between. */

type Cells = readonly string[]

export function formatTable(header: Cells | undefined, rows: readonly Cells[]): string {
  return new GrowingTable(header).lines(rows)
}

/** A table whose rows come bit by bit: widths are remembered and only grow, so later rows line up as far as they can. */
export class GrowingTable {
  readonly #widths: number[] = []
  #header: Cells | undefined

  constructor(header: Cells | undefined) {
    this.#header = header
  }

  /** The lines of these rows; the header stands before the first ones. */
  lines(rows: readonly Cells[]): string {
    const all = this.#header === undefined ? rows : [this.#header, ...rows]
    this.#header = undefined
    for (const cells of all) cells.forEach((cell, i) => (this.#widths[i] = Math.max(this.#widths[i] ?? 0, cell.length)))
    return all.map((cells) => this.#line(cells)).join('')
  }

  #line(cells: Cells): string {
    const padded = cells.map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(this.#widths[i] ?? 0)))
    return `${padded.join('   ').trimEnd()}\n`
  }
}
