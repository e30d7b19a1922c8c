/** What a link's entry becomes by what was found on it: news is written, noise is not. Pure. */
import type { EngineFigures, LinkFigures, LinkMeasurement } from '../../api/links.ts'
import type { NodeLink } from '../../api/node.ts'

type Measured = Extract<LinkMeasurement, { kind: 'Measured' }>

/** Once may be an agent that starts anew. */
const FAILURES_THAT_COUNT = 2
const REASON_CHARACTERS = 1000

/** A change under these, of the share and of the absolute value, is noise. */
const noise = {
  bandwidthGBps: { share: 0.15, least: 0 },
  latencyMicros: { share: 0.5, least: 200 },
  allReduceMicros: { share: 0.3, least: 100 },
  hopMicros: { share: 0.3, least: 500 },
} as const
type Figure = keyof typeof noise

/** The link with what was found, or the same object when that is nothing new. `failures`: in a row. */
export function withMeasurement(
  link: NodeLink,
  found: LinkMeasurement,
  failures: number,
  measuredAt: string,
): NodeLink {
  const { failure, ...plain } = link
  if (found.kind === 'Measured') {
    const figures = figuresOf(found)
    const isNews = failure !== undefined || differ(link, figures)
    return withEngine(isNews ? { ...plain, ...figures, measuredAt } : link, found, measuredAt)
  }
  if (found.kind === 'NotDone' || failures < FAILURES_THAT_COUNT || failure !== undefined) return link
  return { ...link, failure: found.message.slice(0, REASON_CHARACTERS) }
}

/** What was once measured through the engine stays until it is measured anew; without it, the link says why. */
function withEngine(link: NodeLink, { engine }: Measured, measuredAt: string): NodeLink {
  if (engine === undefined) return link
  const { notMeasured, ...plain } = link
  if (engine.kind === 'Measured') {
    const figures = engineFiguresOf(engine)
    return notMeasured === undefined && !differ(link, figures) ? link : { ...plain, ...figures, measuredAt }
  }
  const why = engine.message.slice(0, REASON_CHARACTERS)
  if (link.allReduceMicros !== undefined || why === notMeasured) return link
  return engine.kind === 'Failed' || notMeasured === undefined ? { ...link, notMeasured: why } : link
}

const figuresOf = ({ bytesPerSecond, latencyMicros }: LinkFigures) => ({
  bandwidthGBps: Number((bytesPerSecond / 1e9).toPrecision(3)),
  latencyMicros: Math.round(latencyMicros),
})

const engineFiguresOf = ({ allReduceMicros, hopMicros }: EngineFigures) => ({
  allReduceMicros: Math.round(allReduceMicros),
  hopMicros: Math.round(hopMicros),
})

const differ = (link: NodeLink, figures: Partial<Record<Figure, number>>): boolean =>
  Object.entries(figures).some(([figure, now]) => {
    const before = link[figure as Figure]
    const { share, least } = noise[figure as Figure]
    return before === undefined || Math.abs(now - before) > Math.max(least, share * before)
  })

/** `1.93 GB/s, 180 µs, all-reduce 402 µs, hop 900 µs`, as far as they are known. */
export const figuresText = ({ bandwidthGBps, latencyMicros, allReduceMicros, hopMicros }: NodeLink): string =>
  [
    ...(bandwidthGBps === undefined ? [] : [`${bandwidthGBps} GB/s`]),
    ...(latencyMicros === undefined ? [] : [`${latencyMicros} µs`]),
    ...(allReduceMicros === undefined ? [] : [`all-reduce ${allReduceMicros} µs`]),
    ...(hopMicros === undefined ? [] : [`hop ${hopMicros} µs`]),
  ].join(', ')
