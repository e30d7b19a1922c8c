/** Figures of one run: percentiles, and a table for the terminal. Machines are noisy: read ratios, not single numbers. */

export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

export const sortedOf = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b)

export interface Row {
  readonly what: string
  readonly value: string
  readonly aim: string
}

export function printRows(rows: readonly Row[]): void {
  const widths = [0, 0, 0]
  const lines = [['MEASURE', 'THIS RUN', 'AIM'], ...rows.map((row) => [row.what, row.value, row.aim])]
  for (const line of lines) line.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  for (const line of lines)
    console.log(
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('   ')
        .trimEnd(),
    )
}

export const ms = (value: number): string => `${value.toFixed(2)} ms`
