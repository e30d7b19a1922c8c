/** Tables as kubectl prints them: upper-case headers, columns as wide as their widest cell, three blanks between. */

export function formatTable(header: readonly string[] | undefined, rows: readonly (readonly string[])[]): string {
  const lines = header === undefined ? rows : [header, ...rows]
  const widths: number[] = []
  for (const line of lines) line.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  return lines.map((line) => formatLine(line, widths)).join('')
}

/** One line for a table whose widths are known: rows of a watch line up with what stands above as far as they can. */
export function formatLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
  return `${padded.join('   ').trimEnd()}\n`
}
