/**
 * Published measurements against the cost model: test/fixtures/throughput-train.csv read into layouts, and how far each
 * prediction is off. The rows say what ran, so nothing here chooses or tunes anything.
 */
import { readFileSync } from 'node:fs'
import { LLAMACPP_RPC_HOP_MICROS, findLinkClass, linkClasses } from '../../../src/api/hardware.ts'
import type { ModelShape } from '../../../src/api/model.ts'
import type { Engine, GroupStrategy } from '../../../src/api/words.ts'
import type { CostInput, Layout, LinkSpeed } from '../../../src/planner/cost.ts'
import { nodeSpeed, predict } from '../../../src/planner/cost.ts'

/** Runtimes of 2024 paid so much at each stage boundary (hardware.json, runtimeHopOverrides): only old rows name it. */
const EXO_2024_HOP_MICROS = 10_000
/** Contexts that are blank or 0 are short chats (facts/performance.md §4.3). */
const SHORT_CONTEXT_TOKENS = 64

export interface Measured {
  readonly model: string
  readonly chip: string
  readonly strategy: GroupStrategy
  readonly nodes: number
  readonly linkClass: string
  readonly input: CostInput
  readonly layout: Layout
  readonly decodeTokensPerSecond: number
  readonly prefillTokensPerSecond: number | undefined
}

export interface Scored extends Measured {
  readonly predicted: number
  /** predicted ÷ measured − 1 */
  readonly error: number
  /** The same for prefill, where it was measured. */
  readonly prefillError: number | undefined
}

export function readMeasured(file: URL): readonly Measured[] {
  const [header = '', ...lines] = readFileSync(file, 'utf8').trim().split('\n')
  const names = header.split(',')
  return lines.map((line) => {
    const cells = line.split(',')
    return measuredOf(Object.fromEntries(names.map((name, i) => [name, cells[i] ?? ''])))
  })
}

type Cells = Readonly<Record<string, string>>

function measuredOf(row: Cells): Measured {
  const text = (name: string) => row[name] ?? ''
  const number = (name: string) => Number(text(name))
  const engine = text('engine') as Engine
  const strategy = text('strategy') as GroupStrategy
  const shape = shapeOf(row)
  return {
    model: text('model'),
    chip: text('chip'),
    strategy,
    nodes: number('nodes'),
    linkClass: text('linkClass'),
    input: { shape, engine, contextTokens: number('contextTokens') || SHORT_CONTEXT_TOKENS, concurrency: 1 },
    layout: layoutOf(row, strategy, shape.layers, engine),
    decodeTokensPerSecond: number('decodeTps'),
    prefillTokensPerSecond: text('prefillTps') === '' ? undefined : number('prefillTps'),
  }
}

function shapeOf(row: Cells): ModelShape {
  const number = (name: string) => Number(row[name])
  const experts = row['experts'] === '' ? undefined : { count: number('experts'), perToken: number('expertsPerToken') }
  return {
    architecture: row['architecture'] ?? '',
    layers: number('layers'),
    hiddenSize: number('hiddenSize'),
    ...(row['intermediateSize'] === '' ? {} : { intermediateSize: number('intermediateSize') }),
    attentionHeads: number('attentionHeads'),
    kvHeads: number('kvHeads'),
    headDim: number('headDim'),
    vocabSize: number('vocabSize'),
    tiedEmbeddings: row['tied'] === 'true',
    parameters: number('paramsB') * 1e9,
    activeParameters: number('activeParamsB') * 1e9,
    weightBytes: number('weightGB') * 1e9,
    quantization: { bits: number('bits'), groupSize: number('groupSize') },
    ...(experts === undefined ? {} : { experts }),
    ...(row['kind'] === 'mla' ? { attention: 'Mla' as const } : {}),
  }
}

function layoutOf(row: Cells, strategy: GroupStrategy, layers: number, engine: Engine): Layout {
  const node = nodeSpeed(
    { chip: row['chip'] ?? '', gpuCores: Number(row['gpuCores']) },
    Number(row['memoryGiB']) * 2 ** 30,
  )
  const degree = Number(row['nodes'])
  if (strategy === 'Single') return { strategy, node }
  const { link, hopSeconds } = linkOf(row['linkClass'] ?? '', engine)
  if (strategy === 'Tensor') return { strategy, nodes: Array.from({ length: degree }, () => node), link }
  const stages = Array.from({ length: degree }, (_, i) => ({
    node,
    layers: Math.floor(layers / degree) + (i < layers % degree ? 1 : 0),
  }))
  return { strategy, stages, hopSeconds: stages.slice(1).map(() => hopSeconds) }
}

function linkOf(className: string, engine: Engine): { readonly link: LinkSpeed; readonly hopSeconds: number } {
  const old = className === 'tb5-tcp-exo0'
  const found = linkClasses.find((l) => l.class === className) ?? findLinkClass('Thunderbolt5', 'TCP')
  const hopMicros = old ? EXO_2024_HOP_MICROS : engine === 'llamacpp' ? LLAMACPP_RPC_HOP_MICROS : found.hopMicros
  return {
    link: {
      allReduceSeconds: found.allReduceMicros * 1e-6,
      growthPerRank: found.allReduceGrowthPerRank,
      bytesPerSecond: found.bandwidthGBps * 1e9,
    },
    hopSeconds: hopMicros * 1e-6,
  }
}

export const score = (rows: readonly Measured[]): readonly Scored[] =>
  rows.map((row) => {
    const { decodeTokensPerSecond: predicted, prefillTokensPerSecond } = predict(row.input, row.layout)
    const prefillMeasured = row.prefillTokensPerSecond
    return {
      ...row,
      predicted,
      error: predicted / row.decodeTokensPerSecond - 1,
      prefillError: prefillMeasured === undefined ? undefined : prefillTokensPerSecond / prefillMeasured - 1,
    }
  })

export interface Summary {
  readonly of: string
  readonly rows: number
  readonly mean: number
  readonly median: number
  /** Nine of ten rows are off by no more. */
  readonly p90: number
}

/** How far off, as shares of what was measured, without regard to the direction. */
export function summary(of: string, errors: readonly number[]): Summary {
  const sorted = errors.map(Math.abs).sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN
  const mean = sorted.reduce((sum, e) => sum + e, 0) / sorted.length
  const middle = sorted.slice(Math.ceil(sorted.length / 2) - 1, Math.floor(sorted.length / 2) + 1)
  const median = middle.reduce((sum, e) => sum + e, 0) / middle.length
  return { of, rows: sorted.length, mean, median, p90: at(0.9) }
}

export interface Contest {
  readonly of: string
  readonly measuredBest: string
  readonly predictedBest: string
  /** The predicted best is the measured best. */
  readonly hit: boolean
}

/** Rows that differ in nothing but the cut: which is the fastest? */
export function contests(rows: readonly Scored[]): readonly Contest[] {
  const groups = new Map<string, Scored[]>()
  for (const row of rows) {
    const key = `${row.model} on ${row.chip}, ${row.input.engine}, ${row.input.contextTokens} tokens`
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  const cutOf = (row: Scored) => `${row.strategy} ${row.nodes}`
  const fastest = (group: readonly Scored[], rate: (row: Scored) => number) =>
    cutOf(group.reduce((best, row) => (rate(row) > rate(best) ? row : best)))
  return [...groups]
    .filter(([, group]) => group.length > 1)
    .map(([of, group]) => {
      const measuredBest = fastest(group, (row) => row.decodeTokensPerSecond)
      const predictedBest = fastest(group, (row) => row.predicted)
      return { of, measuredBest, predictedBest, hit: measuredBest === predictedBest }
    })
}
