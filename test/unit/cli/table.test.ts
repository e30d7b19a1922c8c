import { expect, test } from 'vitest'
import { GrowingTable, formatTable } from '../../../src/cli/printers/table.ts'

test('columns are as wide as their widest cell, and no line ends in blanks', () => {
  expect(
    formatTable(
      ['NAME', 'NODE', 'AGE'],
      [
        ['a-long-name', 'm', '5s'],
        ['b', '', ''],
      ],
    ),
  ).toBe('NAME          NODE   AGE\na-long-name   m      5s\nb\n')
})

test('without a header only rows', () => {
  expect(formatTable(undefined, [['a', 'b']])).toBe('a   b\n')
})

test('rows that come later line up with what stood before, and widths only grow', () => {
  const table = new GrowingTable(['NAME', 'AGE'])
  expect(table.lines([['a', '1s']])).toBe('NAME   AGE\na      1s\n')
  expect(table.lines([['longer-name', '2s']])).toBe('longer-name   2s\n')
  expect(table.lines([['a', '3s']])).toBe('a             3s\n')
})
