/**
 * How many layers each stage of a pipeline gets. Latency minimises the sum of stage times, so the fastest nodes fill up
 * first; Throughput minimises the slowest stage. Between equally good splits the more even one wins. Exact: by hand-out
 * where layers are alike, else by dynamic programming over (stage, layers so far) in a given order of nodes.
 */
type Objective = 'Latency' | 'Throughput'

export interface PartitionInput {
  readonly layers: number
  /** Seconds per layer of each stage's node. */
  readonly layerSeconds: readonly number[]
  /** Does stage `stage` hold the layers [start, end)? Never true again once false as `end` grows. */
  readonly fits: (stage: number, start: number, end: number) => boolean
  readonly objective: Objective
}

/** Layers per stage, first stage first, each at least 1; undefined: no split fits in this order. */
export function partition({ layers, layerSeconds, fits, objective }: PartitionInput): readonly number[] | undefined {
  const stages = layerSeconds.length
  const width = layers + 1
  // At [s, j]: the first s stages hold the first j layers. Whole nanoseconds: equal nodes must compare equal.
  const cost = new Float64Array((stages + 1) * width).fill(Infinity)
  // Sum over stages of layers² × time: smallest when equally fast stages are equally long.
  const unevenness = new Float64Array((stages + 1) * width)
  const taken = new Int32Array((stages + 1) * width)
  cost[0] = 0
  for (let stage = 0; stage < stages; stage += 1) {
    const nanos = Math.round((layerSeconds[stage] ?? 0) * 1e9)
    const latest = layers - (stages - stage - 1)
    for (let start = stage; start < latest; start += 1) {
      const from = stage * width + start
      const base = cost[from] ?? Infinity
      if (base === Infinity) continue
      for (let end = start + 1; end <= latest && fits(stage, start, end); end += 1) {
        const count = end - start
        const to = from - start + width + end
        const total = objective === 'Latency' ? base + count * nanos : Math.max(base, count * nanos)
        const old = cost[to] ?? Infinity
        if (total > old) continue
        const uneven = (unevenness[from] ?? 0) + count * count * nanos
        if (total === old && uneven >= (unevenness[to] ?? 0)) continue
        cost[to] = total
        unevenness[to] = uneven
        taken[to] = count
      }
    }
  }
  if (cost[stages * width + layers] === Infinity) return undefined
  const counts: number[] = []
  for (let stage = stages, end = layers; stage > 0; stage -= 1) {
    const count = taken[stage * width + end] ?? 0
    counts.unshift(count)
    end -= count
  }
  return counts
}

export interface HandOut {
  readonly layers: number
  readonly layerSeconds: readonly number[]
  /** The most layers that each node holds, wherever they are from. */
  readonly caps: readonly number[]
}

/**
 * Layers per node when all layers need the same, in any order of nodes; each at least 1, undefined: they do not fit.
 * With caps that are too generous, a bound on what any split can reach.
 */
export function handOut(input: HandOut, objective: Objective): readonly number[] | undefined {
  const room = input.caps.reduce((sum, cap) => sum + cap, 0)
  if (room < input.layers || input.caps.length > input.layers || input.caps.some((cap) => cap < 1)) return undefined
  return objective === 'Latency' ? fillFastest(input) : levelStages(input)
}

function fillFastest({ layers, layerSeconds, caps }: HandOut): readonly number[] {
  const counts = caps.map(() => 1)
  const order = [...caps.keys()].sort((a, b) => (layerSeconds[a] ?? 0) - (layerSeconds[b] ?? 0))
  let rest = layers - counts.length
  for (let i = 0; i < order.length && rest > 0;) {
    const speed = layerSeconds[order[i] ?? 0]
    const start = i
    while (i < order.length && layerSeconds[order[i] ?? 0] === speed) i += 1
    rest = spreadEvenly(order.slice(start, i), caps, counts, rest)
  }
  return counts
}

/** Gives to the nodes with the fewest layers first, up to their caps; returns what is left over. */
function spreadEvenly(among: readonly number[], caps: readonly number[], counts: number[], amount: number): number {
  let rest = amount
  let open = among
  while (rest > 0) {
    open = open.filter((i) => (counts[i] ?? 0) < (caps[i] ?? 0))
    if (open.length === 0) return rest
    const least = Math.min(...open.map((i) => (caps[i] ?? 0) - (counts[i] ?? 0)))
    const each = Math.min(least, Math.floor(rest / open.length))
    for (const i of each > 0 ? open : open.slice(0, rest)) {
      counts[i] = (counts[i] ?? 0) + Math.max(1, each)
      rest -= Math.max(1, each)
    }
  }
  return rest
}

/** From below the level that water would find, layer by layer to the node that then takes the least time. */
function levelStages({ layers, layerSeconds, caps }: HandOut): readonly number[] {
  const level = layers / layerSeconds.reduce((sum, seconds) => sum + 1 / seconds, 0)
  const counts = caps.map((cap, i) => Math.max(1, Math.min(cap, Math.floor(level / (layerSeconds[i] ?? Infinity)))))
  for (let sum = counts.reduce((a, b) => a + b, 0); sum !== layers;) {
    // The floor of 1 may have given out too much: it is taken back where it took the longest.
    const by = sum < layers ? 1 : -1
    let chosen = -1
    let chosenSeconds = Infinity
    for (let i = 0; i < counts.length; i += 1) {
      const count = counts[i] ?? 0
      if (by > 0 ? count >= (caps[i] ?? 0) : count <= 1) continue
      const seconds = (by > 0 ? count + 1 : -count) * (layerSeconds[i] ?? 0)
      if (seconds < chosenSeconds) [chosen, chosenSeconds] = [i, seconds]
    }
    counts[chosen] = (counts[chosen] ?? 0) + by
    sum += by
  }
  return counts
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
    const end = lastEnd(start, layers - (stages - stage - 1), (e) => fits(stage, start, e))
    if (end === start) return undefined
    counts.push(end - start)
    start = end
  }
  return start === layers ? counts : undefined
}

/** The last end in (start, latest] for which `fits` holds, by bisection; `start` when it holds for none. */
export function lastEnd(start: number, latest: number, fits: (end: number) => boolean): number {
  let [end, beyond] = [start, latest + 1]
  while (beyond - end > 1) {
    const middle = Math.floor((end + beyond) / 2)
    if (fits(middle)) end = middle
    else beyond = middle
  }
  return end
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
