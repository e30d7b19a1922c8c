/** The shapes that `mctl describe` is written in: labelled values, tables and lists, all values in one column. */
import { formatTable } from '../printers/table.ts'

export type Entry = readonly [label: string, value: string]

export type Block =
  | { readonly shape: 'Fields'; readonly entries: readonly Entry[] }
  /** Left out when there are no rows, or told as `<none>`. */
  | { readonly shape: 'Table'; readonly title: string; readonly table: string; readonly none?: boolean }

export const fields = (entries: readonly Entry[]): Block => ({ shape: 'Fields', entries })

export const section = (title: string, header: readonly string[], rows: readonly (readonly string[])[]): Block => ({
  shape: 'Table',
  title,
  table: rows.length === 0 ? '' : formatTable(header, rows),
})

export const listing = (title: string, lines: readonly string[]): Block => ({
  shape: 'Table',
  title,
  table: lines.map((line) => `${line}\n`).join(''),
})

/** The parts of a message that says several things: `a; b` reads better as lines. */
export const clauses = (message: string): readonly string[] => message.trim().split(/;\s+|\s*\n\s*/)

const BLANKS = 3

/** One width for the labels of all blocks. */
export function renderBlocks(blocks: readonly Block[]): string {
  const labels = blocks.flatMap((block) =>
    block.shape === 'Fields' ? block.entries.map(([label]) => label) : block.none === true ? [block.title] : [],
  )
  const width = Math.max(0, ...labels.map((label) => label.length)) + 1 + BLANKS
  const line = (label: string, value: string) => `${`${label}:`.padEnd(width)}${value}\n`
  return blocks
    .map((block) => {
      if (block.shape === 'Fields') return block.entries.map(([label, value]) => line(label, value)).join('')
      if (block.table !== '') return `${block.title}:\n${block.table.replace(/^(?=.)/gm, '  ')}`
      return block.none === true ? line(block.title, '<none>') : ''
    })
    .join('')
}
