import { expect, test } from 'vitest'
import { linkCells, linkRows } from '../../../src/cli/get/links.ts'
import { formatTable } from '../../../src/cli/printers/table.ts'
import { aMac } from '../planner/objects.ts'

const NOW_MS = Date.parse('2026-11-26T12:00:00Z')
const tcp = { transport: 'TCP', address: '10.0.0.1', peerAddress: '10.0.0.2' } as const

test('one line a link: what was measured, what its type is known for, what was not reached', () => {
  const nodes = [
    aMac('a', {
      links: [
        {
          ...tcp,
          peer: 'b',
          type: 'Thunderbolt4',
          bandwidthGBps: 1.93,
          latencyMicros: 180,
          allReduceMicros: 402,
          hopMicros: 912,
          measuredAt: '2026-11-26T09:30:00Z',
        },
        { ...tcp, peer: 'b', type: 'Ethernet1G', latencyMicros: 900, notMeasured: 'no mlx with a ring on b' },
        { ...tcp, peer: 'c', type: 'WiFi', failure: 'connect EHOSTUNREACH' },
      ],
    }),
    aMac('b'),
  ]
  const rows = linkRows(nodes)
  expect(
    formatTable(
      undefined,
      rows.map((row) => linkCells(row, NOW_MS, false)),
    ),
  ).toBe(
    [
      'a   b   Thunderbolt4   10.0.0.2   1.93 GB/s    180 µs   150m     measured',
      'a   b   Ethernet1G     10.0.0.2   0.117 GB/s   900 µs   <none>   assumed',
      'a   c   WiFi           10.0.0.2   <none>       <none>   <none>   failed',
      '',
    ].join('\n'),
  )
  expect(rows.map((row) => linkCells(row, NOW_MS, true).slice(8))).toEqual([
    ['TCP', '10.0.0.1', '402 µs', '912 µs', '', ''],
    // The wire is slower than the type is known for: no engine is quicker.
    ['TCP', '10.0.0.1', '~900 µs', '~3500 µs', '', 'no mlx with a ring on b'],
    ['TCP', '10.0.0.1', '<none>', '<none>', 'connect EHOSTUNREACH', ''],
  ])
})
