/**
 * How many layers each stage of a pipeline gets, in a given order of nodes. Exact: dynamic programming over
 * (stage, layers so far). Latency minimises the sum of stage times, so the fastest nodes fill up first; Throughput
 * minimises the slowest stage. Between equally good splits the more even one wins.
 */
export interface PartitionInput {
  readonly layers: number
  /** Seconds per layer of each stage's node. */
  readonly layerSeconds: readonly number[]
  /** Does stage `stage` hold the layers [start, end)? Never true again once false as `end` grows. */
  readonly fits: (stage: number, start: number, end: number) => boolean
  readonly objective: 'Latency' | 'Throughput'
}

interface Best {
  /** Whole nanoseconds: equal nodes must compare equal. */
  readonly cost: number
  /** Sum over stages of layers² × time: smallest when equally fast stages are equally long. */
  readonly unevenness: number
  /** Layers of the last stage. */
  readonly taken: number
}

/** Layers per stage, first stage first, each at least 1; undefined: no split fits in this order. */
export function partition({ layers, layerSeconds, fits, objective }: PartitionInput): readonly number[] | undefined {
  const nanos = layerSeconds.map((s) => Math.round(s * 1e9))
  // table[s][j]: the first s stages hold the first j layers.
  const table: (Best | undefined)[][] = [[{ cost: 0, unevenness: 0, taken: 0 }]]
  for (const [stage, time] of nanos.entries()) {
    const before = table[stage] ?? []
    const row: (Best | undefined)[] = []
    const left = nanos.length - stage - 1
    for (let start = stage; start < layers - left; start += 1) {
      const base = before[start]
      if (base === undefined) continue
      for (let end = start + 1; end <= layers - left && fits(stage, start, end); end += 1) {
        const taken = end - start
        const cost = objective === 'Latency' ? base.cost + taken * time : Math.max(base.cost, taken * time)
        const unevenness = base.unevenness + taken * taken * time
        const old = row[end]
        if (old === undefined || cost < old.cost || (cost === old.cost && unevenness < old.unevenness))
          row[end] = { cost, unevenness, taken }
      }
    }
    table.push(row)
  }
  return split(table, nanos.length, layers)
}

function split(
  table: readonly (readonly (Best | undefined)[])[],
  stages: number,
  layers: number,
): readonly number[] | undefined {
  const counts: number[] = []
  let end = layers
  for (let s = stages; s > 0; s -= 1) {
    const best = table[s]?.[end]
    if (best === undefined) return undefined
    counts.unshift(best.taken)
    end -= best.taken
  }
  return end === 0 ? counts : undefined
}

/**
 * Layers per stage when each stage takes as many as it can; undefined: it does not work out. For layers of equal size
 * this is exact (no split fits) and much cheaper than the table above.
 */
export function greedySplit(
  layers: number,
  stages: number,
  fits: PartitionInput['fits'],
): readonly number[] | undefined {
  const counts: number[] = []
  let start = 0
  for (let stage = 0; stage < stages; stage += 1) {
    // At least one layer must be left for each later stage.
    const latest = layers - (stages - stage - 1)
    // The last end that fits, by bisection.
    let [end, beyond] = [start, latest + 1]
    while (beyond - end > 1) {
      const middle = Math.floor((end + beyond) / 2)
      if (fits(stage, start, middle)) end = middle
      else beyond = middle
    }
    if (end === start) return undefined
    counts.push(end - start)
    start = end
  }
  return start === layers ? counts : undefined
}

/** Half-open layer ranges of a split. */
export function stagesOf(counts: readonly number[]): readonly (readonly [number, number])[] {
  let start = 0
  return counts.map((count) => {
    const stage = [start, start + count] as const
    start += count
    return stage
  })
}
