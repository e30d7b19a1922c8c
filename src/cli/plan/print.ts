/** A plan as a person reads it: the table first, then why, then what was not chosen and what would help. */
import { formatBytes } from '../../lib/quantity.ts'
import type { PlanItem, PlanReport } from '../../planner/report.ts'
import type { Terminal } from '../context.ts'
import { formatTable } from '../printers/table.ts'

const header = ['NAME', 'REPLICA', 'STRATEGY', 'RANK', 'NODE', 'LAYERS', 'NEED', 'ALLOCATABLE', 'TOKENS/S']
const wideHeader = [...header.slice(0, 7), 'WEIGHTS', 'KV', 'RUNTIME', 'ALLOCATABLE', 'GPU BUSY', 'TOKENS/S']

export function printPlan(terminal: Terminal, report: PlanReport, wide: boolean): void {
  const placed = report.items.filter((item) => item.schedulable)
  if (placed.length > 0)
    terminal.out(
      formatTable(
        wide ? wideHeader : header,
        placed.flatMap((item) => rowsOf(item, wide)),
      ),
    )
  const texts = report.items.map((item) => `${explain(item).join('\n')}\n`)
  terminal.out((placed.length > 0 ? '\n' : '') + texts.join('\n'))
}

function rowsOf(item: PlanItem, wide: boolean): string[][] {
  return item.replicas.flatMap((replica, r) =>
    replica.ranks.map((rank, i) => {
      const parts = [formatBytes(rank.parts.weights), formatBytes(rank.parts.kv), formatBytes(rank.parts.runtime)]
      const speed = i === 0 ? known(item.predicted?.decodeTokensPerSecond, 1) : ''
      return [
        item.name,
        String(r),
        `${replica.strategy ?? item.strategy ?? ''} ${replica.ranks.length}`.trim(),
        String(rank.rank),
        rank.node,
        `[${rank.layers[0]}, ${rank.layers[1]})`,
        formatBytes(rank.memoryBytes),
        ...(wide ? parts : []),
        formatBytes(rank.allocatableBytes),
        ...(wide ? [percent(rank.gpuBusyShare)] : []),
        speed,
      ]
    }),
  )
}

function explain(item: PlanItem): string[] {
  const lines = [headOf(item)]
  const list = (title: string, texts: readonly string[]) => {
    if (texts.length > 0) lines.push(`  ${title}`, ...texts.map((text) => `    ${text}`))
  }
  list('Why:', item.why)
  if (item.predicted !== undefined && item.schedulable) list('Predicted:', [predictedText(item.predicted)])
  if (item.dataReplicas !== undefined && item.dataReplicas > 0) list('Room:', [roomText(item.dataReplicas)])
  list(
    item.schedulable ? 'One node is not enough:' : 'Refused:',
    item.refusals
      .filter((r) => r.message !== item.message)
      .map((r) => `${r.node === '' ? '' : `${r.node}: `}${r.message}`),
  )
  list(
    'Not chosen:',
    item.alternatives.map((a) => `${a.strategy} ${a.degree}${speedOf(a)}: ${a.reason}`),
  )
  list('What would fit:', item.hints)
  return lines
}

function headOf({ name, schedulable, message = '' }: PlanItem): string {
  if (schedulable) return `${name}: fits.`
  // Without a shape nothing is known, least of all that it does not fit.
  const verdict = message.startsWith('ModelShapePending') ? 'cannot be planned yet' : 'does not fit'
  return `${name}: ${verdict}. ${message}`.trim()
}

/** A predicted 0 says that the chip is not in the table: nothing is known, least of all that it stands still. */
const isKnown = (value: number | undefined): value is number => value !== undefined && value > 0

const known = (value: number | undefined, digits: number): string =>
  isKnown(value) ? value.toFixed(digits) : '<unknown>'

const percent = (share: number | undefined): string =>
  share === undefined ? '<unknown>' : `${Math.round(share * 100)}%`

export const speedText = (tokensPerSecond: number | undefined): string => `${known(tokensPerSecond, 1)} tokens/s`

/** Most reasons name the speed themselves. */
const speedOf = ({ decodeTokensPerSecond, reason }: PlanItem['alternatives'][number]): string =>
  isKnown(decodeTokensPerSecond) && !reason.includes('tokens/s') ? ` (${speedText(decodeTokensPerSecond)})` : ''

const predictedText = (p: NonNullable<PlanItem['predicted']>) =>
  `${speedText(p.decodeTokensPerSecond)} one stream, ${known(p.aggregateTokensPerSecond, 1)} in all` +
  `${p.uncertainty === undefined ? '' : `, within ${percent(p.uncertainty)}`}; ` +
  `prompt ${known(p.prefillTokensPerSecond, 0)} tokens/s, first token after ${known(p.timeToFirstTokenSeconds, 1)} s at full context`

const roomText = (replicas: number): string =>
  `the nodes hold ${replicas} whole ${replicas === 1 ? 'replica' : 'replicas'} of it (Data), these included`
