/**
 * How far may a predicted decode rate be off? A share: nine of ten measured rows lie within it (a test holds that on
 * published rows). Node and link are taken to err independently, each in proportion to its share of the time.
 */
import type { CostInput, Layout, NodeSpeed, SpeedBasis } from './cost.ts'
import { bitsOf, decodeSeconds } from './cost.ts'
import type { LinkBasis } from './placement/links.ts'

const nodeShare: Readonly<Record<SpeedBasis, number>> = { Measured: 0.13, Listed: 0.2, Class: 0.4, Unknown: 1 }
/** Older chips below 5 bits and llama.cpp's many kernels: +25 to +68 % was seen (facts/performance.md §5). */
const LOW_BITS_OF_OLD_CHIPS = 0.4
const LLAMACPP = 0.2
/** Of the time that a group waits for its links. */
const linkShare: Readonly<Record<LinkBasis, number>> = { Measured: 0.1, Typical: 0.3, Inferred: 0.5, Assumed: 1 }
/** What observation cannot remove: load, heat, prompts of other lengths. */
const OBSERVED = 0.05
/** So many samples halve what the model does not know. */
const HALVING_SAMPLES = 5

/** `link`: where the figures of the slowest link are from; undefined: the group uses none. */
export function uncertaintyOf(input: CostInput, layout: Layout, link: LinkBasis | undefined, samples: number): number {
  const total = decodeSeconds(input, layout)
  const waiting = total - nodesSeconds(input, layout)
  const nodes =
    layout.strategy === 'Single'
      ? [layout.node]
      : layout.strategy === 'Tensor'
        ? layout.nodes
        : layout.stages.map((s) => s.node)
  const ofNodes = Math.max(...nodes.map((node) => nodeUncertainty(input, node))) * (1 - waiting / total)
  const ofLinks = link === undefined ? 0 : (linkShare[link] * waiting) / total
  const model = Math.hypot(ofNodes, ofLinks)
  const left = HALVING_SAMPLES / (HALVING_SAMPLES + samples)
  return Math.round(100 * (samples === 0 ? model : OBSERVED + (model - OBSERVED) * left)) / 100
}

function nodeUncertainty({ engine, shape }: CostInput, node: NodeSpeed): number {
  const own = nodeShare[node.basis]
  if (bitsOf(shape) < 5 && node.old) return Math.max(own, LOW_BITS_OF_OLD_CHIPS)
  return engine === 'llamacpp' ? Math.max(own, LLAMACPP) : own
}

/** The part of a decode step that is not spent on links. */
function nodesSeconds(input: CostInput, layout: Layout): number {
  switch (layout.strategy) {
    case 'Single':
      return decodeSeconds(input, layout)
    case 'Tensor': {
      const free = { allReduceSeconds: 0, growthPerRank: 0, bytesPerSecond: Infinity }
      return decodeSeconds(input, { ...layout, link: free })
    }
    case 'Pipeline':
      return decodeSeconds(input, { ...layout, hopSeconds: [] })
  }
}
