/** `npm run bench:model`: the cost model against published measurements; no time is taken, so every run says the same. */
import type { Summary } from '../unit/planner/throughput.ts'
import { contests, readMeasured, score, summary } from '../unit/planner/throughput.ts'

const WORST_ROWS = 15
const [path] = process.argv.slice(2)
const file =
  path === undefined
    ? new URL('../fixtures/throughput-train.csv', import.meta.url)
    : new URL(path, `file://${process.cwd()}/`)

const rows = score(readMeasured(file))
const percent = (share: number) => `${(share * 100).toFixed(1)} %`
const signed = (share: number) => `${share > 0 ? '+' : ''}${percent(share)}`

function table(header: readonly string[], lines: readonly (readonly string[])[]): void {
  const widths = header.map((cell, i) => Math.max(cell.length, ...lines.map((line) => (line[i] ?? '').length)))
  for (const line of [header, ...lines])
    console.log(
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('   ')
        .trimEnd(),
    )
  console.log()
}

const errorsOf = (part: typeof rows) => part.map((row) => row.error)
const by = (title: string, keyOf: (row: (typeof rows)[number]) => string): Summary[] =>
  [...new Set(rows.map(keyOf))]
    .sort()
    .map((key) => summary(`${title} ${key}`, errorsOf(rows.filter((r) => keyOf(r) === key))))

const summaries = [
  summary('decode, all rows', errorsOf(rows)),
  ...by('strategy', (row) => row.strategy),
  ...by('chip', (row) => row.chip),
  ...by('engine', (row) => row.input.engine),
  summary(
    'prefill, all rows that have one',
    rows.flatMap((row) => row.prefillError ?? []),
  ),
]
table(
  ['ABSOLUTE ERROR', 'ROWS', 'MEAN', 'MEDIAN', 'P90'],
  summaries.map((s) => [s.of, String(s.rows), percent(s.mean), percent(s.median), percent(s.p90)]),
)

const held = contests(rows)
console.log(`best strategy named in ${held.filter((c) => c.hit).length} of ${held.length} groups`)
for (const miss of held.filter((c) => !c.hit))
  console.log(`  ${miss.of}: measured ${miss.measuredBest}, predicted ${miss.predictedBest}`)
console.log()

const worst = [...rows].sort((a, b) => Math.abs(b.error) - Math.abs(a.error)).slice(0, WORST_ROWS)
table(
  ['WORST ROWS', 'CHIP', 'CUT', 'LINK', 'ENGINE', 'CONTEXT', 'MEASURED', 'PREDICTED', 'ERROR'],
  worst.map((row) => [
    row.model,
    row.chip,
    `${row.strategy} ${row.nodes}`,
    row.linkClass,
    row.input.engine,
    String(row.input.contextTokens),
    row.decodeTokensPerSecond.toFixed(1),
    row.predicted.toFixed(1),
    signed(row.error),
  ]),
)
