/** How fast bytes came, seen where they arrive: what waits in the sender's buffers has not been carried. Pure. */

export interface Arrival {
  readonly atMs: number
  /** All that came until then. */
  readonly bytes: number
}

/** Of the time at the beginning that does not count: connections start slowly, and gates let a first burst through. */
const START_SHARE = 0.25

/** Bytes per second; undefined: too little came to say. */
export function rateOf(arrivals: readonly Arrival[]): number | undefined {
  const [first, last] = [arrivals[0], arrivals.at(-1)]
  if (first === undefined || last === undefined) return undefined
  const fromMs = first.atMs + (last.atMs - first.atMs) * START_SHARE
  const begin = arrivals.find(({ atMs }) => atMs >= fromMs) ?? first
  const seconds = (last.atMs - begin.atMs) / 1000
  return seconds > 0 ? (last.bytes - begin.bytes) / seconds : undefined
}

/** A quarter are smaller: pauses of either process are no property of the link, and one lucky value is none either. */
export function lowerQuartile(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 4)]
}
