/** The shapes that `mctl describe` is written in. */
import { formatTable } from './table.ts'

/** `Name:   value` lines, aligned. */
export function fields(entries: readonly (readonly [string, string])[]): string {
  const width = Math.max(...entries.map(([label]) => label.length)) + 3
  return entries.map(([label, value]) => `${`${label}:`.padEnd(width)}${value}\n`).join('')
}

/** A titled table, indented; nothing at all where there are no rows. */
export function section(title: string, header: readonly string[], rows: readonly (readonly string[])[]): string {
  return rows.length === 0 ? '' : `${title}:\n${formatTable(header, rows).replace(/^/gm, '  ').trimEnd()}\n`
}

export function listing(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? '' : `${title}:\n${lines.map((line) => `  ${line}\n`).join('')}`
}
