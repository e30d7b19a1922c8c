/** A plan as a person reads it: the table first, then why, then what was not chosen and what would help. */
import { formatBytes } from '../lib/quantity.ts'
import type { PlanItem, PlanReport } from '../planner/report.ts'
import type { Terminal } from './context.ts'
import { formatTable } from './table.ts'

const header = ['NAME', 'REPLICA', 'STRATEGY', 'RANK', 'NODE', 'LAYERS', 'NEED', 'ALLOCATABLE', 'TOKENS/S']
const wideHeader = [...header.slice(0, 7), 'WEIGHTS', 'KV', 'RUNTIME', ...header.slice(7)]

export function printPlan(terminal: Terminal, report: PlanReport, wide: boolean): void {
  const placed = report.items.filter((item) => item.schedulable)
  if (placed.length > 0)
    terminal.out(
      formatTable(
        wide ? wideHeader : header,
        placed.flatMap((item) => rowsOf(item, wide)),
      ),
    )
  for (const item of report.items) terminal.out(`\n${explain(item).join('\n')}\n`)
}

function rowsOf(item: PlanItem, wide: boolean): string[][] {
  return item.replicas.flatMap((replica, r) =>
    replica.ranks.map((rank, i) => {
      const parts = [formatBytes(rank.parts.weights), formatBytes(rank.parts.kv), formatBytes(rank.parts.runtime)]
      const speed = i === 0 ? (item.predicted?.decodeTokensPerSecond.toFixed(1) ?? '<unknown>') : ''
      return [
        item.name,
        String(r),
        `${item.strategy ?? ''} ${item.degree ?? ''}`.trim(),
        String(rank.rank),
        rank.node,
        `[${rank.layers[0]}, ${rank.layers[1]})`,
        formatBytes(rank.memoryBytes),
        ...(wide ? parts : []),
        formatBytes(rank.allocatableBytes),
        speed,
      ]
    }),
  )
}

function explain(item: PlanItem): string[] {
  const lines = [item.schedulable ? `${item.name}: fits.` : `${item.name}: does not fit. ${item.message ?? ''}`.trim()]
  const list = (title: string, texts: readonly string[]) => {
    if (texts.length > 0) lines.push(`  ${title}`, ...texts.map((text) => `    ${text}`))
  }
  list('Why:', item.why)
  if (item.predicted !== undefined && item.schedulable) list('Predicted:', [predictedText(item.predicted)])
  list(
    'Refused:',
    item.refusals.map((r) => `${r.node === '' ? '' : `${r.node}: `}${r.message}`),
  )
  list(
    'Not chosen:',
    item.alternatives.map(
      (a) =>
        `${a.strategy} ${a.degree}${a.decodeTokensPerSecond === undefined ? '' : ` (${a.decodeTokensPerSecond.toFixed(1)} tokens/s)`}: ${a.reason}`,
    ),
  )
  list('What would fit:', item.hints)
  return lines
}

const predictedText = (p: NonNullable<PlanItem['predicted']>) =>
  `${p.decodeTokensPerSecond.toFixed(1)} tokens/s one stream, ${p.aggregateTokensPerSecond.toFixed(1)} in all; ` +
  `prompt ${p.prefillTokensPerSecond.toFixed(0)} tokens/s, first token after ${p.timeToFirstTokenSeconds.toFixed(1)} s at full context`
